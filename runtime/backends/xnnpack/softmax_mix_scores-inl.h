// The scores of a block of rows: dot products of four rows with up to four queries at once.
#if defined(HR_SOFTMAX_MIX_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_SCORES_INL_H_
#undef HR_SOFTMAX_MIX_SCORES_INL_H_
#else
#define HR_SOFTMAX_MIX_SCORES_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix_quads-inl.h"

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

// As ScoreTile for rows in blocks: each block's codes times its scale. scales: [row][block].
template <RowCodec kCodec, size_t kQueries, size_t kQuads>
HWY_INLINE void ScoreTileBlocks(const uint8_t* rows, size_t row_bytes, size_t blocks,
                                const float* scales, const float* q, size_t q_stride,
                                float* scores) {
  constexpr size_t kRows = 4 * kQuads;
  constexpr size_t kBlockBytes = RowDataBytes(kCodec, kRowBlock);
  const DF df;
  VF acc[kRows][kQueries];
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::Zero(df);
  }
  for (size_t b = 0; b < blocks; ++b) {
    HR_UNROLL
    for (size_t v = 0; v < kBlockVectors; ++v) {
      VF query[kQueries];
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
        query[h] = hn::Load(df, q + h * q_stride + b * kRowBlock + v * kLanes);
      }
      HR_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        const VF codes = LoadBlockCodes<kCodec>(rows + r * row_bytes + b * kBlockBytes, v);
        const VF key = hn::Mul(codes, hn::Set(df, scales[r * blocks + b]));
        HR_UNROLL
        for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::MulAdd(key, query[h], acc[r][h]);
      }
    }
  }
  StoreSums<kQueries, kQuads>(acc, scores);
}

#if HR_MIX_I16 && !HR_QUADS
// As above in integers inside a block, in float across blocks.
template <RowCodec kCodec, size_t kQueries, size_t kQuads>
HWY_INLINE void ScoreTileBlocksI16(const uint8_t* rows, size_t row_bytes, size_t blocks,
                                   const float* scales, const int16_t* q, size_t q_stride,
                                   float* scores) {
  constexpr size_t kRows = 4 * kQuads, kVectors = kRowBlock / kLanes16;
  constexpr size_t kBlockBytes = RowDataBytes(kCodec, kRowBlock);
  const DF df;
  const DI di;
  const DI16 d16;
  VF acc[kRows][kQueries];
  VI unused = hn::Zero(di);
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) acc[r][h] = hn::Zero(df);
  }
  for (size_t b = 0; b < blocks; ++b) {
    hn::Vec<DI16> query[kVectors][kQueries];
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) {
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
        query[v][h] = hn::Load(d16, q + h * q_stride + b * kRowBlock + v * kLanes16);
      }
    }
    HR_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const VF scale = hn::Set(df, scales[r * blocks + b]);
      VI sums[kQueries];
      HR_UNROLL
      for (size_t v = 0; v < kVectors; ++v) {
        const auto key = LoadBlockCodes16<kCodec>(rows + r * row_bytes + b * kBlockBytes, v);
        HR_UNROLL
        for (size_t h = 0; h < kQueries; ++h) {
          sums[h] = hn::ReorderWidenMulAccumulate(di, key, query[v][h],
                                                  v == 0 ? hn::Zero(di) : sums[h], unused);
        }
      }
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
        acc[r][h] = hn::MulAdd(hn::ConvertTo(df, sums[h]), scale, acc[r][h]);
      }
    }
  }
  StoreSums<kQueries, kQuads>(acc, scores);
}
#endif  // HR_MIX_I16 && !HR_QUADS

// Rows of one block of the cache, and where their scales lie.
struct KeyRows {
  const uint8_t* rows;
  size_t row_bytes;
  size_t width;
  const float* scales;  // of rows in blocks: [row][scales_per_row]
  size_t scales_per_row;
};

template <RowCodec kCodec, size_t kQueries, size_t kQuads>
HWY_INLINE void ScoreAnyTile(const KeyRows& keys, const DecodeState& state, size_t first_query,
                             float* scores) {
  const float* q = state.q + first_query * state.q_stride;
  [[maybe_unused]] const int16_t* q16 =
      reinterpret_cast<const int16_t*>(state.q) + first_query * state.q_stride;
#if HR_MIX_I16
  if constexpr (kCodec == RowCodec::kI8Token) {
    return ScoreTileI16<kQueries, kQuads>(keys.rows, keys.row_bytes, keys.width, q16,
                                          state.q_stride, scores);
  }
#endif
#if HR_MIX_I16 && !HR_QUADS
  if constexpr (kInBlocks<kCodec>) {
    return ScoreTileBlocksI16<kCodec, kQueries, kQuads>(
        keys.rows, keys.row_bytes, keys.scales_per_row, keys.scales, q16, state.q_stride, scores);
  }
#endif
  if constexpr (kInBlocks<kCodec>) {
    ScoreTileBlocks<kCodec, kQueries, kQuads>(keys.rows, keys.row_bytes, keys.scales_per_row,
                                              keys.scales, q, state.q_stride, scores);
  } else {
    ScoreTile<kCodec, kQueries, kQuads>(keys.rows, keys.row_bytes, keys.width, q, state.q_stride,
                                        scores);
  }
}

// Scores of all rows of a block with kQueries queries.
template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void ScoreRows(KeyRows keys, size_t count, const DecodeState& state,
                            size_t first_query, const Ahead& ahead) {
  constexpr size_t kQuads = HWY_MAX(kQueryBlock / kQueries, 1);
  constexpr size_t kRows = 4 * kQuads;
  float* scores = state.scores + first_query * kMixBlockRows;
  if (count < kRows) {  // too few to tile: work on a copy, rows behind `count` repeat the last
    for (size_t r = 0; r < kRows; ++r) {
      std::memcpy(state.spare_rows + r * keys.row_bytes,
                  keys.rows + std::min(r, count - 1) * keys.row_bytes, keys.row_bytes);
    }
    keys.rows = state.spare_rows;
    ScoreAnyTile<kCodec, kQueries, kQuads>(keys, state, first_query, scores);
    return;
  }
  for (size_t r = 0; r < count; r += kRows) {
    ahead.Fetch(r, std::min(kRows, count - r));
    const size_t at = std::min(r, count - kRows);
    KeyRows tile = keys;
    tile.rows += at * keys.row_bytes;
    tile.scales += at * keys.scales_per_row;
    ScoreAnyTile<kCodec, kQueries, kQuads>(tile, state, first_query, scores + at);
  }
}

// Scores of int8 rows from dot products of codes: times the row's scale, plus its minimum times sum
// q.
HWY_INLINE void ScaleCodes(const DecodeState& state, size_t h, size_t rows) {
  const DF df;
  const VF q_sum = hn::Set(df, state.q_sum[h]);
  float* scores = state.scores + h * kMixBlockRows;
  for (size_t r = 0; r < rows; r += kLanes) {
    VF x = hn::Load(df, scores + r);
    if constexpr (kIntegerRows<RowCodec::kI8Token>) {
      if (!kQuadKeys<RowCodec::kI8Token>) x = hn::ConvertTo(df, hn::BitCast(DI(), x));
      x = hn::Mul(x, hn::Set(df, state.q_scale[h]));
    }
    const VF offset = hn::Mul(hn::Load(df, state.key_minimum + r), q_sum);
    hn::Store(hn::MulAdd(x, hn::Load(df, state.key_scale + r), offset), df, scores + r);
  }
}

// Scores of rows in blocks, summed with the queries' codes.
HWY_INLINE void ScaleQueries(const DecodeState& state, size_t h, size_t rows) {
  const DF df;
  float* scores = state.scores + h * kMixBlockRows;
  for (size_t r = 0; r < rows; r += kLanes) {
    hn::Store(hn::Mul(hn::Load(df, scores + r), hn::Set(df, state.q_scale[h])), df, scores + r);
  }
}

// Calls fn<n>(first) for queries in groups of at most kMost.
template <size_t kMost = kQueryBlock, class Fn>
HWY_INLINE void ForQueryBlocks(size_t queries, const Fn& fn) {
  for (size_t h = 0; h < queries; h += kMost) {
    const size_t count = std::min(queries - h, kMost);
    if (count == 1) fn(std::integral_constant<size_t, 1>(), h);
    if (count == 2) fn(std::integral_constant<size_t, 2>(), h);
    if constexpr (kMost > 2) {
      if (count == 3) fn(std::integral_constant<size_t, 3>(), h);
      if (count == 4) fn(std::integral_constant<size_t, 4>(), h);
    }
  }
}

// What decode does with keys of one codec.
struct KeyPart {
  // Brings query h into the form that the dot products take.
  void (*prepare)(const DecodeState& state, size_t h, const float* from, size_t width,
                  float factor);
  // Dot products of a block's rows with all queries into state.scores. Hidden rows may score
  // anything.
  void (*score)(const RowArray& keys, const RowBlock& block, const DecodeState& state,
                const Ahead& ahead);
};

// Queries of integer rows in 15 bits.
template <RowCodec kCodec>
HWY_NOINLINE void PrepareQuery(const DecodeState& state, size_t h, const float* from, size_t width,
                               float factor) {
  const DF df;
  VF sum = hn::Zero(df), largest = hn::Zero(df);
  for (size_t d = 0; d < width; d += kLanes) {
    const VF x = hn::LoadN(df, from + d, width - d);
    sum = hn::Add(sum, x);
    largest = hn::Max(largest, hn::Abs(x));
  }
  state.q_sum[h] = hn::ReduceSum(df, sum) * factor;
  const float steps = QuerySteps<kCodec>(width, 32767.0f);
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
HWY_NOINLINE void ScoreKeys(const RowArray& keys, const RowBlock& block, const DecodeState& state,
                            const Ahead& ahead) {
  const uint8_t* rows = RowAt<kCodec>(keys, block.begin);
  const size_t row_bytes = RowDataBytes(kCodec, keys.width);
  const size_t blocks = (keys.width + kRowBlock - 1) / kRowBlock;
  if constexpr (kCodec == RowCodec::kI8Token) {
    LoadRowMeta(keys.meta + 2 * uint64_t{block.begin}, block.rows, state.key_scale,
                state.key_minimum);
  }
  if constexpr (kInBlocks<kCodec>) {
    float* scales = kQuadKeys<kCodec> ? state.row_scale : state.key_scale;
    LoadBlockScales(keys, block.begin, block.rows, scales);
    if constexpr (kQuadKeys<kCodec>) {
      TransposeScales(scales, block.rows, blocks, state.key_scale);
    }
  }
  ForQueryBlocks(state.queries, [&](auto n, size_t h) HWY_ATTR {
    const Ahead& next = h == 0 ? ahead : Ahead();
#if HR_QUADS
    if constexpr (kQuadKeys<kCodec>) {
      ScoreQuadRows<kCodec, n()>(rows, row_bytes, block.rows, state, h, next);
    } else
#endif
    {
      ScoreRows<kCodec, n()>({rows, row_bytes, keys.width, state.key_scale, blocks}, block.rows,
                             state, h, next);
    }
  });
  for (size_t h = 0; h < state.queries; ++h) {
    if constexpr (kCodec == RowCodec::kI8Token) ScaleCodes(state, h, block.rows);
    if constexpr (kInBlocks<kCodec> && kIntegerRows<kCodec>) ScaleQueries(state, h, block.rows);
  }
}

template <RowCodec kCodec>
HWY_INLINE constexpr auto PrepareCoded() {
#if HR_QUADS
  if constexpr (kQuadKeys<kCodec>) return PrepareQuadQuery<kCodec>;
#endif
  // Blocks are told apart by their rows alone.
  if constexpr (!kQuadKeys<kCodec>) {
    return PrepareQuery < kInBlocks<kCodec> ? RowCodec::kBlock8 : kCodec > ;
  }
}

HWY_INLINE const KeyPart& KeyPartOf(RowCodec codec) {
  static constexpr KeyPart kParts[kRowCodecs] = {
      {PrepareQuery<RowCodec::kF32>, ScoreKeys<RowCodec::kF32>},
      {PrepareQuery<RowCodec::kF32>, ScoreKeys<RowCodec::kF16>},
      {PrepareCoded<RowCodec::kI8Token>(), ScoreKeys<RowCodec::kI8Token>},
      {PrepareCoded<RowCodec::kBlock8>(), ScoreKeys<RowCodec::kBlock8>},
      {PrepareCoded<RowCodec::kBlock4>(), ScoreKeys<RowCodec::kBlock4>}};
  return kParts[static_cast<int>(codec)];
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_SCORES_INL_H_
