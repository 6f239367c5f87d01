// The scores of a block of rows: dot products of four rows with up to four queries at once.
#if defined(HR_SOFTMAX_MIX_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_SCORES_INL_H_
#undef HR_SOFTMAX_MIX_SCORES_INL_H_
#else
#define HR_SOFTMAX_MIX_SCORES_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix_state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

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

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_SCORES_INL_H_
