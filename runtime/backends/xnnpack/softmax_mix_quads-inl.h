// Decode passes over rows of codes with dot products of four bytes at once (quads-inl.h).
//
// Scores: as many rows as a vector has lanes are transposed in units of four codes, so that a lane
// belongs to a row: the sums of a lane need no reduction, and the rows' scales are one vector.
// Values: the bytes of four rows are interleaved, so that a lane belongs to a channel. Queries and
// weights have 15 bits, as two bytes: a product with each, the high one counting 256 times. Codes
// are stored with an offset; what that adds is a multiple of the sum of q or of the weights, and is
// taken off again, exactly.
#if defined(HR_SOFTMAX_MIX_QUADS_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_QUADS_INL_H_
#undef HR_SOFTMAX_MIX_QUADS_INL_H_
#else
#define HR_SOFTMAX_MIX_QUADS_INL_H_
#endif

#include <array>
#include <cstring>

#include "backends/xnnpack/softmax_mix_state-inl.h"

#if HR_QUADS
HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

inline constexpr float kQuadSteps = 32639.0f;  // 127 * 256 + 127: what two signed bytes hold
inline constexpr size_t kQuadRows = kLanes;

// How far the codes that are multiplied lie above the numbers that they stand for.
template <RowCodec kCodec>
inline constexpr int32_t kQuadOffset = kCodec == RowCodec::kBlock4 ? 8 : kQuadFlip;
// Bytes of kRowBlock codes, and of the blocks that are transposed together: two fill 512 bits.
template <RowCodec kCodec>
inline constexpr size_t kQuadBytes = RowDataBytes(kCodec, kRowBlock);
inline constexpr size_t kQuadBlocks = HWY_ARCH_X86 ? 2 : 1;
template <RowCodec kCodec>
inline constexpr size_t kQuadChunk = kQuadBlocks* kQuadBytes<kCodec>;

// One query as bytes: high ones, low ones, and for each block what is taken off its sum.
struct QuadQuery {
  QuadQuery(const DecodeState& state, size_t h)
      : high(reinterpret_cast<int8_t*>(state.q + h * state.q_stride)),
        low(high + state.q_stride),
        offsets(reinterpret_cast<int32_t*>(high + 2 * state.q_stride)) {}
  int8_t* high;
  int8_t* low;
  int32_t* offsets;
};

template <RowCodec kCodec>
HWY_NOINLINE void PrepareQuadQuery(const DecodeState& state, size_t h, const float* from,
                                   size_t width, float factor) {
  const DF df;
  const DI di;
  VF sum = hn::Zero(df), largest = hn::Zero(df);
  for (size_t d = 0; d < width; d += kLanes) {
    const VF x = hn::LoadN(df, from + d, width - d);
    sum = hn::Add(sum, x);
    largest = hn::Max(largest, hn::Abs(x));
  }
  if constexpr (kCodec == RowCodec::kI8Token) state.q_sum[h] = hn::ReduceSum(df, sum) * factor;
  const float most = hn::ReduceMax(df, largest);
  const float steps = QuerySteps<kCodec>(width, kQuadSteps);
  state.q_scale[h] = most / steps * factor;
  const VF multiplier = hn::Set(df, most > 0.0f ? steps / most : 0.0f);
  const QuadQuery query(state, h);
  for (size_t begin = 0; begin < state.q_stride; begin += kRowBlock) {
    VI total = hn::Zero(di);
    for (size_t d = begin; d < begin + kRowBlock; d += kLanes) {
      const VF x = d < width ? hn::LoadN(df, from + d, width - d) : hn::Zero(df);
      const VI code = hn::NearestInt(hn::Mul(x, multiplier));
      total = hn::Add(total, code);
      StoreBytes(code, query.high + d, query.low + d);
    }
    query.offsets[begin / kRowBlock] = -kQuadOffset<kCodec> * hn::ReduceSum(di, total);
  }
}

// --- scores
// ----------------------------------------------------------------------------------------

#if HWY_ARCH_X86
// 128-bit blocks 0 and 2, or 1 and 3, of a, then of b.
HWY_INLINE VI EvenBlocks(VI a, VI b) { return VI{_mm512_shuffle_i32x4(a.raw, b.raw, 0x88)}; }
HWY_INLINE VI OddBlocks(VI a, VI b) { return VI{_mm512_shuffle_i32x4(a.raw, b.raw, 0xdd)}; }

// Dword k of kQuadRows rows' chunks in t[k], a lane per row. `bytes`: what is left of the rows.
template <RowCodec kCodec>
HWY_INLINE void LoadQuads(const uint8_t* rows, size_t row_bytes, size_t bytes, VI* t) {
  const DI di;
  if constexpr (kCodec == RowCodec::kBlock4) {
    const hn::Half<DU8> half;
    const DU8 whole;
    VI v[8];
    HR_UNROLL
    for (size_t i = 0; i < 8; ++i) {  // rows 8 * (i / 4) + i % 4, and four further
      const uint8_t* row = rows + (i / 4 * 8 + i % 4) * row_bytes;
      const auto low = HWY_LIKELY(bytes >= 32) ? hn::LoadU(half, row) : hn::LoadN(half, row, bytes);
      const auto high = HWY_LIKELY(bytes >= 32) ? hn::LoadU(half, row + 4 * row_bytes)
                                                : hn::LoadN(half, row + 4 * row_bytes, bytes);
      v[i] = hn::BitCast(di, hn::Combine(whole, high, low));
    }
    TransposeInBlocks(v);
    TransposeInBlocks(v + 4);
    HR_UNROLL
    for (size_t j = 0; j < 4; ++j) {
      t[j] = EvenBlocks(v[j], v[4 + j]);
      t[4 + j] = OddBlocks(v[j], v[4 + j]);
    }
  } else {
    const DU8 d8;
    const VI sign = hn::Set(di, static_cast<int32_t>(0x80808080u));
    HR_UNROLL
    for (size_t i = 0; i < 16; ++i) {
      const uint8_t* row = rows + i * row_bytes;
      const VU8 codes = HWY_LIKELY(bytes >= 64) ? hn::LoadU(d8, row) : hn::LoadN(d8, row, bytes);
      t[i] = hn::Xor(hn::BitCast(di, codes), sign);
    }
    HR_UNROLL
    for (size_t i = 0; i < 16; i += 4) TransposeInBlocks(t + i);
    HR_UNROLL
    for (size_t j = 0; j < 4; ++j) {
      const VI a = t[j], b = t[4 + j], c = t[8 + j], d = t[12 + j];
      const VI low0 = hn::ConcatLowerLower(di, b, a), high0 = hn::ConcatUpperUpper(di, b, a);
      const VI low1 = hn::ConcatLowerLower(di, d, c), high1 = hn::ConcatUpperUpper(di, d, c);
      t[j] = EvenBlocks(low0, low1);
      t[4 + j] = OddBlocks(low0, low1);
      t[8 + j] = EvenBlocks(high0, high1);
      t[12 + j] = OddBlocks(high0, high1);
    }
  }
}

#else   // 128-bit vectors: no blocks to move
template <RowCodec kCodec>
HWY_INLINE void LoadQuads(const uint8_t* rows, size_t row_bytes, size_t bytes, VI* t) {
  static_assert(kQuadFlip == 0 && kQuadRows == 4);
  const DU8 d8;
  HR_UNROLL
  for (size_t at = 0; at < kQuadBytes<kCodec>; at += 16, t += 4) {
    HR_UNROLL
    for (size_t r = 0; r < 4; ++r) {
      const uint8_t* from = rows + r * row_bytes + at;
      const bool whole = kInBlocks<kCodec> || HWY_LIKELY(bytes >= at + 16);
      const VU8 codes = whole        ? hn::LoadU(d8, from)
                        : bytes > at ? hn::LoadN(d8, from, bytes - at)
                                     : hn::Zero(d8);
      t[r] = hn::BitCast(DI(), codes);
    }
    TransposeInBlocks(t);
  }
}
#endif  // HWY_ARCH_X86

// Codes 4k .. 4k + 3 of block b of a transposed chunk.
template <RowCodec kCodec>
HWY_INLINE VU8 QuadCodes(const VI* t, size_t b, size_t k) {
  const DI di;
  const DU8 d8;
  if constexpr (kCodec == RowCodec::kBlock4) {
    const VI pairs = t[4 * b + k % 4];
    const VI nibbles = k < 4 ? pairs : hn::ShiftRight<4>(pairs);
    return hn::BitCast(d8, hn::And(nibbles, hn::Set(di, 0x0f0f0f0f)));
  } else {
    return hn::BitCast(d8, t[8 * b + k]);
  }
}

// Scores of kQuadRows rows. scales: [block][kMixBlockRows], of the first row; the codes of an int8
// row have one, which is left to the caller.
template <RowCodec kCodec, size_t kQueries>
HWY_INLINE void ScoreQuadTile(const uint8_t* rows, size_t row_bytes, const float* scales,
                              const DecodeState& state, size_t first_query, float* scores) {
  const DF df;
  const DI di;
  VF acc[kQueries];
  VI high[kQueries], low[kQueries];
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    acc[h] = hn::Zero(df);
    high[h] = low[h] = hn::Zero(di);
  }
  for (size_t at = 0, block = 0; at < row_bytes; at += kQuadChunk<kCodec>) {
    VI t[16];
    const uint8_t* chunk = rows + at;
    hwy::PreventElision(chunk);  // or the compiler keeps a pointer per row in step, on the stack
    LoadQuads<kCodec>(chunk, row_bytes, row_bytes - at, t);
    HR_UNROLL
    for (size_t b = 0; b < kQuadBlocks; ++b, ++block) {
      if (b > 0 && at + kQuadBytes<kCodec> >= row_bytes) break;  // an odd number of blocks
      FourQuads tops[kQueries], bottoms[kQueries];
      HR_UNROLL
      for (size_t h = 0; h < kQueries && kInBlocks<kCodec>; ++h) {
        high[h] = hn::Zero(di);
        low[h] = hn::Set(di, QuadQuery(state, first_query + h).offsets[block]);
      }
      HR_UNROLL
      for (size_t k = 0; k < kRowBlock / 4; ++k) {
        const VU8 codes = QuadCodes<kCodec>(t, b, k);
        HR_UNROLL
        for (size_t h = 0; h < kQueries; ++h) {
          const QuadQuery query(state, first_query + h);
          const size_t d = block * kRowBlock + 4 * k;
          if (k % 4 == 0) {
            tops[h] = FourQuads::Load(query.high + d);
            bottoms[h] = FourQuads::Load(query.low + d);
          }
          high[h] = tops[h].MulAdd(codes, k % 4, high[h]);
          low[h] = bottoms[h].MulAdd(codes, k % 4, low[h]);
        }
      }
      if constexpr (kInBlocks<kCodec>) {
        const VF scale = hn::LoadU(df, scales + block * kMixBlockRows);
        HR_UNROLL
        for (size_t h = 0; h < kQueries; ++h) {
          acc[h] = hn::MulAdd(JoinSums(high[h], low[h]), scale, acc[h]);
        }
      }
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    const VF score = kInBlocks<kCodec> ? acc[h] : JoinSums(high[h], low[h]);
    hn::StoreU(score, df, scores + h * kMixBlockRows);
  }
}

template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void ScoreQuadRows(const uint8_t* rows, size_t row_bytes, size_t count,
                                const DecodeState& state, size_t first_query, const Ahead& ahead) {
  float* scores = state.scores + first_query * kMixBlockRows;
  if (count < kQuadRows) {  // too few: work on a copy, rows behind `count` repeat the last
    for (size_t r = 0; r < kQuadRows; ++r) {
      std::memcpy(state.spare_rows + r * row_bytes, rows + std::min(r, count - 1) * row_bytes,
                  row_bytes);
    }
    rows = state.spare_rows;
  }
  for (size_t r = 0; r < count; r += kQuadRows) {
    const size_t at = count < kQuadRows ? 0 : std::min(r, count - kQuadRows);
    ahead.Fetch(r, std::min(kQuadRows, count - r));
    ScoreQuadTile<kCodec, kQueries>(rows + at * row_bytes, row_bytes, state.key_scale + at, state,
                                    first_query, scores + at);
  }
}

// --- values
// ----------------------------------------------------------------------------------------

// Weights of one query in 15 bits, relative to the block's largest, as two bytes; behind the last
// row they are 0. In place of the weights: 64 high bytes, 64 low ones, and what is taken off a sum.
template <RowCodec kCodec>
HWY_INLINE void QuantiseQuadWeights(const DecodeState& state, size_t h, size_t rows) {
  const DF df;
  const DI di;
  constexpr size_t kVectors = kMixBlockRows / kLanes;
  const float* p = state.weights + h * kMixBlockRows;
  VF weights[kVectors];
  VF most = hn::Zero(df);
  HR_UNROLL
  for (size_t v = 0; v < kVectors; ++v) {
    weights[v] = v * kLanes < rows ? hn::Load(df, p + v * kLanes) : hn::Zero(df);
    most = hn::Max(most, hn::Abs(weights[v]));
  }
  const float largest = hn::ReduceMax(df, most);
  // A weight so small that its inverse overflows adds nothing to any f32 sum.
  state.weight_scale[h] = largest > 1e-30f ? largest * (1.0f / kQuadSteps) : 0.0f;
  const VF factor = hn::Set(df, largest > 1e-30f ? kQuadSteps / largest : 0.0f);
  int8_t* bytes = reinterpret_cast<int8_t*>(state.weights + h * kMixBlockRows);
  VI total = hn::Zero(di);
  HR_UNROLL
  for (size_t v = 0; v < kVectors; ++v) {
    const VI code = hn::NearestInt(hn::Mul(weights[v], factor));
    total = hn::Add(total, code);
    StoreBytes(code, bytes + v * kLanes, bytes + kMixBlockRows + v * kLanes);
  }
  const int32_t taken = -kQuadOffset<kCodec> * hn::ReduceSum(di, total);
  std::memcpy(bytes + 2 * kMixBlockRows, &taken, sizeof(taken));
}

// Sums of kQuadColumns channels are kept at once: a block on x86, half of one on Arm, where a byte
// of kBlock4 holds two of them 16 apart.
inline constexpr size_t kQuadVectors = HWY_ARCH_X86 ? 2 : 4;
inline constexpr size_t kQuadColumns = kQuadVectors * kLanes;
// Bytes, and channels, from one half of a block to the next.
template <RowCodec kCodec>
inline constexpr size_t kQuadStep = kQuadBytes<kCodec>* kQuadColumns / kRowBlock;

// The first channel of vector c of those that LoadValueQuads makes.
template <RowCodec kCodec>
HWY_INLINE constexpr size_t QuadColumn(size_t c) {
  const bool pairs = kCodec == RowCodec::kBlock4 && !HWY_ARCH_X86;
  return pairs ? c / 2 * (kRowBlock / 2) + c % 2 * kLanes : c * kLanes;
}

// Codes of kQuadColumns channels in four rows: a lane's bytes are one channel. `exist`: only so
// many bytes do.
#if HWY_ARCH_X86
template <RowCodec kCodec>
HWY_INLINE void LoadValueQuads(const uint8_t* const (&rows)[4], size_t, VU8* out) {
  static_assert(kCodec == RowCodec::kBlock4);
  const DI di;
  const DU8 d8;
  const hn::Half<DU8> half;
  const hn::Half<decltype(half)> quarter;
  alignas(64) static constexpr auto kOrder = [] {
    std::array<uint8_t, 64> order{};
    for (size_t i = 0; i < 64; ++i) order[i] = static_cast<uint8_t>(i % 4 * 16 + i / 4);
    return order;
  }();
  const auto ab = hn::Combine(half, hn::LoadU(quarter, rows[1]), hn::LoadU(quarter, rows[0]));
  const auto cd = hn::Combine(half, hn::LoadU(quarter, rows[3]), hn::LoadU(quarter, rows[2]));
  const VI pairs = hn::BitCast(
      di, hn::TableLookupLanes(hn::Combine(d8, cd, ab), hn::SetTableIndices(d8, kOrder.data())));
  const VI nibble = hn::Set(di, 0x0f0f0f0f);
  out[0] = hn::BitCast(d8, hn::And(pairs, nibble));
  out[1] = hn::BitCast(d8, hn::And(hn::ShiftRight<4>(pairs), nibble));
}
#else
template <RowCodec kCodec>
HWY_INLINE void LoadValueQuads(const uint8_t* const (&rows)[4], size_t exist, VU8* out) {
  const DU8 d8;
  const hn::CappedTag<uint8_t, kQuadStep<kCodec>> d;  // 16 codes, or 8 pairs of them
  VU8 v[4];
  HR_UNROLL
  for (size_t r = 0; r < 4; ++r) {
    const bool whole = kInBlocks<kCodec> || HWY_LIKELY(exist >= kQuadStep<kCodec>);
    const auto codes = whole ? hn::LoadU(d, rows[r]) : hn::LoadN(d, rows[r], exist);
    v[r] = hn::ResizeBitCast(d8, codes);
  }
  const VU8 ac = hn::InterleaveLower(d8, v[0], v[2]), bd = hn::InterleaveLower(d8, v[1], v[3]);
  out[0] = hn::InterleaveLower(d8, ac, bd);
  out[1] = hn::InterleaveUpper(d8, ac, bd);
  if constexpr (kCodec == RowCodec::kBlock4) {
    HR_UNROLL
    for (size_t c = 0; c < 2; ++c) {
      out[2 + c] = hn::ShiftRight<4>(out[c]);
      out[c] = hn::And(out[c], hn::Set(d8, uint8_t{15}));
    }
  } else {
    const VU8 ac2 = hn::InterleaveUpper(d8, v[0], v[2]), bd2 = hn::InterleaveUpper(d8, v[1], v[3]);
    out[2] = hn::InterleaveLower(d8, ac2, bd2);
    out[3] = hn::InterleaveUpper(d8, ac2, bd2);
  }
}
#endif  // HWY_ARCH_X86

// o[h, column + QuadColumn) += the codes times the weights in state.weights. `rows` points at the
// first of those codes, of which `exist` bytes exist.
template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void AddQuadColumns(const uint8_t* rows, size_t row_bytes, size_t count,
                                 const DecodeState& state, size_t first_query, size_t column,
                                 size_t exist, const Ahead& ahead) {
  const DF df;
  const DI di;
  const int8_t* weights =
      reinterpret_cast<const int8_t*>(state.weights + first_query * kMixBlockRows);
  constexpr size_t kStride = kMixBlockRows * sizeof(float);
  VI high[kQueries][kQuadVectors], low[kQueries][kQuadVectors];
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    int32_t taken;
    std::memcpy(&taken, weights + h * kStride + 2 * kMixBlockRows, sizeof(taken));
    HR_UNROLL
    for (size_t c = 0; c < kQuadVectors; ++c) {
      low[h][c] = hn::Set(di, taken);
      high[h][c] = hn::Zero(di);
    }
  }
  for (size_t r = 0; r < count; r += 4) {
    ahead.Fetch(r, 4);
    const size_t last = count - 1 - r;  // rows behind it have weight 0
    const uint8_t* at = rows + r * row_bytes;
    const uint8_t* const four[4] = {at, at + std::min<size_t>(1, last) * row_bytes,
                                    at + std::min<size_t>(2, last) * row_bytes,
                                    at + std::min<size_t>(3, last) * row_bytes};
    VU8 codes[kQuadVectors];
    LoadValueQuads<kCodec>(four, exist, codes);
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      const VI8 top = BroadcastQuad(weights + h * kStride + r);
      const VI8 bottom = BroadcastQuad(weights + h * kStride + kMixBlockRows + r);
      HR_UNROLL
      for (size_t c = 0; c < kQuadVectors; ++c) {
        high[h][c] = MulAddQuads(codes[c], top, high[h][c]);
        low[h][c] = MulAddQuads(codes[c], bottom, low[h][c]);
      }
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    const VF scale = hn::Set(df, state.weight_scale[first_query + h]);
    float* o = state.o + (first_query + h) * state.o_stride + column;
    HR_UNROLL
    for (size_t c = 0; c < kQuadVectors; ++c) {
      float* to = o + QuadColumn<kCodec>(c);
      hn::Store(hn::MulAdd(JoinSums(high[h][c], low[h][c]), scale, hn::Load(df, to)), df, to);
    }
  }
}

// `channels` channels from `column` on, whose weights are in state.weights; `rows` points at the
// first.
template <RowCodec kCodec, size_t kQueries>
HWY_INLINE void AddQuads(const uint8_t* rows, size_t row_bytes, size_t count,
                         const DecodeState& state, size_t first_query, size_t column,
                         size_t channels, Ahead ahead) {
  for (size_t done = 0; done < channels; done += kQuadColumns, ahead = {}) {
    const size_t at = done / kQuadColumns * kQuadStep<kCodec>;
    const size_t exist = kInBlocks<kCodec> ? kQuadStep<kCodec> : channels - done;
    AddQuadColumns<kCodec, kQueries>(rows + at, row_bytes, count, state, first_query, column + at,
                                     exist, ahead);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();
#endif  // HR_QUADS

#endif  // HR_SOFTMAX_MIX_QUADS_INL_H_
