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

#include "backends/xnnpack/softmax_mix-inl.h"

#undef HR_MIX_I16
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
#define HR_MIX_I16 1  // multiply-add of 16-bit pairs into 32 bits is one or two instructions
#else
#define HR_MIX_I16 0
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

inline constexpr size_t kDecodeQueries = 8;  // more go to the tile kernel
// Queries whose sums are kept in registers together: 4 rows x 4 queries need 16 of them.
inline constexpr size_t kQueryBlock = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM ? 4 : 2;
inline constexpr size_t kBlocksPerVector = kLanes / 4;  // 128-bit blocks

template <RowCodec kCodec>
inline constexpr bool kIntegerRows = kCodec == RowCodec::kI8Token&& HR_MIX_I16;

// Everything that lives across blocks, carved out of the caller's scratch.
struct DecodeState {
  DecodeState(uint32_t queries_in, uint32_t key_width, uint32_t value_width, std::byte* scratch)
      : queries(queries_in),
        q_stride((key_width + 63) / 64 * 64),
        o_stride((value_width + 63) / 64 * 64) {
    float* next = reinterpret_cast<float*>(scratch);
    const auto take = [&next](size_t floats) {
      float* taken = next;
      next += (floats + 15) / 16 * 16;
      return taken;
    };
    q = take(kDecodeQueries * q_stride);
    o = take(kDecodeQueries * o_stride);
    scores = take(kDecodeQueries * kMixBlockRows);
    weights = reinterpret_cast<int16_t*>(take(kDecodeQueries * kMixBlockRows / 2));
    sums = take(kDecodeQueries * kLanes);
    offsets = take(kDecodeQueries * kLanes);
    maxima = take(kDecodeQueries);
    q_scale = take(kDecodeQueries);
    q_sum = take(kDecodeQueries);
    weight_scale = take(kDecodeQueries);
    key_scale = take(kMixBlockRows);
    key_minimum = take(kMixBlockRows);
    value_scale = take(kMixBlockRows);
    value_minimum = take(kMixBlockRows);
    visible = reinterpret_cast<int32_t*>(take(kMixBlockRows));
    spare_rows = reinterpret_cast<uint8_t*>(take(16 * q_stride));
  }

  uint32_t queries;
  size_t q_stride;      // elements
  size_t o_stride;      // floats
  float* q;             // [queries, q_stride] scaled and padded with 0; int16 for integer rows
  float* o;             // [queries, o_stride] not normalised; order of lanes: see AddValuesI16
  float* scores;        // [queries, kMixBlockRows], then the weights p
  int16_t* weights;     // [queries, kMixBlockRows] for integer rows
  float* sums;          // l, per lane
  float* offsets;       // sum of p times the rows' minimum, per lane
  float* maxima;        // m, log2 domain
  float* q_scale;       // integer rows: value of one step of q
  float* q_sum;         // int8 rows: sum of q, for the rows' minimum
  float* weight_scale;  // integer rows: value of one step of the weights; 0: block unseen
  float* key_scale;     // [kMixBlockRows]
  float* key_minimum;
  float* value_scale;
  float* value_minimum;
  int32_t* visible;     // [kMixBlockRows] position, or -1 where nobody looks
  uint8_t* spare_rows;  // a copy of rows when there are fewer than a tile takes
};

// --- scores
// ---------------------------------------------------------------------------------------

// In each 128-bit block: the sums over that block of a, b, c and d.
template <class V>
HWY_INLINE V SumFour(V a, V b, V c, V d) {
  const hn::DFromV<V> dv;
  const hn::RepartitionToWide<hn::DFromV<V>> dw;
  const V ab = hn::Add(hn::InterleaveLower(dv, a, b), hn::InterleaveUpper(dv, a, b));
  const V cd = hn::Add(hn::InterleaveLower(dv, c, d), hn::InterleaveUpper(dv, c, d));
  const auto low = hn::InterleaveLower(dw, hn::BitCast(dw, ab), hn::BitCast(dw, cd));
  const auto high = hn::InterleaveUpper(dw, hn::BitCast(dw, ab), hn::BitCast(dw, cd));
  return hn::Add(hn::BitCast(dv, low), hn::BitCast(dv, high));
}

// Block i of the result: the sum of v[i]'s blocks.
template <class V>
HWY_INLINE V SumAcrossBlocks(const V* v) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  const hn::DFromV<V> dv;
  const V even =
      hn::Add(hn::ConcatLowerLower(dv, v[2], v[0]), hn::ConcatUpperUpper(dv, v[2], v[0]));
  const V odd = hn::Add(hn::ConcatLowerLower(dv, v[3], v[1]), hn::ConcatUpperUpper(dv, v[3], v[1]));
  return hn::Add(hn::OddEvenBlocks(odd, even),
                 hn::SwapAdjacentBlocks(hn::OddEvenBlocks(even, odd)));
#elif HWY_TARGET == HWY_AVX2
  return hn::Add(hn::OddEvenBlocks(v[1], v[0]),
                 hn::SwapAdjacentBlocks(hn::OddEvenBlocks(v[0], v[1])));
#else
  return v[0];
#endif
}

template <size_t kBlock, class V>
HWY_INLINE void StoreBlock(V v, float* to) {
  const hn::Full128<float> d4;
  const hn::Full128<hn::TFromV<V>> dv4;
  hn::StoreU(hn::BitCast(d4, hn::BitCast(dv4, hn::ExtractBlock<kBlock>(v))), d4, to);
}

// Reduces acc[row][query] of 4 * kQuads rows; score of query h, row r goes to scores[h * 64 + r].
template <size_t kQueries, size_t kQuads, class V>
HWY_INLINE void StoreSums(V (&acc)[4 * kQuads][kQueries], float* scores) {
  constexpr size_t kVectors = kQueries * kQuads;
  constexpr size_t kGroup = HWY_MAX(kBlocksPerVector, 1);
  V sums[(kVectors + kGroup - 1) / kGroup * kGroup];
  HR_UNROLL
  for (size_t i = 0; i < sizeof(sums) / sizeof(V); ++i) {
    const size_t h = HWY_MIN(i, kVectors - 1) / kQuads, quad = HWY_MIN(i, kVectors - 1) % kQuads;
    sums[i] = i < kVectors ? SumFour(acc[4 * quad][h], acc[4 * quad + 1][h], acc[4 * quad + 2][h],
                                     acc[4 * quad + 3][h])
                           : sums[kVectors - 1];
  }
  HR_UNROLL
  for (size_t i = 0; i < kVectors; i += kGroup) {
    const V all = SumAcrossBlocks(sums + i);
    const auto place = [&](size_t k) HWY_ATTR {
      return scores + (i + k) / kQuads * kMixBlockRows + (i + k) % kQuads * 4;
    };
    StoreBlock<0>(all, place(0));
    if constexpr (kGroup > 1) {
      if (i + 1 < kVectors) StoreBlock<1>(all, place(1));
    }
    if constexpr (kGroup > 2) {
      if (i + 2 < kVectors) StoreBlock<2>(all, place(2));
      if (i + 3 < kVectors) StoreBlock<3>(all, place(3));
    }
  }
}

// Dot products of 4 * kQuads rows with kQueries queries.
template <RowCodec kCodec, size_t kQueries, size_t kQuads>
HWY_INLINE void ScoreTile(const uint8_t* rows, size_t row_bytes, size_t width, const float* q,
                          size_t q_stride, float* scores) {
  constexpr size_t kRows = 4 * kQuads;
  const DF df;
  VF acc[kRows][kQueries];
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::Zero(df);
  }
  const size_t whole = width / kLanes * kLanes;
  for (size_t d = 0; d < whole; d += kLanes) {
    VF query[kQueries];
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) query[h] = hn::Load(df, q + h * q_stride + d);
    HR_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const VF key = LoadRow<kCodec>(rows + r * row_bytes, d);
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::MulAdd(key, query[h], acc[r][h]);
    }
  }
  if (whole < width) {
    VF query[kQueries];
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) query[h] = hn::Load(df, q + h * q_stride + whole);
    HR_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const VF key = LoadRowTail<kCodec>(rows + r * row_bytes, whole, width - whole);
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::MulAdd(key, query[h], acc[r][h]);
    }
  }
  StoreSums<kQueries, kQuads>(acc, scores);
}

#if HR_MIX_I16
using DI16 = hn::Repartition<int16_t, DI>;
inline constexpr size_t kLanes16 = 2 * kLanes;

// As above for int8 rows and queries in int16; sums are int32, stored in place of floats.
template <size_t kQueries, size_t kQuads>
HWY_INLINE void ScoreTileI16(const uint8_t* rows, size_t row_bytes, size_t width, const int16_t* q,
                             size_t q_stride, float* scores) {
  constexpr size_t kRows = 4 * kQuads;
  const DI di;
  const DI16 d16;
  const hn::Rebind<int8_t, DI16> d8;
  VI acc[kRows][kQueries];
  VI unused = hn::Zero(di);
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::Zero(di);
  }
  for (size_t d = 0; d < width; d += kLanes16) {
    const size_t count = width - d;
    hn::Vec<DI16> query[kQueries];
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) query[h] = hn::Load(d16, q + h * q_stride + d);
    HR_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const int8_t* codes = reinterpret_cast<const int8_t*>(rows + r * row_bytes) + d;
      const auto key = hn::PromoteTo(
          d16, HWY_LIKELY(count >= kLanes16) ? hn::LoadU(d8, codes) : hn::LoadN(d8, codes, count));
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
        acc[r][h] = hn::ReorderWidenMulAccumulate(di, key, query[h], acc[r][h], unused);
      }
    }
  }
  StoreSums<kQueries, kQuads>(acc, scores);
}
#endif  // HR_MIX_I16

// Scores of all rows of a block with kQueries queries. `ahead`: rows that will be read next,
// fetched meanwhile; null for none.
template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void ScoreRows(const uint8_t* rows, size_t row_bytes, size_t width, size_t count,
                            const DecodeState& state, size_t first_query, const uint8_t* ahead,
                            size_t ahead_row_bytes) {
  constexpr size_t kQuads = HWY_MAX(kQueryBlock / kQueries, 1);
  constexpr size_t kRows = 4 * kQuads;
  float* scores = state.scores + first_query * kMixBlockRows;
  const auto tile = [&](const uint8_t* from, float* to) HWY_ATTR {
#if HR_MIX_I16
    if constexpr (kIntegerRows<kCodec>) {
      const int16_t* q = reinterpret_cast<const int16_t*>(state.q) + first_query * state.q_stride;
      ScoreTileI16<kQueries, kQuads>(from, row_bytes, width, q, state.q_stride, to);
      return;
    }
#endif
    const float* q = state.q + first_query * state.q_stride;
    ScoreTile<kCodec, kQueries, kQuads>(from, row_bytes, width, q, state.q_stride, to);
  };
  if (count < kRows) {  // too few to tile: work on a copy, rows behind `count` repeat the last
    for (size_t r = 0; r < kRows; ++r) {
      std::memcpy(state.spare_rows + r * row_bytes, rows + std::min(r, count - 1) * row_bytes,
                  row_bytes);
    }
    tile(state.spare_rows, scores);
    return;
  }
  size_t r = 0;
  for (; r + kRows <= count; r += kRows) {
    if (ahead != nullptr) {
      const uint8_t* from = ahead + r * ahead_row_bytes;
      for (size_t byte = 0; byte < kRows * ahead_row_bytes; byte += 64) hwy::Prefetch(from + byte);
    }
    tile(rows + r * row_bytes, scores + r);
  }
  if (r < count) tile(rows + (count - kRows) * row_bytes, scores + (count - kRows));
}

// --- softmax
// --------------------------------------------------------------------------------------

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

// --- values
// ---------------------------------------------------------------------------------------

// o[h, c0 .. c0 + kColumns * kLanes) += sum over rows of p[h, row] * value; `tail` > 0: only the
// first `tail` elements of the last vector exist.
template <RowCodec kCodec, size_t kQueries, size_t kColumns>
HWY_INLINE void AddColumns(const uint8_t* rows, size_t row_bytes, size_t count, const float* p,
                           float* o, size_t o_stride, size_t column, size_t tail) {
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

template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void AddValues(const uint8_t* rows, size_t row_bytes, size_t width, size_t first_row,
                            size_t count, const DecodeState& state, size_t first_query) {
  const float* p = state.scores + first_query * kMixBlockRows + first_row;
  float* o = state.o + first_query * state.o_stride;
  rows += first_row * row_bytes;
  size_t column = 0;
  for (; column + 4 * kLanes <= width; column += 4 * kLanes) {
    AddColumns<kCodec, kQueries, 4>(rows, row_bytes, count, p, o, state.o_stride, column, 0);
  }
  for (; column + kLanes <= width; column += kLanes) {
    AddColumns<kCodec, kQueries, 1>(rows, row_bytes, count, p, o, state.o_stride, column, 0);
  }
  if (column < width) {
    AddColumns<kCodec, kQueries, 1>(rows, row_bytes, count, p, o, state.o_stride, column,
                                    width - column);
  }
}

#if HR_MIX_I16
// As AddColumns for int8 rows, two at a time: pairs of codes of the same channel times pairs of
// weights. A group of kLanes16 channels fills two vectors of sums in the order that InterleaveLower
// and InterleaveUpper leave; ValueOrder says which channel a lane holds. Hidden rows have weight 0.
template <size_t kQueries, size_t kGroups>
HWY_INLINE void AddColumnsI16(const uint8_t* rows, size_t row_bytes, size_t count,
                              const DecodeState& state, size_t first_query, size_t column,
                              size_t tail) {
  const DF df;
  const DI di;
  const DI16 d16;
  const hn::Rebind<int8_t, DI16> d8;
  const int16_t* weights = state.weights + first_query * kMixBlockRows;
  VI acc[kQueries][2 * kGroups];
  VI unused = hn::Zero(di);
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < 2 * kGroups; ++c) acc[h][c] = hn::Zero(di);
  }
  for (size_t r = 0; r < count; r += 2) {
    const int8_t* first = reinterpret_cast<const int8_t*>(rows + r * row_bytes) + column;
    const int8_t* second = r + 1 < count ? first + row_bytes : first;  // its weight is then 0
    hn::Vec<DI16> pairs[2 * kGroups];
    HR_UNROLL
    for (size_t g = 0; g < kGroups; ++g) {
      const size_t d = g * kLanes16;
      const bool partial = HWY_UNLIKELY(tail > 0) && g + 1 == kGroups;
      const auto a =
          hn::PromoteTo(d16, partial ? hn::LoadN(d8, first + d, tail) : hn::LoadU(d8, first + d));
      const auto b =
          hn::PromoteTo(d16, partial ? hn::LoadN(d8, second + d, tail) : hn::LoadU(d8, second + d));
      pairs[2 * g] = hn::InterleaveLower(d16, a, b);
      pairs[2 * g + 1] = hn::InterleaveUpper(d16, a, b);
    }
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      int32_t pair;
      std::memcpy(&pair, weights + h * kMixBlockRows + r, sizeof(pair));
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
                               const DecodeState& state, size_t first_query) {
  size_t column = 0;
  for (; column + 2 * kLanes16 <= width; column += 2 * kLanes16) {
    AddColumnsI16<kQueries, 2>(rows, row_bytes, count, state, first_query, column, 0);
  }
  for (; column < width; column += kLanes16) {
    const size_t tail = width - column < kLanes16 ? width - column : 0;
    AddColumnsI16<kQueries, 1>(rows, row_bytes, count, state, first_query, column, tail);
  }
}
#endif  // HR_MIX_I16

// Where the sum of channel c lies in o.
template <RowCodec kCodec>
HWY_INLINE size_t ValueOrder(size_t c) {
  if constexpr (kIntegerRows<kCodec>) {
    // Inside a group of 2 * kLanes channels: block of 8 channels, then which half of it, then lane.
    const size_t group = c / (2 * kLanes) * (2 * kLanes), k = c % (2 * kLanes);
    return group + (k % 8 / 4) * kLanes + k / 8 * 4 + k % 4;
  } else {
    return c;
  }
}

// --- the whole call
// -------------------------------------------------------------------------------

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
  const size_t row_bytes = RowDataBytes(kCodec, lane.value_width);
  const uint8_t* rows =
      reinterpret_cast<const uint8_t*>(lane.values) + uint64_t{block.begin} * row_bytes;
#if HR_MIX_I16
  if constexpr (kIntegerRows<kCodec>) {
    ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
      AddValuesI16<n()>(rows, row_bytes, lane.value_width, block.rows, state, h);
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
      AddValues<kCodec, n()>(rows, row_bytes, lane.value_width, first, end - first, state, h);
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
    LoadRowMeta(lane.key_meta + 2 * uint64_t{block.begin}, block.rows, state.key_scale,
                state.key_minimum);
    LoadRowMeta(lane.value_meta + 2 * uint64_t{block.begin}, block.rows, state.value_scale,
                state.value_minimum);
    if (masked) ClearHiddenMeta(state, block.rows);
  }
  const size_t key_bytes = RowDataBytes(kCodec, lane.key_width);
  const size_t value_bytes = RowDataBytes(kCodec, lane.value_width);
  const uint8_t* keys =
      reinterpret_cast<const uint8_t*>(lane.keys) + uint64_t{block.begin} * key_bytes;
  const uint8_t* values =
      reinterpret_cast<const uint8_t*>(lane.values) + uint64_t{block.begin} * value_bytes;
  ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
    ScoreRows<kCodec, n()>(keys, key_bytes, lane.key_width, block.rows, state, h,
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
  const DecodeState state(queries, lane.key_width, lane.value_width, scratch);
  const size_t o_floats = (lane.value_width + 2 * kLanes - 1) / (2 * kLanes) * (2 * kLanes);
  BeginDecode<kCodec>(state, spec, q, q_stride, lane.key_width, o_floats);
  const PositionRange range = RangeOf(query_positions, queries);
  for (uint32_t begin = row_begin; begin < row_end; begin += kMixBlockRows) {
    const RowBlock block = MakeRowBlock(lane, begin, std::min(row_end - begin, kMixBlockRows));
    const Sight sight = SightOf(spec, block, range);
    if (sight == Sight::kNone) continue;
    DecodeBlock<kCodec>(lane, spec, block, sight == Sight::kSome, query_positions, range, o_floats,
                        state);
  }
  EndDecode<kCodec>(state, lane.value_width, partials);
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_DECODE_INL_H_
