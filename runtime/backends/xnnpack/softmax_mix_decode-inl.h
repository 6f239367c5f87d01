// Softmax mix for few queries (decode): every row is read from memory once for all of them.
//
// A block of rows goes through three passes while it is in the first-level cache: scores (dot
// products of four rows with up to four queries at once, so that sixteen sums share one reduction),
// online softmax, and the weighted sum of values. Rows of codes multiply in integers where the
// CPU has sums of such products: queries are quantised to 15 bits per query, weights to 15 bits per
// block, two orders of magnitude finer than the codes. The codec of the keys decides the first pass
// and that of the values the last, each through a table. Keys in two parts score in two states,
// added up.
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

// Dot products of query h become logits in the log2 domain: cap, then bias, then sight.
HWY_NOINLINE void FinishScores(const DecodeState& state, const MixSpec& spec, size_t h, size_t rows,
                               const float* bias, const int32_t* visible, int32_t query_position) {
  const DF df;
  float* scores = state.scores + h * kMixBlockRows;
  if (spec.softcap > 0.0f) CapScores(spec.softcap, (rows + kLanes - 1) / kLanes, kLanes, scores);
  for (size_t r = 0; r < rows && bias != nullptr; r += kLanes) {
    const VF add = hn::LoadN(df, bias + r, rows - r);
    hn::Store(hn::MulAdd(add, hn::Set(df, kLog2E), hn::Load(df, scores + r)), df, scores + r);
  }
  if (visible != nullptr) MaskScores(spec, visible, query_position, rows, scores);
}

// Online softmax of one block for query h: scores become weights p, and l grows.
HWY_NOINLINE void SoftmaxRows(const DecodeState& state, size_t h, size_t rows, size_t o_floats) {
  const DF df;
  float* scores = state.scores + h * kMixBlockRows;
  RaiseMaximum(state, h, CloseScores(scores, rows), o_floats);
  const VF running = hn::Set(df, state.maxima[h]);
  VF sum = hn::Load(df, state.sums + h * kLanes);
  for (size_t r = 0; r < rows; r += kLanes) {
    const VF p = Exp2(hn::Sub(hn::Load(df, scores + r), running));
    sum = hn::Add(sum, p);
    hn::Store(p, df, scores + r);
  }
  hn::Store(sum, df, state.sums + h * kLanes);
}

// Queries of one position set over a lane, block by block.
struct DecodeCall {
  const LaneView& lane;
  const MixSpec& spec;
  const int32_t* query_positions;
  PositionRange range;
  uint32_t row_end;
  size_t o_floats;          // floats of o that sums are kept in
  RowArray values;          // a latent's are its keys
  const DecodeState* tail;  // queries and scores of the keys' second part; null: there is none
};

HWY_INLINE void BeginDecode(const DecodeCall& call, const float* q, size_t q_stride,
                            const DecodeState& state) {
  for (size_t h = 0; h < state.queries; ++h) {
    KeyPartOf(call.lane.keys.codec)
        .prepare(state, h, q + h * q_stride, call.lane.keys.width, QueryFactor(call.spec));
    if (call.tail != nullptr) {
      const RowArray& tail = call.lane.key_tail;
      KeyPartOf(tail.codec)
          .prepare(*call.tail, h, q + h * q_stride + call.lane.keys.width, tail.width,
                   QueryFactor(call.spec));
    }
    state.maxima[h] = kNoMaximum;
    std::memset(state.o + h * state.o_stride, 0, call.o_floats * sizeof(float));
  }
  std::memset(state.sums, 0, state.queries * kLanes * sizeof(float));
  std::memset(state.offsets, 0, state.queries * kLanes * sizeof(float));
}

// Adds to the scores what the keys' second part gives.
HWY_NOINLINE void AddTailScores(const DecodeCall& call, const RowBlock& block,
                                const DecodeState& state) {
  const DF df;
  const RowArray& tail = call.lane.key_tail;
  KeyPartOf(tail.codec).score(tail, block, *call.tail, {});
  for (size_t h = 0; h < state.queries; ++h) {
    float* scores = state.scores + h * kMixBlockRows;
    const float* more = call.tail->scores + h * kMixBlockRows;
    for (size_t r = 0; r < block.rows; r += kLanes) {
      hn::Store(hn::Add(hn::Load(df, scores + r), hn::Load(df, more + r)), df, scores + r);
    }
  }
}

// Logits of a block's rows for all queries; false, and nothing done, when nobody sees one of them.
HWY_INLINE bool ScoreBlockRows(const DecodeCall& call, const RowBlock& block, Sight sight,
                               const Ahead& ahead, const DecodeState& state) {
  const bool masked = sight == Sight::kSome;
  if (masked && VisiblePositions(call.spec, block, call.range, state.visible) == 0) return false;
  KeyPartOf(call.lane.keys.codec).score(call.lane.keys, block, state, ahead);
  if (call.tail != nullptr) AddTailScores(call, block, state);
  for (size_t h = 0; h < state.queries; ++h) {
    FinishScores(state, call.spec, h, block.rows,
                 call.lane.bias == nullptr ? nullptr : call.lane.bias + block.begin,
                 masked ? state.visible : nullptr, call.query_positions[h]);
  }
  return true;
}

// Keys of the block behind this one. A last block may be shorter: what lies behind is fetched too.
HWY_INLINE Ahead NextKeys(const DecodeCall& call, const RowBlock& block) {
  const RowArray& keys = call.lane.keys;
  const size_t row_bytes = RowDataBytes(keys.codec, keys.width);
  const uint64_t row = uint64_t{block.begin} + block.rows;
  if (row >= call.row_end) return {};
  return {reinterpret_cast<const uint8_t*>(keys.data) + row * row_bytes, row_bytes};
}

HWY_INLINE void DecodeBlock(const DecodeCall& call, const RowBlock& block, Sight sight,
                            const DecodeState& state) {
  const RowArray& values = call.values;
  const size_t value_bytes = RowDataBytes(values.codec, values.width);
  const Ahead ahead = {
      reinterpret_cast<const uint8_t*>(values.data) + uint64_t{block.begin} * value_bytes,
      value_bytes};
  if (!ScoreBlockRows(call, block, sight, ahead, state)) return;
  for (size_t h = 0; h < state.queries; ++h) SoftmaxRows(state, h, block.rows, call.o_floats);
  AddValuesOf(values.codec)(values, block, sight == Sight::kSome ? state.visible : nullptr,
                            NextKeys(call, block), state);
}

// Writes { m, l, o } of every query.
HWY_INLINE void EndDecode(const DecodeState& state, const RowArray& values, float* partials) {
  const DF df;
  for (size_t h = 0; h < state.queries; ++h) {
    float* record = partials + h * attention::PartialFloats(values.width);
    const float* o = state.o + h * state.o_stride;
    const bool seen = !(state.maxima[h] <= kNoMaximum);  // NaN counts as seen
    const float offset = hn::ReduceSum(df, hn::Load(df, state.offsets + h * kLanes));
    record[0] = seen ? state.maxima[h] * kLn2 : kMinusInfinity;
    record[1] = hn::ReduceSum(df, hn::Load(df, state.sums + h * kLanes));
    for (size_t c = 0; c < values.width; ++c) {
      record[2 + c] = o[ValueOrder(values.codec, c)] + offset;
    }
  }
}

// Whether few queries of a latent go this way: where its codes multiply in integers. Of floats the
// tile kernel makes more, as it decodes a row once for all queries.
HWY_INLINE bool DecodesLatent(const LaneView& lane, uint32_t queries) {
  return kIntegerRows<RowCodec::kI8Token> && lane.values.data == nullptr &&
         lane.values.width == lane.keys.width && lane.keys.codec >= RowCodec::kI8Token &&
         queries <= kLatentQueries;
}

// For up to kDecodeQueries queries over keys in one part and values in rows of their own, and for
// what DecodesLatent takes.
HWY_NOINLINE void DecodeMix(const LaneView& lane, const MixSpec& spec, const float* q,
                            uint32_t q_stride, const int32_t* query_positions, uint32_t queries,
                            uint32_t row_begin, uint32_t row_end, float* partials,
                            std::byte* scratch) {
  const DecodeState state(queries, lane.keys.width, lane.values.width, scratch);
  const DecodeState tail(queries, lane.key_tail.width, 0, state.end);
  const DecodeCall call = {lane,
                           spec,
                           query_positions,
                           RangeOf(query_positions, queries),
                           row_end,
                           RoundUp(lane.values.width, std::max<size_t>(kRowBlock, 2 * kLanes)),
                           lane.values.data == nullptr ? lane.keys : lane.values,
                           lane.key_tail.width == 0 ? nullptr : &tail};
  BeginDecode(call, q, q_stride, state);
  for (uint32_t begin = row_begin; begin < row_end; begin += kMixBlockRows) {
    const RowBlock block = MakeRowBlock(lane, begin, std::min(row_end - begin, kMixBlockRows));
    const Sight sight = SightOf(spec, block, call.range);
    if (sight != Sight::kNone) DecodeBlock(call, block, sight, state);
  }
  EndDecode(state, call.values, partials);
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_DECODE_INL_H_
