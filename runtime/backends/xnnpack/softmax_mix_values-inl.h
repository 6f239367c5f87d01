// The weighted sum of a block's values.
#if defined(HR_SOFTMAX_MIX_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_VALUES_INL_H_
#undef HR_SOFTMAX_MIX_VALUES_INL_H_
#else
#define HR_SOFTMAX_MIX_VALUES_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix_scores-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// o[h, c0 .. c0 + kColumns * kLanes) += sum over rows of p[h, row] * value; `tail` > 0: only the
// first `tail` elements of the last vector exist.
template <RowCodec kCodec, size_t kQueries, size_t kColumns>
HWY_INLINE void AddColumns(const uint8_t* rows, size_t row_bytes, size_t count, const float* p,
                           float* o, size_t o_stride, size_t column, size_t tail,
                           const Ahead& ahead) {
  const DF df;
  VF acc[kQueries][kColumns];
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c)
      acc[h][c] = hn::Load(df, o + h * o_stride + column + c * kLanes);
  }
  for (size_t r = 0; r < count; ++r) {
    const uint8_t* row = rows + r * row_bytes;
    ahead.Fetch(r, 1);
    VF value[kColumns];
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c) {
      const size_t d = column + c * kLanes;
      value[c] = c + 1 == kColumns && HWY_UNLIKELY(tail > 0) ? LoadRowTail<kCodec>(row, d, tail)
                                                             : LoadRow<kCodec>(row, d);
    }
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      const VF weight = hn::Set(df, p[h * kMixBlockRows + r]);
      HR_UNROLL
      for (size_t c = 0; c < kColumns; ++c) acc[h][c] = hn::MulAdd(weight, value[c], acc[h][c]);
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c)
      hn::Store(acc[h][c], df, o + h * o_stride + column + c * kLanes);
  }
}

// Rows of float or int8 elements; the weights p stand in state.scores.
template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void AddValues(const uint8_t* rows, size_t row_bytes, size_t width, size_t first_row,
                            size_t count, const DecodeState& state, size_t first_query,
                            Ahead ahead) {
  const float* p = kCodec == RowCodec::kI8Token ? state.weights : state.scores;
  p += first_query * kMixBlockRows + first_row;
  float* o = state.o + first_query * state.o_stride;
  rows += first_row * row_bytes;
  size_t column = 0;
  for (; column + 4 * kLanes <= width; column += 4 * kLanes, ahead = {}) {
    AddColumns<kCodec, kQueries, 4>(rows, row_bytes, count, p, o, state.o_stride, column, 0, ahead);
  }
  for (; column + kLanes <= width; column += kLanes, ahead = {}) {
    AddColumns<kCodec, kQueries, 1>(rows, row_bytes, count, p, o, state.o_stride, column, 0, ahead);
  }
  if (column < width) {
    AddColumns<kCodec, kQueries, 1>(rows, row_bytes, count, p, o, state.o_stride, column,
                                    width - column, ahead);
  }
}

#if HR_MIX_I16
// Weights of one query in 15 bits, relative to the block's largest; the rest of the block becomes
// 0.
HWY_INLINE void QuantiseWeights(const DecodeState& state, size_t h, size_t rows) {
  const DF df;
  const hn::Rebind<int16_t, DF> d16;
  const float* p = state.weights + h * kMixBlockRows;
  VF most = hn::Zero(df);
  for (size_t r = 0; r < rows; r += kLanes) most = hn::Max(most, hn::Abs(hn::Load(df, p + r)));
  const float largest = hn::ReduceMax(df, most);
  // A weight so small that its inverse overflows adds nothing to any f32 sum.
  state.weight_scale[h] = largest > 1e-30f ? largest / 32767.0f : 0.0f;
  const VF factor = hn::Set(df, largest > 1e-30f ? 32767.0f / largest : 0.0f);
  int16_t* codes = reinterpret_cast<int16_t*>(state.weights + h * kMixBlockRows);
  for (size_t r = 0; r < kMixBlockRows; r += kLanes) {  // in place: codes are the shorter
    const VI code =
        r < rows ? hn::NearestInt(hn::Mul(hn::Load(df, p + r), factor)) : hn::Zero(DI());
    hn::Store(hn::DemoteTo(d16, code), d16, codes + r);
  }
}

// kLanes16 codes of an int8 row, or vector v of a block; `count` < kLanes16: only so many exist.
template <RowCodec kCodec>
HWY_INLINE hn::Vec<DI16> LoadCodes16(const uint8_t* at, size_t v, size_t count) {
  if constexpr (kInBlocks<kCodec>) {
    return LoadBlockCodes16<kCodec>(at, v);
  } else {
    const hn::Rebind<int8_t, DI16> d8;
    const int8_t* codes = reinterpret_cast<const int8_t*>(at) + v * kLanes16;
    return hn::PromoteTo(
        DI16(), HWY_LIKELY(count >= kLanes16) ? hn::LoadU(d8, codes) : hn::LoadN(d8, codes, count));
  }
}

// As AddColumns for rows of codes, two at a time: pairs of codes of the same channel times pairs of
// weights. A group of kLanes16 channels fills two vectors of sums in the order that InterleaveLower
// and InterleaveUpper leave; ValueOrder says which channel a lane holds. Hidden rows have weight 0.
// `rows` points at the first channel; `tail` > 0: only so many channels of the last group exist.
template <RowCodec kCodec, size_t kQueries, size_t kGroups>
HWY_INLINE void AddColumnsI16(const uint8_t* rows, size_t row_bytes, size_t count,
                              const DecodeState& state, size_t first_query, size_t column,
                              size_t tail, const Ahead& ahead) {
  const DF df;
  const DI di;
  const DI16 d16;
  VI acc[kQueries][2 * kGroups];
  VI unused = hn::Zero(di);
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < 2 * kGroups; ++c) acc[h][c] = hn::Zero(di);
  }
  for (size_t r = 0; r < count; r += 2) {
    ahead.Fetch(r, 2);
    const uint8_t* first = rows + r * row_bytes;
    const uint8_t* second = r + 1 < count ? first + row_bytes : first;  // its weight is then 0
    hn::Vec<DI16> pairs[2 * kGroups];
    HR_UNROLL
    for (size_t g = 0; g < kGroups; ++g) {
      const size_t exist = tail > 0 && g + 1 == kGroups ? tail : kLanes16;
      const auto a = LoadCodes16<kCodec>(first, g, exist);
      const auto b = LoadCodes16<kCodec>(second, g, exist);
      pairs[2 * g] = hn::InterleaveLower(d16, a, b);
      pairs[2 * g + 1] = hn::InterleaveUpper(d16, a, b);
    }
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      int32_t pair;
      const float* weights = state.weights + (first_query + h) * kMixBlockRows;
      std::memcpy(&pair, reinterpret_cast<const int16_t*>(weights) + r, sizeof(pair));
      const auto weight = hn::BitCast(d16, hn::Set(di, pair));
      HR_UNROLL
      for (size_t c = 0; c < 2 * kGroups; ++c) {
        acc[h][c] = hn::ReorderWidenMulAccumulate(di, pairs[c], weight, acc[h][c], unused);
      }
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    const VF scale = hn::Set(df, state.weight_scale[first_query + h]);
    float* o = state.o + (first_query + h) * state.o_stride + column;
    HR_UNROLL
    for (size_t c = 0; c < 2 * kGroups; ++c) {
      const VF sum = hn::ConvertTo(df, acc[h][c]);
      hn::Store(hn::MulAdd(sum, scale, hn::Load(df, o + c * kLanes)), df, o + c * kLanes);
    }
  }
}

template <size_t kQueries>
HWY_NOINLINE void AddValuesI16(const uint8_t* rows, size_t row_bytes, size_t width, size_t count,
                               const DecodeState& state, size_t first_query, Ahead ahead) {
  constexpr RowCodec kCodec = RowCodec::kI8Token;
  size_t column = 0;
  for (; column + 2 * kLanes16 <= width; column += 2 * kLanes16, ahead = {}) {
    AddColumnsI16<kCodec, kQueries, 2>(rows + column, row_bytes, count, state, first_query, column,
                                       0, ahead);
  }
  for (; column < width; column += kLanes16, ahead = {}) {
    const size_t tail = width - column < kLanes16 ? width - column : 0;
    AddColumnsI16<kCodec, kQueries, 1>(rows + column, row_bytes, count, state, first_query, column,
                                       tail, ahead);
  }
}
#endif  // HR_MIX_I16

// The channels of one block of 32, whose scales are already in state.weights. `rows` points at it.
template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void AddBlockColumns(const uint8_t* rows, size_t row_bytes, size_t count,
                                  const DecodeState& state, size_t first_query, size_t column,
                                  const Ahead& ahead) {
#if HR_QUADS
  if constexpr (kQuadValues<kCodec>) {
    AddQuads<kCodec, kQueries>(rows, row_bytes, count, state, first_query, column, kRowBlock,
                               ahead);
    return;
  }
#endif
#if HR_MIX_I16
  AddColumnsI16<kCodec, kQueries, kRowBlock / kLanes16>(rows, row_bytes, count, state, first_query,
                                                        column, 0, ahead);
#else
  const DF df;
  const float* p = state.weights + first_query * kMixBlockRows;
  float* o = state.o + first_query * state.o_stride + column;
  for (size_t v = 0; v < kBlockVectors; v += 2, o += 2 * kLanes) {
    VF acc[kQueries][2];
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      acc[h][0] = hn::Load(df, o + h * state.o_stride);
      acc[h][1] = hn::Load(df, o + h * state.o_stride + kLanes);
    }
    for (size_t r = 0; r < count; ++r) {
      if (v == 0) ahead.Fetch(r, 1);
      const VF first = LoadBlockCodes<kCodec>(rows + r * row_bytes, v);
      const VF second = LoadBlockCodes<kCodec>(rows + r * row_bytes, v + 1);
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
        const VF weight = hn::Set(df, p[h * kMixBlockRows + r]);
        acc[h][0] = hn::MulAdd(weight, first, acc[h][0]);
        acc[h][1] = hn::MulAdd(weight, second, acc[h][1]);
      }
    }
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      hn::Store(acc[h][0], df, o + h * state.o_stride);
      hn::Store(acc[h][1], df, o + h * state.o_stride + kLanes);
    }
  }
#endif
}

// --- the part of decode that knows the values' codec
// ----------------------------------------------

// state.weights of query h: p times the rows' scales.
template <RowCodec kCodec>
HWY_INLINE void WeighRows(const DecodeState& state, size_t h, const float* scales, size_t rows) {
  const DF df;
  const float* p = state.scores + h * kMixBlockRows;
  float* weights = state.weights + h * kMixBlockRows;
  for (size_t r = 0; r < rows; r += kLanes) {
    hn::Store(hn::Mul(hn::Load(df, p + r), hn::Load(df, scales + r)), df, weights + r);
  }
#if HR_QUADS
  if constexpr (kQuadValues<kCodec>) return QuantiseQuadWeights<kCodec>(state, h, rows);
#endif
#if HR_MIX_I16
  QuantiseWeights(state, h, rows);
#endif
}

// Rows that nobody sees may hold anything: keep their scales and minimums out of the sums. Lanes
// behind the last row are cleared too.
HWY_INLINE void ClearHidden(const int32_t* visible, size_t rows, float* scales) {
  for (size_t r = rows; r % kLanes != 0; ++r) scales[r] = 0.0f;
  for (size_t r = 0; r < rows && visible != nullptr; ++r) {
    if (visible[r] < 0) scales[r] = 0.0f;
  }
}

template <RowCodec kCodec>
HWY_NOINLINE void AddFloatValues(const RowArray& values, const RowBlock& block,
                                 const int32_t* visible, const Ahead& ahead,
                                 const DecodeState& state) {
  const uint8_t* rows = RowAt<kCodec>(values, block.begin);
  const size_t row_bytes = RowDataBytes(kCodec, values.width);
  for (size_t first = 0, end; first < block.rows; first = end) {
    end = block.rows;
    if (visible != nullptr) {  // the next run of rows that somebody sees
      while (first < block.rows && visible[first] < 0) ++first;
      for (end = first; end < block.rows && visible[end] >= 0;) ++end;
      if (first == end) break;
    }
    ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
      AddValues<kCodec, n()>(rows, row_bytes, values.width, first, end - first, state, h,
                             h == 0 ? ahead.From(first) : Ahead());
    });
  }
}

HWY_NOINLINE void AddI8TokenValues(const RowArray& values, const RowBlock& block,
                                   const int32_t* visible, const Ahead& ahead,
                                   const DecodeState& state) {
  const DF df;
  constexpr RowCodec kCodec = RowCodec::kI8Token;
  float *scales = state.value_scale, *minimums = state.row_scale;
  LoadRowMeta(values.meta + 2 * uint64_t{block.begin}, block.rows, scales, minimums);
  ClearHidden(visible, block.rows, scales);
  ClearHidden(visible, block.rows, minimums);
  for (size_t h = 0; h < state.queries; ++h) {
    const float* p = state.scores + h * kMixBlockRows;
    VF offset = hn::Load(df, state.offsets + h * kLanes);
    for (size_t r = 0; r < block.rows; r += kLanes) {
      offset = hn::MulAdd(hn::Load(df, p + r), hn::Load(df, minimums + r), offset);
    }
    hn::Store(offset, df, state.offsets + h * kLanes);
    WeighRows<kCodec>(state, h, scales, block.rows);
  }
  const uint8_t* rows = RowAt<kCodec>(values, block.begin);
  const size_t row_bytes = RowDataBytes(kCodec, values.width);
  ForQueryBlocks<kValueQueries<kCodec>>(state.queries, [&](auto n, size_t h) HWY_ATTR {
#if HR_QUADS
    if constexpr (kQuadValues<kCodec>) {
      return AddQuads<kCodec, n()>(rows, row_bytes, block.rows, state, h, 0, values.width,
                                   h == 0 ? ahead : Ahead());
    }
#endif
#if HR_MIX_I16
    AddValuesI16<n()>(rows, row_bytes, values.width, block.rows, state, h,
                      h == 0 ? ahead : Ahead());
#else
    AddValues<kCodec, n()>(rows, row_bytes, values.width, 0, block.rows, state, h,
                             h == 0 ? ahead : Ahead());
#endif
  });
}

template <RowCodec kCodec>
HWY_NOINLINE void AddBlockValues(const RowArray& values, const RowBlock& block,
                                 const int32_t* visible, const Ahead& ahead,
                                 const DecodeState& state) {
  const size_t blocks = (values.width + kRowBlock - 1) / kRowBlock;
  const size_t row_bytes = RowDataBytes(kCodec, values.width);
  const uint8_t* rows = RowAt<kCodec>(values, block.begin);
  LoadBlockScales(values, block.begin, block.rows, state.row_scale);
  TransposeScales(state.row_scale, block.rows, blocks, state.value_scale);
  for (size_t b = 0; b < blocks; ++b, rows += RowDataBytes(kCodec, kRowBlock)) {
    float* scales = state.value_scale + b * kMixBlockRows;
    ClearHidden(visible, block.rows, scales);
    for (size_t h = 0; h < state.queries; ++h) WeighRows<kCodec>(state, h, scales, block.rows);
    ForQueryBlocks<kValueQueries<kCodec>>(state.queries, [&](auto n, size_t h) HWY_ATTR {
      AddBlockColumns<kCodec, n()>(rows, row_bytes, block.rows, state, h, b * kRowBlock,
                                   h == 0 && b == 0 ? ahead : Ahead());
    });
  }
}

// What decode does with values of one codec: adds a block's rows, weighted with p in state.scores
// (0 behind the last row), to state.o and state.offsets. visible: null when every row is seen.
using AddValuesFn = void (*)(const RowArray& values, const RowBlock& block, const int32_t* visible,
                             const Ahead& ahead, const DecodeState& state);

HWY_INLINE AddValuesFn AddValuesOf(RowCodec codec) {
  constexpr AddValuesFn kParts[kRowCodecs] = {
      AddFloatValues<RowCodec::kF32>, AddFloatValues<RowCodec::kF16>, AddI8TokenValues,
      AddBlockValues<RowCodec::kBlock8>, AddBlockValues<RowCodec::kBlock4>};
  return kParts[static_cast<int>(codec)];
}

// Where the sum of channel c lies in o.
HWY_INLINE size_t ValueOrder(RowCodec codec, size_t c) {
  if (HR_MIX_I16 && codec >= RowCodec::kI8Token && !GoAsQuads(codec, RowCodec::kBlock4)) {
    // Inside a group of 2 * kLanes channels: block of 8 channels, then which half of it, then lane.
    const size_t group = c / (2 * kLanes) * (2 * kLanes), k = c % (2 * kLanes);
    return group + (k % 8 / 4) * kLanes + k / 8 * 4 + k % 4;
  }
  return c;
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_VALUES_INL_H_
