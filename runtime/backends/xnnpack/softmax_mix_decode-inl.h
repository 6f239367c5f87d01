// Softmax mix for few queries (decode): every row is read from memory once for all of them.
//
// A block of rows goes through three passes while it is in the first-level cache: scores (dot
// products of four rows with up to four queries at once, so that sixteen sums share one reduction),
// online softmax, and the weighted sum of values. int8 rows on x86 multiply in 16-bit integers:
// queries are quantised to 15 bits per query, weights to 15 bits per block, two orders of magnitude
// finer than the rows' codes.
#if defined(HR_SOFTMAX_MIX_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_DECODE_INL_H_
#undef HR_SOFTMAX_MIX_DECODE_INL_H_
#else
#define HR_SOFTMAX_MIX_DECODE_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix_scores-inl.h"
#include "backends/xnnpack/softmax_mix_values-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// Scores of int8 rows from dot products of codes: times the row's scale, plus its minimum times sum
// q.
HWY_INLINE void ScaleCodes(const DecodeState& state, size_t h, size_t rows) {
  const DF df;
  const VF q_sum = hn::Set(df, state.q_sum[h]);
  float* scores = state.scores + h * kMixBlockRows;
  for (size_t r = 0; r < rows; r += kLanes) {
    VF x = hn::Load(df, scores + r);
    if constexpr (kIntegerRows<RowCodec::kI8Token>) {
      x = hn::Mul(hn::ConvertTo(df, hn::BitCast(DI(), x)), hn::Set(df, state.q_scale[h]));
    }
    const VF offset = hn::Mul(hn::Load(df, state.key_minimum + r), q_sum);
    hn::Store(hn::MulAdd(x, hn::Load(df, state.key_scale + r), offset), df, scores + r);
  }
}

// Hides from a query the rows it may not see.
HWY_INLINE void MaskScores(const MixSpec& spec, const int32_t* visible, int32_t query_position,
                           size_t rows, float* scores) {
  const DF df;
  const DI di;
  const VI left = hn::Set(di, static_cast<int32_t>(std::min<uint32_t>(spec.left, INT32_MAX)));
  const VI sinks = hn::Set(di, static_cast<int32_t>(std::min<uint32_t>(spec.sinks, INT32_MAX)));
  for (size_t r = 0; r < rows; r += kLanes) {
    const VI position = hn::Load(di, visible + r);
    const VI distance = hn::Sub(hn::Set(di, query_position), position);
    const auto near = hn::Or(hn::Le(distance, left), hn::Lt(position, sinks));
    const auto past = hn::And(hn::Ge(position, hn::Zero(di)), hn::Ge(distance, hn::Zero(di)));
    const auto seen = hn::RebindMask(df, hn::And(near, past));
    hn::Store(hn::IfThenElse(seen, hn::Load(df, scores + r), hn::Set(df, kMinusInfinity)), df,
              scores + r);
  }
}

// Largest score of a block; lanes behind the last row become -infinity.
HWY_INLINE float CloseScores(float* scores, size_t rows) {
  const DF df;
  const VF hidden = hn::Set(df, kMinusInfinity);
  VF maximum = hidden;
  for (size_t r = 0; r < rows; r += kLanes) {
    VF x = hn::Load(df, scores + r);
    if (rows - r < kLanes) {
      x = hn::IfThenElse(hn::FirstN(df, rows - r), x, hidden);
      hn::Store(x, df, scores + r);
    }
    maximum = hn::Max(maximum, x);
  }
  return hn::ReduceMax(df, maximum);
}

// Raises the running maximum of query h to at least `maximum` and rescales what was summed under
// the old.
HWY_INLINE void RaiseMaximum(const DecodeState& state, size_t h, float maximum, size_t o_floats) {
  const DF df;
  if (maximum <= state.maxima[h]) return;
  const VF rescale = Exp2(hn::Set(df, state.maxima[h] - maximum));
  state.maxima[h] = maximum;
  float* o = state.o + h * state.o_stride;
  for (size_t c = 0; c < o_floats; c += kLanes)
    hn::Store(hn::Mul(hn::Load(df, o + c), rescale), df, o + c);
  for (float* lanes : {state.sums + h * kLanes, state.offsets + h * kLanes}) {
    hn::Store(hn::Mul(hn::Load(df, lanes), rescale), df, lanes);
  }
}

#if HR_MIX_I16
// Weights of one query in 15 bits, relative to the block's largest; the rest of the block becomes
// 0.
HWY_INLINE void QuantiseWeights(const DecodeState& state, size_t h, size_t rows, VF maximum) {
  const DF df;
  const hn::Rebind<int16_t, DF> d16;
  const float largest = hn::ReduceMax(df, maximum);
  // A weight so small that its inverse overflows adds nothing to any f32 sum.
  state.weight_scale[h] = largest > 1e-30f ? largest / 32767.0f : 0.0f;
  const VF factor = hn::Set(df, largest > 1e-30f ? 32767.0f / largest : 0.0f);
  const float* p = state.scores + h * kMixBlockRows;
  int16_t* weights = state.weights + h * kMixBlockRows;
  for (size_t r = 0; r < kMixBlockRows; r += kLanes) {
    const VI code =
        r < rows ? hn::NearestInt(hn::Mul(hn::Load(df, p + r), factor)) : hn::Zero(DI());
    hn::Store(hn::DemoteTo(d16, code), d16, weights + r);
  }
}
#endif

// Online softmax of one block for query h: scores become weights p, l and the offsets grow.
template <bool kI8>
HWY_NOINLINE void SoftmaxRows(const DecodeState& state, const MixSpec& spec, size_t h, size_t rows,
                              bool masked, int32_t query_position, size_t o_floats) {
  const DF df;
  float* scores = state.scores + h * kMixBlockRows;
  if constexpr (kI8) ScaleCodes(state, h, rows);
  if (spec.softcap > 0.0f) CapScores(spec.softcap, (rows + kLanes - 1) / kLanes, kLanes, scores);
  if (masked) MaskScores(spec, state.visible, query_position, rows, scores);
  RaiseMaximum(state, h, CloseScores(scores, rows), o_floats);
  const VF running = hn::Set(df, state.maxima[h]);
  VF sum = hn::Load(df, state.sums + h * kLanes);
  VF offset = hn::Load(df, state.offsets + h * kLanes);
  VF largest = hn::Zero(df);
  for (size_t r = 0; r < rows; r += kLanes) {
    VF p = Exp2(hn::Sub(hn::Load(df, scores + r), running));
    sum = hn::Add(sum, p);
    if constexpr (kI8) {
      offset = hn::MulAdd(p, hn::Load(df, state.value_minimum + r), offset);
      p = hn::Mul(p, hn::Load(df, state.value_scale + r));
      largest = hn::Max(largest, p);
    }
    hn::Store(p, df, scores + r);
  }
  hn::Store(sum, df, state.sums + h * kLanes);
  hn::Store(offset, df, state.offsets + h * kLanes);
#if HR_MIX_I16
  if constexpr (kI8) QuantiseWeights(state, h, rows, largest);
#endif
}

// Calls fn<n>(first) for queries in groups of at most kQueryBlock.
template <class Fn>
HWY_INLINE void ForQueryBlocks(size_t queries, const Fn& fn) {
  for (size_t h = 0; h < queries; h += kQueryBlock) {
    const size_t count = std::min(queries - h, kQueryBlock);
    if (count == 1) fn(std::integral_constant<size_t, 1>(), h);
    if (count == 2) fn(std::integral_constant<size_t, 2>(), h);
    if constexpr (kQueryBlock > 2) {
      if (count == 3) fn(std::integral_constant<size_t, 3>(), h);
      if (count == 4) fn(std::integral_constant<size_t, 4>(), h);
    }
  }
}

// Queries of integer rows in 15 bits; fewer for rows so wide that their sums would leave 32 bits.
template <RowCodec kCodec>
HWY_INLINE void PrepareQuery(const DecodeState& state, size_t h, const float* from, size_t width,
                             float factor) {
  const DF df;
  VF sum = hn::Zero(df), largest = hn::Zero(df);
  for (size_t d = 0; d < width; d += kLanes) {
    const VF x = hn::LoadN(df, from + d, width - d);
    sum = hn::Add(sum, x);
    largest = hn::Max(largest, hn::Abs(x));
  }
  state.q_sum[h] = hn::ReduceSum(df, sum) * factor;
  const float steps = width <= 512 ? 32767.0f : 16777216.0f / static_cast<float>(width + 1);
  const float most = hn::ReduceMax(df, largest);
  state.q_scale[h] = most / steps * factor;
  const VF multiplier =
      hn::Set(df, kIntegerRows<kCodec> ? (most > 0.0f ? steps / most : 0.0f) : factor);
  for (size_t d = 0; d < state.q_stride; d += kLanes) {
    const VF x = d < width ? hn::Mul(hn::LoadN(df, from + d, width - d), multiplier) : hn::Zero(df);
    if constexpr (kIntegerRows<kCodec>) {
      const hn::Rebind<int16_t, DF> d16;
      int16_t* to = reinterpret_cast<int16_t*>(state.q) + h * state.q_stride;
      hn::Store(hn::DemoteTo(d16, hn::NearestInt(x)), d16, to + d);
    } else {
      hn::Store(x, df, state.q + h * state.q_stride + d);
    }
  }
}

template <RowCodec kCodec>
HWY_INLINE void BeginDecode(const DecodeState& state, const MixSpec& spec, const float* q,
                            size_t q_stride, size_t width, size_t o_floats) {
  for (size_t h = 0; h < state.queries; ++h) {
    PrepareQuery<kCodec>(state, h, q + h * q_stride, width, QueryFactor(spec));
    state.maxima[h] = kNoMaximum;
    std::memset(state.o + h * state.o_stride, 0, o_floats * sizeof(float));
  }
  std::memset(state.sums, 0, state.queries * kLanes * sizeof(float));
  std::memset(state.offsets, 0, state.queries * kLanes * sizeof(float));
}

// Rows that nobody sees may hold anything: keep their scale and minimum out of the sums.
HWY_INLINE void ClearHiddenMeta(const DecodeState& state, size_t rows) {
  for (size_t r = 0; r < rows; ++r) {
    if (state.visible[r] >= 0) continue;
    state.key_scale[r] = state.key_minimum[r] = state.value_scale[r] = state.value_minimum[r] =
        0.0f;
  }
}

// Weighted sum of a block's values, skipping rows that nobody sees.
template <RowCodec kCodec>
HWY_INLINE void AddBlockValues(const LaneView& lane, const RowBlock& block,
                               const DecodeState& state, bool masked) {
  const size_t row_bytes = RowDataBytes(kCodec, lane.values.width);
  const uint8_t* rows =
      reinterpret_cast<const uint8_t*>(lane.values.data) + uint64_t{block.begin} * row_bytes;
#if HR_MIX_I16
  if constexpr (kIntegerRows<kCodec>) {
    ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
      AddValuesI16<n()>(rows, row_bytes, lane.values.width, block.rows, state, h);
    });
    return;
  }
#endif
  for (size_t first = 0, end; first < block.rows; first = end) {
    end = block.rows;
    if (masked) {  // the next run of rows that somebody sees
      while (first < block.rows && state.visible[first] < 0) ++first;
      for (end = first; end < block.rows && state.visible[end] >= 0;) ++end;
      if (first == end) break;
    }
    ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
      AddValues<kCodec, n()>(rows, row_bytes, lane.values.width, first, end - first, state, h);
    });
  }
}

template <RowCodec kCodec>
HWY_INLINE void DecodeBlock(const LaneView& lane, const MixSpec& spec, const RowBlock& block,
                            bool masked, const int32_t* query_positions,
                            const PositionRange& queries, size_t o_floats,
                            const DecodeState& state) {
  if (masked && VisiblePositions(spec, block, queries, state.visible) == 0) return;
  if constexpr (kCodec == RowCodec::kI8Token) {
    LoadRowMeta(lane.keys.meta + 2 * uint64_t{block.begin}, block.rows, state.key_scale,
                state.key_minimum);
    LoadRowMeta(lane.values.meta + 2 * uint64_t{block.begin}, block.rows, state.value_scale,
                state.value_minimum);
    if (masked) ClearHiddenMeta(state, block.rows);
  }
  const size_t key_bytes = RowDataBytes(kCodec, lane.keys.width);
  const size_t value_bytes = RowDataBytes(kCodec, lane.values.width);
  const uint8_t* keys =
      reinterpret_cast<const uint8_t*>(lane.keys.data) + uint64_t{block.begin} * key_bytes;
  const uint8_t* values =
      reinterpret_cast<const uint8_t*>(lane.values.data) + uint64_t{block.begin} * value_bytes;
  ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
    ScoreRows<kCodec, n()>(keys, key_bytes, lane.keys.width, block.rows, state, h,
                           h == 0 ? values : nullptr, value_bytes);
  });
  for (size_t h = 0; h < state.queries; ++h) {
    SoftmaxRows<kCodec == RowCodec::kI8Token>(state, spec, h, block.rows, masked,
                                              query_positions[h], o_floats);
  }
  AddBlockValues<kCodec>(lane, block, state, masked);
}

// Writes { m, l, o } of every query.
template <RowCodec kCodec>
HWY_INLINE void EndDecode(const DecodeState& state, size_t width, float* partials) {
  const DF df;
  for (size_t h = 0; h < state.queries; ++h) {
    float* record = partials + h * attention::PartialFloats(static_cast<uint32_t>(width));
    const float* o = state.o + h * state.o_stride;
    const bool seen = !(state.maxima[h] <= kNoMaximum);  // NaN counts as seen
    const float offset = hn::ReduceSum(df, hn::Load(df, state.offsets + h * kLanes));
    record[0] = seen ? state.maxima[h] * kLn2 : kMinusInfinity;
    record[1] = hn::ReduceSum(df, hn::Load(df, state.sums + h * kLanes));
    for (size_t c = 0; c < width; ++c) record[2 + c] = o[ValueOrder<kCodec>(c)] + offset;
  }
}

template <RowCodec kCodec>
void DecodeMix(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
               const int32_t* query_positions, uint32_t queries, uint32_t row_begin,
               uint32_t row_end, float* partials, std::byte* scratch) {
  const DecodeState state(queries, lane.keys.width, lane.values.width, scratch);
  const size_t o_floats = (lane.values.width + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes);
  BeginDecode<kCodec>(state, spec, q, q_stride, lane.keys.width, o_floats);
  const PositionRange range = RangeOf(query_positions, queries);
  for (uint32_t begin = row_begin; begin < row_end; begin += kMixBlockRows) {
    const RowBlock block = MakeRowBlock(lane, begin, std::min(row_end - begin, kMixBlockRows));
    const Sight sight = SightOf(spec, block, range);
    if (sight == Sight::kNone) continue;
    DecodeBlock<kCodec>(lane, spec, block, sight == Sight::kSome, query_positions, range, o_floats,
                        state);
  }
  EndDecode<kCodec>(state, lane.values.width, partials);
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_DECODE_INL_H_
