#include "store/kv_store.h"

#include <algorithm>
#include <cstring>

#include "base/math.h"

namespace headroom::store {
namespace {

// First of the positions, sinks aside, that the query at position `tokens` may still want to see.
uint32_t WindowBegin(const LaneSpec& spec, uint32_t tokens) {
  if (spec.left == kUnlimited) return 0;
  return std::max(spec.sinks, tokens > spec.left ? tokens - spec.left : 0u);
}

uint32_t SinkEnd(const LaneSpec& spec, uint32_t tokens) {
  return spec.left == kUnlimited ? 0 : std::min(tokens, spec.sinks);
}

// Row of a position behind the exact ones.
uint32_t RowOf(const LaneSpec& spec, uint32_t position) {
  const uint32_t row = position - spec.exact_rows;
  if (row < spec.capacity) return row;
  const uint32_t sinks = std::max(spec.sinks, spec.exact_rows) - spec.exact_rows;
  return sinks + (row - sinks) % (spec.capacity - sinks);
}

uint32_t BodyRows(const LaneSpec& spec, uint32_t tokens) {
  return tokens <= spec.exact_rows ? 0 : std::min(tokens - spec.exact_rows, spec.capacity);
}

RowSlot SlotAt(const LaneArray& array, std::byte* data, std::byte* meta, uint64_t row) {
  if (array.width == 0) return {};
  return {array.codec, array.width, data + row * RowDataBytes(array.codec, array.width),
          reinterpret_cast<uint16_t*>(meta + row * RowMetaBytes(array.codec, array.width))};
}

LaneArray Exact(const LaneArray& array) { return {RowCodec::kF16, array.width}; }

RowArray Rows(const LaneArray& array, const std::byte* data, const std::byte* meta) {
  if (array.width == 0) return {};
  return {array.codec, array.width, data, reinterpret_cast<const uint16_t*>(meta)};
}

}  // namespace

KvStore::KvStore(std::vector<LayerSpec> layers, std::span<std::byte> memory) : memory_(memory) {
  Build(std::move(layers));
  states_before_ = states_;
  ClearPositions();
}

void KvStore::Build(std::vector<LayerSpec> layers) {
  layers_ = std::move(layers);
  groups_.assign(layers_.size(), {});
  uint64_t end = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    uint32_t head = 0;
    for (const LaneGroup& from : layers_[i].groups) {
      groups_[i].push_back(MakeGroup(from, head, &end));
      groups_[i].back().first_state = static_cast<uint32_t>(states_.size());
      states_.resize(states_.size() + from.lanes);
      head += from.lanes;
    }
  }
}

KvStore::Group KvStore::MakeGroup(const LaneGroup& from, uint32_t first_head, uint64_t* end) const {
  Group group{from.spec, LaneLayout(from.spec), 0, *end, first_head, from.lanes, 0, 0};
  group.positions = group.lanes + from.lanes * group.layout.bytes;
  *end = group.positions;
  if (from.spec.ring) *end += RoundUp(from.spec.capacity * sizeof(int32_t), 64);
  return group;
}

void KvStore::ClearPositions() {
  for (auto& groups : groups_) {
    for (Group& group : groups) {
      if (group.spec.ring) std::fill_n(Positions(group), group.spec.capacity, -1);
    }
  }
}

const std::vector<KvStore::Group>& KvStore::GroupsOf(size_t layer) const {
  while (layers_[layer].source >= 0) layer = static_cast<size_t>(layers_[layer].source);
  return groups_[layer];
}

const KvStore::Group& KvStore::GroupOf(size_t layer, uint32_t kv_head) const {
  const auto& groups = GroupsOf(layer);
  size_t i = 0;
  while (kv_head >= groups[i].first_head + groups[i].count) ++i;
  return groups[i];
}

std::byte* KvStore::Lane(const Group& group, uint32_t kv_head) const {
  return memory_.data() + group.lanes + (kv_head - group.first_head) * group.layout.bytes;
}

int32_t* KvStore::Positions(const Group& group) const {
  return reinterpret_cast<int32_t*>(memory_.data() + group.positions);
}

void KvStore::BeginAppend(uint32_t position, uint32_t count) {
  for (auto& groups : groups_) {
    for (Group& group : groups) {
      if (group.spec.voted()) MakeRoom(group, position, count);
      if (!group.spec.ring) continue;
      if (group.spec.mean) FoldRows(group, position, count);
      int32_t* positions = Positions(group);
      for (uint32_t p = std::max(position, group.spec.exact_rows); p < position + count; ++p) {
        positions[RowOf(group.spec, p)] = static_cast<int32_t>(p);
      }
    }
  }
}

RowPlace KvStore::Place(size_t layer, uint32_t kv_head, uint32_t position) const {
  const Group& group = GroupOf(layer, kv_head);
  const LaneSpec& spec = group.spec;
  const LaneLayout& at = group.layout;
  std::byte* lane = Lane(group, kv_head);
  if (position < spec.exact_rows) {
    return {SlotAt(Exact(spec.key), lane + at.exact_key, nullptr, position),
            SlotAt(Exact(spec.tail), lane + at.exact_tail, nullptr, position),
            SlotAt(Exact(spec.value), lane + at.exact_value, nullptr, position)};
  }
  uint32_t row = RowOf(spec, position);
  if (spec.voted()) {
    const LaneState& state = StateOf(group, kv_head);
    row = state.append_row + (position - std::max(state.append_begin, spec.exact_rows));
  }
  return PlaceRow(group, kv_head, row);
}

RowPlace KvStore::PlaceRow(const Group& group, uint32_t kv_head, uint32_t row) const {
  const LaneSpec& spec = group.spec;
  const LaneLayout& at = group.layout;
  std::byte* lane = Lane(group, kv_head);
  return {SlotAt(spec.key, lane + at.key, lane + at.key_meta, row),
          SlotAt(spec.tail, lane + at.tail, lane + at.tail_meta, row),
          SlotAt(spec.value, lane + at.value, lane + at.value_meta, row)};
}

uint32_t KvStore::View(size_t layer, const LaneHeads& heads, uint32_t tokens,
                       LaneView segments[kMostSegments]) const {
  const Group& keys = GroupOf(layer, heads.key);
  const Group& tails = GroupOf(layer, heads.tail);
  const Group& values = GroupOf(layer, heads.value);
  const std::byte* key = Lane(keys, heads.key);
  const std::byte* tail = Lane(tails, heads.tail);
  const std::byte* value = Lane(values, heads.value);
  const LaneSpec& spec = keys.spec;
  uint32_t count = 0;
  if (spec.exact_rows != 0) {
    LaneView& view = segments[count++] = {};
    view.keys = Rows(Exact(spec.key), key + keys.layout.exact_key, nullptr);
    view.key_tail = Rows(Exact(tails.spec.tail), tail + tails.layout.exact_tail, nullptr);
    view.values = Rows(Exact(values.spec.value), value + values.layout.exact_value, nullptr);
    view.rows = std::min(tokens, spec.exact_rows);
  }
  if (spec.mean && StateOf(keys, heads.key).gone != 0) {
    LaneView& view = segments[count++] = {};
    view.keys = Rows({RowCodec::kF32, spec.key.width}, key + keys.layout.mean_key, nullptr);
    view.key_tail =
        Rows({RowCodec::kF32, tails.spec.tail.width}, tail + tails.layout.mean_tail, nullptr);
    view.values =
        Rows({RowCodec::kF32, values.spec.value.width}, value + values.layout.mean_value, nullptr);
    view.bias = reinterpret_cast<const float*>(key + keys.layout.mean_bias);
    view.rows = 1;
  }
  if (count == 0 || BodyRows(spec, tokens) != 0) {
    LaneView& view = segments[count++] = {};
    view.keys = Rows(spec.key, key + keys.layout.key, key + keys.layout.key_meta);
    view.key_tail = Rows(tails.spec.tail, tail + tails.layout.tail, tail + tails.layout.tail_meta);
    view.values =
        Rows(values.spec.value, value + values.layout.value, value + values.layout.value_meta);
    view.rows = BodyRows(spec, tokens);
    view.first_position = static_cast<int32_t>(spec.exact_rows);
    view.positions = spec.ring ? Positions(keys) : nullptr;
    if (spec.voted()) {
      view.rows = StateOf(keys, heads.key).rows;
      view.positions = reinterpret_cast<const int32_t*>(key + keys.layout.positions);
    }
  }
  return count;
}

bool KvStore::CanRewind(uint32_t tokens, uint32_t position) const {
  if (position == 0 || position >= tokens) return position <= tokens;
  for (const auto& groups : groups_) {
    for (const Group& group : groups) {
      const uint32_t begin = WindowBegin(group.spec, position);
      if (begin < group.kept_from) return false;
      for (uint32_t i = 0; group.spec.voted() && i < group.count; ++i) {
        if (StateOf(group, group.first_head + i).thinned_at > position) return false;
      }
      if (!group.spec.ring) continue;
      const int32_t* positions = Positions(group);
      for (uint32_t p = std::max(begin, group.spec.exact_rows); p < position; ++p) {
        if (positions[RowOf(group.spec, p)] != static_cast<int32_t>(p)) return false;
      }
    }
  }
  return true;
}

void KvStore::Rewind(uint32_t tokens, uint32_t position) {
  for (auto& groups : groups_) {
    for (Group& group : groups) {
      if (position == 0) group.kept_from = 0;
      for (uint32_t i = 0; i < group.count; ++i) {
        const uint32_t head = group.first_head + i;
        LaneState& state = StateOf(group, head);
        if (position == 0) state = {};
        const auto* kept =
            reinterpret_cast<const int32_t*>(Lane(group, head) + group.layout.positions);
        while (state.rows > 0 && kept[state.rows - 1] >= static_cast<int32_t>(position)) {
          --state.rows;
        }
        state.append_begin = std::min(state.append_begin, position);
        state.append_row = std::min(state.append_row, state.rows);
      }
      if (!group.spec.ring) continue;
      int32_t* positions = Positions(group);
      const uint32_t rows = BodyRows(group.spec, tokens);
      for (uint32_t row = 0; row < rows; ++row) {
        if (positions[row] >= static_cast<int32_t>(position)) positions[row] = -1;
      }
    }
  }
}

// One lane's kept positions, each range cut where the lane's arrays end or a ring wraps.
bool KvStore::VisitLane(const Group& group, uint32_t head, uint32_t tokens,
                        bool (*visit)(void*, std::span<std::byte>), void* context) const {
  std::byte* lane = Lane(group, head);
  const LaneSpec& spec = group.spec;
  const LaneLayout& at = group.layout;
  auto visit_array = [&](const LaneArray& array, uint64_t data, uint64_t meta, uint64_t row,
                         uint64_t count) {
    const uint64_t data_bytes = RowDataBytes(array.codec, array.width);
    const uint64_t meta_bytes = RowMetaBytes(array.codec, array.width);
    return (data_bytes == 0 ||
            visit(context, {lane + data + row * data_bytes, count * data_bytes})) &&
           (meta_bytes == 0 ||
            visit(context, {lane + meta + row * meta_bytes, count * meta_bytes}));
  };
  auto visit_range = [&](uint32_t begin, uint32_t end) {
    for (uint32_t count; begin < end; begin += count) {
      const bool exact = begin < spec.exact_rows;
      const uint32_t row = exact ? begin : RowOf(spec, begin);
      count = std::min(end - begin, (exact ? spec.exact_rows : spec.capacity) - row);
      const bool more = exact ? visit_array(Exact(spec.key), at.exact_key, 0, row, count) &&
                                    visit_array(Exact(spec.tail), at.exact_tail, 0, row, count) &&
                                    visit_array(Exact(spec.value), at.exact_value, 0, row, count)
                              : visit_array(spec.key, at.key, at.key_meta, row, count) &&
                                    visit_array(spec.tail, at.tail, at.tail_meta, row, count) &&
                                    visit_array(spec.value, at.value, at.value_meta, row, count);
      if (!more) return false;
    }
    return true;
  };
  if (spec.mean) {  // all that has not gone into the mean is seen, whatever the window
    const uint64_t rows = spec.capacity;
    auto* positions = reinterpret_cast<std::byte*>(Positions(group));
    return visit_range(0, std::min(tokens, spec.exact_rows)) &&
           visit_array(spec.key, at.key, at.key_meta, 0, rows) &&
           visit_array(spec.tail, at.tail, at.tail_meta, 0, rows) &&
           visit_array(spec.value, at.value, at.value_meta, 0, rows) &&
           visit(context, {lane + at.mean_key, at.bytes - at.mean_key}) &&
           visit(context, {positions, rows * sizeof(int32_t)});
  }
  if (!spec.voted()) {
    return visit_range(0, SinkEnd(spec, tokens)) && visit_range(WindowBegin(spec, tokens), tokens);
  }
  const uint64_t rows = StateOf(group, head).rows;
  return visit_range(0, std::min(tokens, spec.exact_rows)) &&
         visit_array(spec.key, at.key, at.key_meta, 0, rows) &&
         visit_array(spec.tail, at.tail, at.tail_meta, 0, rows) &&
         visit_array(spec.value, at.value, at.value_meta, 0, rows) &&
         visit(context, {lane + at.positions, rows * sizeof(int32_t)}) &&
         visit(context, {lane + at.votes, rows * sizeof(float)});
}

bool KvStore::ForEachSpan(uint32_t tokens, bool (*visit)(void*, std::span<std::byte>),
                          void* context) const {
  for (const auto& groups : groups_) {
    for (const Group& group : groups) {
      for (uint32_t i = 0; i < group.count; ++i) {
        if (!VisitLane(group, group.first_head + i, tokens, visit, context)) return false;
      }
    }
  }
  return true;
}

uint64_t KvStore::SpanBytes(uint32_t tokens) const {
  uint64_t total = 0;
  ForEachSpan(
      tokens,
      [](void* sum, std::span<std::byte> bytes) {
        *static_cast<uint64_t*>(sum) += bytes.size();
        return true;
      },
      &total);
  return total;
}

Status KvStore::SetStates(std::span<const LaneState> states, uint32_t tokens) {
  for (const auto& groups : groups_) {
    for (const Group& group : groups) {
      for (uint32_t i = 0; i < group.count; ++i) {
        const LaneState& state = states[group.first_state + i];
        const uint32_t behind = tokens - std::min(tokens, group.spec.exact_rows);
        const uint32_t rows = group.spec.voted() ? behind : 0;
        if (state.rows > rows || state.append_row > rows || state.append_begin > tokens ||
            state.thinned_at > tokens || state.gone > tokens || state.voting > 1) {
          return Status::Make(StatusCode::kCorrupt, "%u rows that %u tokens cannot have",
                              state.rows, tokens);
        }
        if (state.rows <= group.spec.capacity || !group.spec.voted()) continue;
        return Status::Make(StatusCode::kMismatch, "%u rows for lanes of %u", state.rows,
                            group.spec.capacity);
      }
    }
  }
  states_before_.swap(states_);
  std::copy(states.begin(), states.end(), states_.begin());
  return {};
}

void KvStore::AdoptSpans(uint32_t tokens) {
  for (auto& groups : groups_) {
    for (Group& group : groups) {
      const LaneSpec& spec = group.spec;
      group.kept_from = WindowBegin(spec, tokens);
      if (!spec.ring || spec.mean) continue;  // with a mean, positions were among the spans
      int32_t* positions = Positions(group);
      std::fill_n(positions, spec.capacity, -1);
      auto show = [&](uint32_t begin, uint32_t end) {
        for (uint32_t p = std::max(begin, spec.exact_rows); p < end; ++p) {
          positions[RowOf(spec, p)] = static_cast<int32_t>(p);
        }
      };
      show(0, SinkEnd(spec, tokens));
      show(WindowBegin(spec, tokens), tokens);
    }
  }
}

void KvStore::CopyFrom(const KvStore& other, uint32_t tokens) {
  states_ = other.states_;
  for (size_t i = 0; i < groups_.size(); ++i) {
    for (size_t g = 0; g < groups_[i].size(); ++g) {
      Group& group = groups_[i][g];
      group.kept_from = other.groups_[i][g].kept_from;
      if (group.spec.ring) {
        std::memcpy(Positions(group), other.Positions(other.groups_[i][g]),
                    group.spec.capacity * sizeof(int32_t));
      }
      const LaneSpec& spec = group.spec;
      const LaneLayout& at = group.layout;
      for (uint32_t head = 0; head < group.count; ++head) {
        const uint64_t rows =
            spec.voted() ? StateOf(group, group.first_head + head).rows : BodyRows(spec, tokens);
        std::byte* to = Lane(group, group.first_head + head);
        const std::byte* from = other.Lane(other.groups_[i][g], group.first_head + head);
        auto copy = [&](uint64_t begin, uint64_t bytes) {
          std::memcpy(to + begin, from + begin, bytes);
        };
        auto copy_rows = [&](const LaneArray& array, uint64_t data, uint64_t meta) {
          copy(data, rows * RowDataBytes(array.codec, array.width));
          copy(meta, rows * RowMetaBytes(array.codec, array.width));
        };
        copy_rows(spec.key, at.key, at.key_meta);
        copy_rows(spec.tail, at.tail, at.tail_meta);
        copy_rows(spec.value, at.value, at.value_meta);
        copy(at.exact_key, at.bytes - at.exact_key);
      }
    }
  }
}

}  // namespace headroom::store
