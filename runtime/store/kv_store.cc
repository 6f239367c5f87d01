#include "store/kv_store.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/math.h"

namespace headroom::store {
namespace {

constexpr uint64_t kAlign = 64;

uint64_t ArrayBytes(uint64_t rows, uint64_t row_bytes) { return RoundUp(rows * row_bytes, kAlign); }

// First of the positions, sinks aside, that the query at position `tokens` may still want to see.
uint32_t WindowBegin(const LayerSpec& spec, uint32_t tokens) {
  if (spec.left == kUnlimited) return 0;
  return std::max(spec.sinks, tokens > spec.left ? tokens - spec.left : 0u);
}

uint32_t SinkEnd(const LayerSpec& spec, uint32_t tokens) {
  return spec.left == kUnlimited ? 0 : std::min(tokens, spec.sinks);
}

}  // namespace

LayerSpec PlanLayer(uint32_t kv_heads, uint32_t key_width, uint32_t value_width, RowCodec codec,
                    uint32_t left, uint32_t sinks, uint32_t context, uint32_t chunk) {
  LayerSpec spec{kv_heads, key_width, value_width, codec, context, false, sinks, left};
  if (left == kUnlimited) return spec;
  const uint64_t ring = sinks + RoundUp(uint64_t{left} + chunk, 16);
  if (ring >= context) return spec;
  spec.capacity = static_cast<uint32_t>(ring);
  spec.ring = true;
  return spec;
}

KvStore::Layout KvStore::LayoutOf(const LayerSpec& spec, uint64_t begin) {
  const uint64_t rows = spec.capacity;
  const uint64_t meta = ArrayBytes(rows, RowMetaBytes(spec.codec, spec.key_width));
  Layout layout;
  layout.positions = begin;
  layout.lanes = begin + (spec.ring ? ArrayBytes(rows, sizeof(int32_t)) : 0);
  layout.values = ArrayBytes(rows, RowDataBytes(spec.codec, spec.key_width));
  layout.key_meta = layout.values + ArrayBytes(rows, RowDataBytes(spec.codec, spec.value_width));
  layout.value_meta = layout.key_meta + meta;
  layout.lane_bytes = layout.value_meta + meta;
  return layout;
}

uint64_t LayerBytes(const LayerSpec& spec) {
  const uint64_t rows = spec.capacity;
  const uint64_t lane = ArrayBytes(rows, RowDataBytes(spec.codec, spec.key_width)) +
                        ArrayBytes(rows, RowDataBytes(spec.codec, spec.value_width)) +
                        2 * ArrayBytes(rows, RowMetaBytes(spec.codec, spec.key_width));
  return spec.kv_heads * lane + (spec.ring ? ArrayBytes(rows, sizeof(int32_t)) : 0);
}

uint64_t LayerBytesPerToken(const LayerSpec& spec) {
  if (spec.ring) return 0;
  return uint64_t{spec.kv_heads} *
         (RowDataBytes(spec.codec, spec.key_width) + RowDataBytes(spec.codec, spec.value_width) +
          2 * RowMetaBytes(spec.codec, spec.key_width));
}

bool CanShrink(const LayerSpec& from, const LayerSpec& to) {
  return LayerBytes(to) <= LayerBytes(from);
}

uint64_t ShrinkScratchBytes(std::span<const LayerSpec> layers) {
  uint64_t rows = 0, width = 0;
  for (const LayerSpec& layer : layers) {
    rows = std::max<uint64_t>(rows, layer.capacity);
    width = std::max<uint64_t>({width, layer.key_width, layer.value_width});
  }
  return ArrayBytes(2 * rows, RowMetaBytes(RowCodec::kI8Token, 1)) +
         ArrayBytes(width, sizeof(float));
}

KvStore::KvStore(std::vector<LayerSpec> layers, std::span<std::byte> memory) : memory_(memory) {
  Build(std::move(layers));
  kept_from_.assign(layers_.size(), 0);
  ClearPositions();
}

void KvStore::Build(std::vector<LayerSpec> layers) {
  layers_ = std::move(layers);
  layouts_.clear();
  uint64_t begin = 0;
  for (const LayerSpec& spec : layers_) {
    layouts_.push_back(LayoutOf(spec, begin));
    begin += LayerBytes(spec);
  }
}

void KvStore::ClearPositions() {
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].ring) std::fill_n(Positions(i), layers_[i].capacity, -1);
  }
}

uint32_t KvStore::RowOf(const LayerSpec& spec, uint32_t position) {
  if (position < spec.capacity) return position;
  return spec.sinks + (position - spec.sinks) % (spec.capacity - spec.sinks);
}

std::byte* KvStore::Lane(size_t layer, uint32_t kv_head) const {
  return memory_.data() + layouts_[layer].lanes + kv_head * layouts_[layer].lane_bytes;
}

int32_t* KvStore::Positions(size_t layer) const {
  return reinterpret_cast<int32_t*>(memory_.data() + layouts_[layer].positions);
}

void KvStore::BeginAppend(uint32_t position, uint32_t count) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].ring) continue;
    int32_t* positions = Positions(i);
    for (uint32_t p = position; p < position + count; ++p) {
      positions[RowOf(layers_[i], p)] = static_cast<int32_t>(p);
    }
  }
}

RowPlace KvStore::Place(size_t layer, uint32_t kv_head, uint32_t position) {
  const LayerSpec& spec = layers_[layer];
  const Layout& layout = layouts_[layer];
  const uint64_t row = RowOf(spec, position);
  std::byte* lane = Lane(layer, kv_head);
  return {lane + row * RowDataBytes(spec.codec, spec.key_width),
          reinterpret_cast<uint16_t*>(lane + layout.key_meta) + 2 * row,
          lane + layout.values + row * RowDataBytes(spec.codec, spec.value_width),
          reinterpret_cast<uint16_t*>(lane + layout.value_meta) + 2 * row};
}

LaneView KvStore::View(size_t layer, uint32_t kv_head, uint32_t tokens) const {
  const LayerSpec& spec = layers_[layer];
  const Layout& layout = layouts_[layer];
  const std::byte* lane = Lane(layer, kv_head);
  LaneView view;
  view.keys = {spec.codec, spec.key_width, lane,
               reinterpret_cast<const uint16_t*>(lane + layout.key_meta)};
  view.values = {spec.codec, spec.value_width, lane + layout.values,
                 reinterpret_cast<const uint16_t*>(lane + layout.value_meta)};
  view.rows = std::min(tokens, spec.capacity);
  view.positions = spec.ring ? Positions(layer) : nullptr;
  return view;
}

bool KvStore::CanRewind(uint32_t tokens, uint32_t position) const {
  if (position == 0 || position >= tokens) return position <= tokens;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const uint32_t begin = WindowBegin(layers_[i], position);
    if (begin < kept_from_[i]) return false;
    if (!layers_[i].ring) continue;
    const int32_t* positions = Positions(i);
    for (uint32_t p = begin; p < position; ++p) {
      if (positions[RowOf(layers_[i], p)] != static_cast<int32_t>(p)) return false;
    }
  }
  return true;
}

void KvStore::Rewind(uint32_t tokens, uint32_t position) {
  if (position == 0) kept_from_.assign(layers_.size(), 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].ring) continue;
    int32_t* positions = Positions(i);
    const uint32_t rows = std::min(tokens, layers_[i].capacity);
    for (uint32_t row = 0; row < rows; ++row) {
      if (positions[row] >= static_cast<int32_t>(position)) positions[row] = -1;
    }
  }
}

bool KvStore::ForEachSpan(uint32_t tokens, bool (*visit)(void*, std::span<std::byte>),
                          void* context) const {
  auto* self = const_cast<KvStore*>(this);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerSpec& spec = layers_[i];
    const uint64_t key_bytes = RowDataBytes(spec.codec, spec.key_width);
    const uint64_t value_bytes = RowDataBytes(spec.codec, spec.value_width);
    const uint64_t meta_bytes = RowMetaBytes(spec.codec, spec.key_width);
    // Position ranges that are kept, each cut where it wraps to row `sinks`.
    auto visit_range = [&](uint32_t head, uint32_t begin, uint32_t end) {
      while (begin < end) {
        const uint32_t row = RowOf(spec, begin);
        const uint32_t count = std::min(end - begin, spec.capacity - row);
        const RowPlace place = self->Place(i, head, begin);
        auto bytes_of = [&](auto* data, uint64_t row_bytes) {
          return std::span<std::byte>(reinterpret_cast<std::byte*>(data), count * row_bytes);
        };
        if (!visit(context, bytes_of(place.key, key_bytes))) return false;
        if (!visit(context, bytes_of(place.value, value_bytes))) return false;
        if (meta_bytes != 0) {
          if (!visit(context, bytes_of(place.key_meta, meta_bytes))) return false;
          if (!visit(context, bytes_of(place.value_meta, meta_bytes))) return false;
        }
        begin += count;
      }
      return true;
    };
    for (uint32_t head = 0; head < spec.kv_heads; ++head) {
      if (!visit_range(head, 0, SinkEnd(spec, tokens))) return false;
      if (!visit_range(head, WindowBegin(spec, tokens), tokens)) return false;
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

void KvStore::AdoptSpans(uint32_t tokens) {
  ClearPositions();
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerSpec& spec = layers_[i];
    kept_from_[i] = WindowBegin(spec, tokens);
    if (!spec.ring) continue;
    int32_t* positions = Positions(i);
    auto show = [&](uint32_t p) { positions[RowOf(spec, p)] = static_cast<int32_t>(p); };
    for (uint32_t p = 0; p < SinkEnd(spec, tokens); ++p) show(p);
    for (uint32_t p = WindowBegin(spec, tokens); p < tokens; ++p) show(p);
  }
}

void KvStore::CopyFrom(const KvStore& other, uint32_t tokens) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerSpec& spec = layers_[i];
    const uint64_t rows = std::min(tokens, spec.capacity);
    for (uint32_t head = 0; head < spec.kv_heads; ++head) {
      const RowPlace to = Place(i, head, 0);
      const RowPlace from = const_cast<KvStore&>(other).Place(i, head, 0);
      std::memcpy(to.key, from.key, rows * RowDataBytes(spec.codec, spec.key_width));
      std::memcpy(to.value, from.value, rows * RowDataBytes(spec.codec, spec.value_width));
      std::memcpy(to.key_meta, from.key_meta, rows * RowMetaBytes(spec.codec, spec.key_width));
      std::memcpy(to.value_meta, from.value_meta, rows * RowMetaBytes(spec.codec, spec.key_width));
    }
    if (spec.ring) std::copy_n(other.Positions(i), spec.capacity, Positions(i));
  }
  kept_from_ = other.kept_from_;
}

// One lane on its way to a smaller form. Every array of it moves down or stays.
struct KvStore::LaneMove {
  const LayerSpec &from, &to;
  const Layout &from_layout, &to_layout;
  std::byte *from_lane, *to_lane;
  uint64_t rows;
  const RowRecoder& recoder;
  std::span<std::byte> scratch;
};

// The same codec: arrays in their order, so that each is read before anything is written over it.
void KvStore::MoveRows(const LaneMove& move) {
  auto array = [&](uint64_t from, uint64_t to, uint64_t row_bytes) {
    std::memmove(move.to_lane + to, move.from_lane + from, move.rows * row_bytes);
  };
  const RowCodec codec = move.from.codec;
  array(0, 0, RowDataBytes(codec, move.from.key_width));
  array(move.from_layout.values, move.to_layout.values, RowDataBytes(codec, move.from.value_width));
  array(move.from_layout.key_meta, move.to_layout.key_meta,
        RowMetaBytes(codec, move.from.key_width));
  array(move.from_layout.value_meta, move.to_layout.value_meta,
        RowMetaBytes(codec, move.from.key_width));
}

// Another codec: rows go down in ascending order, so a row is read before anything is written over
// it. The new scales wait in scratch: their place may still hold rows of the old form.
void KvStore::RecodeRows(const LaneMove& move) {
  const uint64_t meta_bytes = move.rows * RowMetaBytes(move.to.codec, move.to.key_width);
  auto* key_meta = reinterpret_cast<uint16_t*>(move.scratch.data());
  auto* value_meta = reinterpret_cast<uint16_t*>(move.scratch.data() + meta_bytes);
  auto* row = reinterpret_cast<float*>(move.scratch.data() + RoundUp(2 * meta_bytes, kAlign));
  auto recode = [&](uint64_t from, uint64_t from_meta, uint64_t to, uint32_t width,
                    uint16_t* new_meta) {
    const uint64_t from_bytes = RowDataBytes(move.from.codec, width);
    const uint64_t to_bytes = RowDataBytes(move.to.codec, width);
    const auto* old_meta = reinterpret_cast<const uint16_t*>(move.from_lane + from_meta);
    for (uint64_t r = 0; r < move.rows; ++r) {
      move.recoder.decode(move.from.codec, move.from_lane + from + r * from_bytes, old_meta + 2 * r,
                          width, row);
      move.recoder.encode(row, width, move.to_lane + to + r * to_bytes, new_meta + 2 * r);
    }
  };
  recode(0, move.from_layout.key_meta, 0, move.from.key_width, key_meta);
  recode(move.from_layout.values, move.from_layout.value_meta, move.to_layout.values,
         move.from.value_width, value_meta);
  std::memcpy(move.to_lane + move.to_layout.key_meta, key_meta, meta_bytes);
  std::memcpy(move.to_lane + move.to_layout.value_meta, value_meta, meta_bytes);
}

void KvStore::ShrinkTo(std::span<const LayerSpec> layers, uint32_t tokens,
                       const RowRecoder& recoder, std::span<std::byte> scratch) {
  uint64_t begin = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerSpec from = layers_[i], to = layers[i];
    assert(CanShrink(from, to));
    const Layout from_layout = layouts_[i], to_layout = LayoutOf(to, begin);
    begin += LayerBytes(to);
    if (from.ring) {  // capacities of rings do not change, so their row order does not either
      std::memmove(memory_.data() + to_layout.positions, memory_.data() + from_layout.positions,
                   from.capacity * sizeof(int32_t));
    }
    for (uint64_t head = 0; head < from.kv_heads; ++head) {
      const LaneMove move{from,
                          to,
                          from_layout,
                          to_layout,
                          memory_.data() + from_layout.lanes + head * from_layout.lane_bytes,
                          memory_.data() + to_layout.lanes + head * to_layout.lane_bytes,
                          std::min(tokens, from.capacity),
                          recoder,
                          scratch};
      if (from.codec == to.codec) {
        MoveRows(move);
      } else {
        RecodeRows(move);
      }
    }
    layers_[i] = to;
    layouts_[i] = to_layout;
  }
}

}  // namespace headroom::store
