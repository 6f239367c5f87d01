// A store rebuilt in its own memory, with shorter lanes, smaller rows or fewer of them.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "base/math.h"
#include "store/kv_store.h"

namespace headroom::store {
namespace {

// One of a lane's arrays in the old and the new form: offsets within the lanes.
struct ArrayMove {
  LaneArray from, to;
  uint64_t from_data, from_meta, from_exact, to_data, to_meta, to_exact, to_mean;
  bool rotated_before, rotated_after;
  // What waits in scratch, because its place may still hold rows of the old form.
  float* row = nullptr;
  float* mean = nullptr;
  std::byte *meta = nullptr, *exact = nullptr;
};

uint32_t SinksBehindExact(const LaneSpec& spec) {
  return std::max(spec.sinks, spec.exact_rows) - spec.exact_rows;
}

}  // namespace

// One lane on its way to a smaller form. Every array of data moves down or stays, and rows go in
// ascending order, so each is read before anything is written over it; what is small waits.
class KvStore::LaneMove {
 public:
  LaneMove(const Group& from, const Group& to, const std::byte* from_lane, std::byte* to_lane,
           const Shrinking& how)
      : from_(from), to_(to), from_lane_(from_lane), to_lane_(to_lane), how_(how) {
    const LaneLayout &a = from.layout, &b = to.layout;
    const bool before = from.spec.rotated, after = to.spec.rotated;
    arrays_[0] = {from.spec.key, to.spec.key, a.key,      a.key_meta, a.exact_key, b.key,
                  b.key_meta,    b.exact_key, b.mean_key, before,     after};
    arrays_[1] = {from.spec.tail, to.spec.tail, a.tail,      a.tail_meta, a.exact_tail, b.tail,
                  b.tail_meta,    b.exact_tail, b.mean_tail, false,       false};
    arrays_[2] = {from.spec.value, to.spec.value, a.value,      a.value_meta,
                  a.exact_value,   b.value,       b.value_meta, b.exact_value,
                  b.mean_value,    before,        after};
    from_rows_ = to_rows_ = 0;
    next_ = how.scratch.data();
  }

  void Run(const int32_t* from_positions, LaneState* state) {
    from_positions_ = from_positions;
    if (from_.spec.voted()) {
      from_rows_ = state->rows;
    } else {
      const uint32_t exact = std::min(how_.tokens, from_.spec.exact_rows);
      from_rows_ = std::min(how_.tokens - exact, from_.spec.capacity);
    }
    exact_ = std::min(how_.tokens, to_.spec.exact_rows);
    TakeScratch();
    if (from_.spec.mean) CopyMean();
    for (ArrayMove& array : arrays_) {
      if (array.from.width != 0) MoveArray(&array);
    }
    PutSmallArrays(state);
  }

 private:
  std::byte* Take(uint64_t bytes) {
    std::byte* taken = next_;
    next_ += RoundUp(bytes, 64);
    return taken;
  }

  void TakeScratch() {
    for (ArrayMove& a : arrays_) {
      if (a.from.width == 0) continue;
      a.row = reinterpret_cast<float*>(Take(a.from.width * sizeof(float)));
      a.mean = reinterpret_cast<float*>(Take(a.from.width * sizeof(float)));
      a.meta = Take(uint64_t{from_rows_} * RowMetaBytes(a.to.codec, a.to.width));
      a.exact = Take(uint64_t{exact_} * RowDataBytes(RowCodec::kF16, a.to.width));
      std::fill_n(a.mean, a.from.width, 0.0f);
    }
    positions_ = reinterpret_cast<int32_t*>(Take(from_rows_ * sizeof(int32_t)));
    votes_ = reinterpret_cast<float*>(Take(from_rows_ * sizeof(float)));
  }

  void CopyMean() {
    for (ArrayMove& a : arrays_) {
      if (a.from.width == 0) continue;
      const uint64_t from = &a == &arrays_[0]   ? from_.layout.mean_key
                            : &a == &arrays_[1] ? from_.layout.mean_tail
                                                : from_.layout.mean_value;
      std::memcpy(a.mean, from_lane_ + from, a.from.width * sizeof(float));
      Turn(a, a.mean);
    }
  }

  // Whether rows stay as they are but for their codec.
  static bool Stays(const ArrayMove& a) {
    return a.from.width == a.to.width && a.rotated_before == a.rotated_after;
  }

  // From the old form's rotation, over all of an old row, to the new one's, over what stays of it.
  void Turn(const ArrayMove& a, float* row) const {
    if (Stays(a)) return;
    if (a.rotated_before) how_.recoder.rotate(row, 1, a.from.width, a.from.width);
    if (a.rotated_after) how_.recoder.rotate(row, 1, a.to.width, a.to.width);
  }

  uint32_t PositionOf(uint32_t row) const {
    return from_positions_ != nullptr ? static_cast<uint32_t>(from_positions_[row])
                                      : from_.spec.exact_rows + row;
  }

  // Row of a position in the new form, the `kept`th that stays; -1 when it leaves.
  int64_t NewRow(uint32_t position, uint32_t row, uint32_t kept) const {
    const LaneSpec& to = to_.spec;
    if (to.ring && from_.spec.ring) return row;
    const bool sink = position < to.sinks;
    if (to.ring) {
      const uint32_t sinks = SinksBehindExact(to), behind = position - to.exact_rows;
      const uint32_t first = how_.tokens > to.left ? how_.tokens - to.left : 0;
      if (!sink && position < first) return -1;
      return behind < to.capacity ? behind : sinks + (behind - sinks) % (to.capacity - sinks);
    }
    if (to.voted()) {
      // Nobody has voted in a lane that kept all: sinks stay, and the newest.
      const uint32_t sinks = SinksBehindExact(to);
      const bool newest = row + (to.vote.rows - std::min(sinks, to.vote.rows)) >= from_rows_;
      const bool stays = sink || newest || from_rows_ <= to.vote.rows;
      return stays && kept < to.vote.rows ? int64_t{kept} : -1;
    }
    return position - to.exact_rows;
  }

  const float* DecodedRow(const ArrayMove& a, uint32_t row) const {
    how_.recoder.decode(
        a.from.codec,
        from_lane_ + a.from_data + uint64_t{row} * RowDataBytes(a.from.codec, a.from.width),
        reinterpret_cast<const uint16_t*>(from_lane_ + a.from_meta +
                                          uint64_t{row} * RowMetaBytes(a.from.codec, a.from.width)),
        a.from.width, a.row);
    Turn(a, a.row);
    return a.row;
  }

  void Encode(const ArrayMove& a, RowCodec codec, std::byte* data, std::byte* meta) const {
    how_.recoder.encode[static_cast<int>(codec)](a.row, a.to.width, data,
                                                 reinterpret_cast<uint16_t*>(meta));
  }

  // Exact rows of the old form stay exact; of a form without them the first rows become exact.
  uint32_t MoveExactRows(ArrayMove* a) const {
    const uint64_t bytes = RowDataBytes(RowCodec::kF16, a->to.width);
    const uint64_t from_bytes = RowDataBytes(RowCodec::kF16, a->from.width);
    const bool had = from_.spec.exact_rows != 0;
    for (uint32_t r = 0; r < exact_; ++r) {
      if (had) {
        how_.recoder.decode(RowCodec::kF16, from_lane_ + a->from_exact + r * from_bytes, nullptr,
                            a->from.width, a->row);
        Turn(*a, a->row);
      } else {
        DecodedRow(*a, r);
      }
      Encode(*a, RowCodec::kF16, a->exact + r * bytes, nullptr);
    }
    return had ? 0 : exact_;
  }

  void MoveArray(ArrayMove* a) {
    const uint32_t begin = MoveExactRows(a);
    const uint64_t bytes = RowDataBytes(a->to.codec, a->to.width);
    const uint64_t meta_bytes = RowMetaBytes(a->to.codec, a->to.width);
    const bool same = a->from.codec == a->to.codec && Stays(*a);
    const auto* from_meta = from_lane_ + a->from_meta;
    to_rows_ = 0;
    gone_ = 0;
    for (uint32_t r = begin; r < from_rows_; ++r) {
      const int64_t row = NewRow(PositionOf(r), r, to_rows_);
      if (row < 0) {
        if (to_.spec.mean) {
          const float* x = DecodedRow(*a, r);
          const float share = 1.0f / static_cast<float>(++gone_);
          for (uint32_t d = 0; d < a->to.width; ++d) a->mean[d] += (x[d] - a->mean[d]) * share;
        }
        continue;
      }
      const auto at = static_cast<uint64_t>(row);
      if (same) {
        std::memmove(to_lane_ + a->to_data + at * bytes,
                     from_lane_ + a->from_data + uint64_t{r} * bytes, bytes);
        std::memcpy(a->meta + at * meta_bytes, from_meta + uint64_t{r} * meta_bytes, meta_bytes);
      } else {
        DecodedRow(*a, r);
        Encode(*a, a->to.codec, to_lane_ + a->to_data + at * bytes, a->meta + at * meta_bytes);
      }
      positions_[row] = static_cast<int32_t>(PositionOf(r));
      votes_[row] = from_.spec.voted() ? Votes()[r] : 0.0f;
      ++to_rows_;
    }
  }

  const float* Votes() const {
    return reinterpret_cast<const float*>(from_lane_ + from_.layout.votes);
  }

  void PutSmallArrays(LaneState* state) const {
    for (const ArrayMove& a : arrays_) {
      if (a.from.width == 0) continue;
      // Rows of a ring need not begin at its first.
      const uint64_t rows = to_.spec.ring ? std::min(from_rows_, to_.spec.capacity) : to_rows_;
      std::memcpy(to_lane_ + a.to_meta, a.meta, rows * RowMetaBytes(a.to.codec, a.to.width));
      std::memcpy(to_lane_ + a.to_exact, a.exact,
                  uint64_t{exact_} * RowDataBytes(RowCodec::kF16, a.to.width));
      if (to_.spec.mean) {
        std::memcpy(to_lane_ + a.to_mean, a.mean, a.to.width * sizeof(float));
      }
    }
    if (to_.spec.voted()) {
      std::memcpy(to_lane_ + to_.layout.positions, positions_, to_rows_ * sizeof(int32_t));
      std::memcpy(to_lane_ + to_.layout.votes, votes_, to_rows_ * sizeof(float));
      if (!from_.spec.voted()) *state = {};
      if (to_rows_ < from_rows_) state->thinned_at = how_.tokens;
      state->rows = state->append_row = to_rows_;
    }
    if (to_.spec.mean) {
      if (!from_.spec.mean) state->gone = gone_;
      const float bias = state->gone == 0 ? 0.0f : std::log(static_cast<float>(state->gone));
      std::memcpy(to_lane_ + to_.layout.mean_bias, &bias, sizeof(bias));
    }
  }

  const Group &from_, &to_;
  const std::byte* from_lane_;
  std::byte* to_lane_;
  const Shrinking& how_;
  ArrayMove arrays_[3];
  std::byte* next_;
  const int32_t* from_positions_ = nullptr;  // of rows behind the exact ones; null: in order
  uint32_t from_rows_, to_rows_;             // behind the exact ones
  uint32_t exact_ = 0, gone_ = 0;
  int32_t* positions_ = nullptr;  // of the new rows
  float* votes_ = nullptr;
};

void KvStore::ShrinkTo(std::span<const LayerSpec> layers, uint32_t tokens,
                       const RowRecoder& recoder, std::span<std::byte> scratch) {
  uint64_t end = 0;
  for (size_t i = 0; i < groups_.size(); ++i) {
    for (size_t g = 0; g < groups_[i].size(); ++g) {
      const Group from = groups_[i][g];
      assert(CanShrink(layers_[i].groups[g], layers[i].groups[g]));
      layers_[i].groups[g] = layers[i].groups[g];
      Group& to = groups_[i][g] = MakeGroup(layers[i].groups[g], from.first_head, &end);
      to.kept_from = from.kept_from;
      to.first_state = from.first_state;
      for (uint32_t head = 0; head < to.count; ++head) {
        ShrinkLane(from, to, to.first_head + head, {tokens, recoder, scratch});
      }
      if (to.spec.ring) MovePositions(from, to, tokens);
    }
  }
}

void KvStore::ShrinkLane(const Group& from, const Group& to, uint32_t head, const Shrinking& how) {
  const std::byte* lane = Lane(from, head);
  LaneState& state = StateOf(from, head);
  if (from.spec.voted() && state.rows > to.spec.vote.rows) {
    Group fewer = from;
    fewer.spec.vote.rows = to.spec.vote.rows;
    Thin(fewer, head);
    state.thinned_at = how.tokens;
  }
  const auto* positions = from.spec.ring ? Positions(from)
                          : from.spec.voted()
                              ? reinterpret_cast<const int32_t*>(lane + from.layout.positions)
                              : nullptr;
  LaneMove(from, to, lane, Lane(to, head), how).Run(positions, &state);
}

// Behind the lanes, where nothing of the old form is left that is still wanted, except a ring's own
// positions.
void KvStore::MovePositions(const Group& from, const Group& to, uint32_t tokens) {
  int32_t* positions = Positions(to);
  if (from.spec.ring) {
    std::memmove(positions, Positions(from), from.spec.capacity * sizeof(int32_t));
    return;
  }
  std::fill_n(positions, to.spec.capacity, -1);
  const uint32_t exact = to.spec.exact_rows;
  const uint32_t sinks = SinksBehindExact(to.spec);
  const uint32_t first = tokens > to.spec.left ? tokens - to.spec.left : 0;
  for (uint32_t p = exact; p < tokens; ++p) {
    if (p >= to.spec.sinks && p < first) continue;
    const uint32_t behind = p - exact, ring = to.spec.capacity - sinks;
    positions[behind < to.spec.capacity ? behind : sinks + (behind - sinks) % ring] =
        static_cast<int32_t>(p);
  }
}

}  // namespace headroom::store
