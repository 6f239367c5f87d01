// Decode passes over rows in blocks with dot products of four bytes at once (AVX-512 VNNI).
//
// Scores: 16 rows are transposed in units of four codes, so that a lane belongs to a row: the sums
// of a lane need no reduction, and the scales of 16 rows are one vector. Values: the bytes of four
// rows are interleaved, so that a lane belongs to a channel. Queries and weights have 15 bits, as
// two bytes: a product with each, the high one counting 256 times. Codes are unsigned for the
// instruction; what their offset adds is a multiple of the sum of q or of the weights, and is taken
// off again, exactly.
#if defined(HR_SOFTMAX_MIX_QUADS_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_QUADS_INL_H_
#undef HR_SOFTMAX_MIX_QUADS_INL_H_
#else
#define HR_SOFTMAX_MIX_QUADS_INL_H_
#endif

#include <array>
#include <cstring>

#include "backends/xnnpack/softmax_mix_state-inl.h"

#if HR_MIX_QUADS
HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

using DU8 = hn::Repartition<uint8_t, DI>;
using DI8 = hn::Repartition<int8_t, DI>;
using VU8 = hn::Vec<DU8>;

inline constexpr float kQuadSteps = 32639.0f;  // 127 * 256 + 127: what two signed bytes hold
inline constexpr size_t kQuadRows = 16;

// What makes codes unsigned.
template <RowCodec kCodec>
inline constexpr int32_t kQuadOffset = kCodec == RowCodec::kBlock4 ? 8 : 128;
// Bytes of a block, and of the two that are transposed together.
template <RowCodec kCodec>
inline constexpr size_t kQuadBytes = RowDataBytes(kCodec, kRowBlock);
template <RowCodec kCodec>
inline constexpr size_t kQuadChunk = 2 * kQuadBytes<kCodec>;

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

// x = 256 * high + low, both in signed bytes.
HWY_INLINE void StoreBytes(VI x, int8_t* high, int8_t* low) {
  const hn::RebindToUnsigned<DI> du;
  const hn::Rebind<uint8_t, DI> d8;
  const VI top = hn::ShiftRight<8>(hn::Add(x, hn::Set(DI(), 128)));
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, top)), d8, reinterpret_cast<uint8_t*>(high));
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, x)), d8, reinterpret_cast<uint8_t*>(low));
}

template <RowCodec kCodec>
HWY_NOINLINE void PrepareQuadQuery(const DecodeState& state, size_t h, const float* from,
                                   size_t width, float factor) {
  const DF df;
  const DI di;
  VF largest = hn::Zero(df);
  for (size_t d = 0; d < width; d += kLanes) {
    largest = hn::Max(largest, hn::Abs(hn::LoadN(df, from + d, width - d)));
  }
  const float most = hn::ReduceMax(df, largest);
  state.q_scale[h] = most / kQuadSteps * factor;
  const VF multiplier = hn::Set(df, most > 0.0f ? kQuadSteps / most : 0.0f);
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

// Four rows' dwords j of every 128-bit block of v[0 .. 3] into v[j].
HWY_INLINE void TransposeInBlocks(VI* v) {
  const DI di;
  const hn::RepartitionToWide<DI> dw;
  const auto ab0 = hn::BitCast(dw, hn::InterleaveLower(di, v[0], v[1]));
  const auto ab1 = hn::BitCast(dw, hn::InterleaveUpper(di, v[0], v[1]));
  const auto cd0 = hn::BitCast(dw, hn::InterleaveLower(di, v[2], v[3]));
  const auto cd1 = hn::BitCast(dw, hn::InterleaveUpper(di, v[2], v[3]));
  v[0] = hn::BitCast(di, hn::InterleaveLower(dw, ab0, cd0));
  v[1] = hn::BitCast(di, hn::InterleaveUpper(dw, ab0, cd0));
  v[2] = hn::BitCast(di, hn::InterleaveLower(dw, ab1, cd1));
  v[3] = hn::BitCast(di, hn::InterleaveUpper(dw, ab1, cd1));
}

// 128-bit blocks 0 and 2, or 1 and 3, of a, then of b.
HWY_INLINE VI EvenBlocks(VI a, VI b) { return VI{_mm512_shuffle_i32x4(a.raw, b.raw, 0x88)}; }
HWY_INLINE VI OddBlocks(VI a, VI b) { return VI{_mm512_shuffle_i32x4(a.raw, b.raw, 0xdd)}; }

// Dword k of 16 rows' chunks in t[k], a lane per row. `bytes`: what is left of the rows.
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

HWY_INLINE hn::Vec<DI8> BroadcastQuad(const int8_t* bytes) {
  int32_t quad;
  std::memcpy(&quad, bytes, sizeof(quad));
  return hn::BitCast(DI8(), hn::Set(DI(), quad));
}

// Scores of kQuadRows rows. scales: [block][kMixBlockRows], of the first row.
template <RowCodec kCodec, size_t kQueries>
HWY_INLINE void ScoreQuadTile(const uint8_t* rows, size_t row_bytes, const float* scales,
                              const DecodeState& state, size_t first_query, float* scores) {
  const DF df;
  const DI di;
  VF acc[kQueries];
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) acc[h] = hn::Zero(df);
  for (size_t at = 0, block = 0; at < row_bytes; at += kQuadChunk<kCodec>) {
    VI t[16];
    const uint8_t* chunk = rows + at;
    hwy::PreventElision(chunk);  // or the compiler keeps 16 pointers in step, on the stack
    LoadQuads<kCodec>(chunk, row_bytes, row_bytes - at, t);
    HR_UNROLL
    for (size_t b = 0; b < 2; ++b, ++block) {
      if (b > 0 && at + kQuadBytes<kCodec> >= row_bytes) break;  // an odd number of blocks
      VI high[kQueries], low[kQueries];
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
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
          high[h] = hn::SumOfMulQuadAccumulate(di, codes, BroadcastQuad(query.high + d), high[h]);
          low[h] = hn::SumOfMulQuadAccumulate(di, codes, BroadcastQuad(query.low + d), low[h]);
        }
      }
      const VF scale = hn::LoadU(df, scales + block * kMixBlockRows);
      HR_UNROLL
      for (size_t h = 0; h < kQueries; ++h) {
        const VF sum = hn::ConvertTo(df, hn::Add(hn::ShiftLeft<8>(high[h]), low[h]));
        acc[h] = hn::MulAdd(sum, scale, acc[h]);
      }
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) hn::StoreU(acc[h], df, scores + h * kMixBlockRows);
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
  const int32_t taken = -kQuadOffset<RowCodec::kBlock4> * hn::ReduceSum(di, total);
  std::memcpy(bytes + 2 * kMixBlockRows, &taken, sizeof(taken));
}

// Codes of a block of 32 channels in four rows: a lane's bytes are one channel. out[0]: channels 0
// .. 15, out[1]: the others.
HWY_INLINE void LoadValueQuads(const uint8_t* const (&rows)[4], VU8 (&out)[2]) {
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

// o[h, column .. column + 32) += the 4-bit codes times the weights in state.weights. `rows` points
// at the block of those channels.
template <size_t kQueries>
HWY_NOINLINE void AddQuadColumns(const uint8_t* rows, size_t row_bytes, size_t count,
                                 const DecodeState& state, size_t first_query, size_t column,
                                 const Ahead& ahead) {
  const DF df;
  const DI di;
  const int8_t* weights =
      reinterpret_cast<const int8_t*>(state.weights + first_query * kMixBlockRows);
  constexpr size_t kStride = kMixBlockRows * sizeof(float);
  VI high[kQueries][2], low[kQueries][2];
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    int32_t taken;
    std::memcpy(&taken, weights + h * kStride + 2 * kMixBlockRows, sizeof(taken));
    low[h][0] = low[h][1] = hn::Set(di, taken);
    high[h][0] = high[h][1] = hn::Zero(di);
  }
  for (size_t r = 0; r < count; r += 4) {
    ahead.Fetch(r, 4);
    const size_t last = count - 1 - r;  // rows behind it have weight 0
    const uint8_t* at = rows + r * row_bytes;
    const uint8_t* const four[4] = {at, at + std::min<size_t>(1, last) * row_bytes,
                                    at + std::min<size_t>(2, last) * row_bytes,
                                    at + std::min<size_t>(3, last) * row_bytes};
    VU8 codes[2];
    LoadValueQuads(four, codes);
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      const auto top = BroadcastQuad(weights + h * kStride + r);
      const auto bottom = BroadcastQuad(weights + h * kStride + kMixBlockRows + r);
      HR_UNROLL
      for (size_t c = 0; c < 2; ++c) {
        high[h][c] = hn::SumOfMulQuadAccumulate(di, codes[c], top, high[h][c]);
        low[h][c] = hn::SumOfMulQuadAccumulate(di, codes[c], bottom, low[h][c]);
      }
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    const VF scale = hn::Set(df, state.weight_scale[first_query + h]);
    float* o = state.o + (first_query + h) * state.o_stride + column;
    HR_UNROLL
    for (size_t c = 0; c < 2; ++c, o += kLanes) {
      const VF sum = hn::ConvertTo(df, hn::Add(hn::ShiftLeft<8>(high[h][c]), low[h][c]));
      hn::Store(hn::MulAdd(sum, scale, hn::Load(df, o)), df, o);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();
#endif  // HR_MIX_QUADS

#endif  // HR_SOFTMAX_MIX_QUADS_INL_H_
