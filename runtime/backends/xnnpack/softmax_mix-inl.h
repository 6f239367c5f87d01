// What the two softmax kernels share: reading rows, which rows a set of queries may see.
#if defined(HR_SOFTMAX_MIX_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)  // NOLINT: include guard per target
#ifdef HR_SOFTMAX_MIX_INL_H_
#undef HR_SOFTMAX_MIX_INL_H_
#else
#define HR_SOFTMAX_MIX_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "attention/softmax_mix.h"
#include "backends/xnnpack/simd-inl.h"
#include "base/half.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

using attention::kMixBlockRows;
using attention::MixSpec;

inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.69314718055994531f;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Stands for "no row seen yet" in running maxima: finite, so that differences are never NaN.
inline constexpr float kNoMaximum = -3.0e38f;

// Scores are kept in the log2 domain, so that exp is exp2: this factor goes into the queries, or
// behind the cap when there is one.
inline float QueryFactor(const MixSpec& spec) {
  return spec.softcap > 0.0f ? spec.scale : spec.scale * kLog2E;
}

// Scores in place: cap * tanh(x / cap), in the log2 domain. `count` vectors, `stride` floats apart.
// Not inlined: few models have a cap, and its code is large.
HWY_NOINLINE void CapScores(float cap, size_t count, size_t stride, float* scores) {
  const DF df;
  const VF inverse = hn::Set(df, 1.0f / cap), factor = hn::Set(df, cap * kLog2E);
  for (size_t i = 0; i < count; ++i, scores += stride) {
    hn::Store(hn::Mul(hn::Tanh(df, hn::Mul(hn::Load(df, scores), inverse)), factor), df, scores);
  }
}

// kLanes elements of a row from element d on, as f32; for kI8Token the bare codes (-128..127).
template <RowCodec kCodec>
HWY_INLINE VF LoadRow(const uint8_t* row, size_t d) {
  const DF df;
  if constexpr (kCodec == RowCodec::kF32) {
    return hn::LoadU(df, reinterpret_cast<const float*>(row) + d);
  } else if constexpr (kCodec == RowCodec::kF16) {
    const hn::Rebind<hwy::float16_t, DF> d16;
    return hn::PromoteTo(df, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(row) + d));
  } else {
    const hn::Rebind<int8_t, DF> d8;
    const DI di;
    return hn::ConvertTo(
        df, hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const int8_t*>(row) + d)));
  }
}

// As LoadRow for the last `count` < kLanes elements; the other lanes are 0 and memory is not
// touched.
template <RowCodec kCodec>
HWY_INLINE VF LoadRowTail(const uint8_t* row, size_t d, size_t count) {
  const DF df;
  if constexpr (kCodec == RowCodec::kF32) {
    return hn::LoadN(df, reinterpret_cast<const float*>(row) + d, count);
  } else if constexpr (kCodec == RowCodec::kF16) {
    const hn::Rebind<uint16_t, DF> du16;
    const hn::Rebind<hwy::float16_t, DF> d16;
    const auto bits = hn::LoadN(du16, reinterpret_cast<const uint16_t*>(row) + d, count);
    return hn::PromoteTo(df, hn::BitCast(d16, bits));
  } else {
    const hn::Rebind<int8_t, DF> d8;
    const DI di;
    const auto codes = hn::LoadN(d8, reinterpret_cast<const int8_t*>(row) + d, count);
    return hn::ConvertTo(df, hn::PromoteTo(di, codes));
  }
}

// Splits {f16 scale, f16 minimum} of `rows` rows into two f32 arrays. The minimum is moved by 128
// steps, to go with codes that are stored as code - 128.
HWY_INLINE void LoadRowMeta(const uint16_t* meta, size_t rows, float* scales, float* minimums) {
  const DF df;
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<uint16_t, DF> du16;
  const hn::Rebind<hwy::float16_t, DF> d16;
  const VF offset = hn::Set(df, 128.0f);
  for (size_t r = 0; r < rows; r += kLanes) {
    const size_t count = std::min(kLanes, rows - r);
    const auto pairs =
        hn::BitCast(du, hn::LoadN(hn::Repartition<uint16_t, DF>(), meta + 2 * r, 2 * count));
    const auto low = hn::TruncateTo(du16, pairs);
    const auto high = hn::TruncateTo(du16, hn::ShiftRight<16>(pairs));
    const VF scale = hn::PromoteTo(df, hn::BitCast(d16, low));
    hn::StoreU(scale, df, scales + r);
    hn::StoreU(hn::MulAdd(scale, offset, hn::PromoteTo(df, hn::BitCast(d16, high))), df,
               minimums + r);
  }
}

// Lowest and highest position of a set of queries, and of a block of rows without its empty ones.
struct PositionRange {
  int32_t low = std::numeric_limits<int32_t>::max();
  int32_t high = -1;
};

inline PositionRange RangeOf(const int32_t* positions, size_t count) {
  PositionRange range;
  for (size_t i = 0; i < count; ++i) {
    range.low = std::min(range.low, positions[i]);
    range.high = std::max(range.high, positions[i]);
  }
  return range;
}

// One block of rows: where it lies and what positions it holds.
struct RowBlock {
  uint32_t begin = 0;  // row of the lane
  uint32_t rows = 0;
  PositionRange range;
  bool has_empty = false;
  const int32_t* positions = nullptr;  // of its rows; null: they count up from `first`
  int32_t first = 0;
};

inline RowBlock MakeRowBlock(const LaneView& lane, uint32_t begin, uint32_t rows) {
  RowBlock block{begin, rows, {}, false, nullptr, 0};
  if (lane.positions == nullptr) {
    block.first = lane.first_position + static_cast<int32_t>(begin);
    block.range = {block.first, block.first + static_cast<int32_t>(rows) - 1};
    return block;
  }
  block.positions = lane.positions + begin;
  for (uint32_t r = 0; r < rows; ++r) {
    const int32_t position = block.positions[r];
    block.has_empty |= position < 0;
    block.range.low = position < 0 ? block.range.low : std::min(block.range.low, position);
    block.range.high = std::max(block.range.high, position);
  }
  return block;
}

enum class Sight { kNone, kSome, kAll };  // how much of a block a set of queries sees

// Exact for kNone and kAll when the queries' positions are contiguous, else on the safe side
// (kSome).
inline Sight SightOf(const MixSpec& spec, const RowBlock& block, const PositionRange& queries) {
  const int64_t low = block.range.low, high = block.range.high;
  if (high < 0 || low > queries.high) return Sight::kNone;
  if (high < int64_t{queries.low} - spec.left && low >= spec.sinks) return Sight::kNone;
  const bool inside = !block.has_empty && high <= queries.low;
  return inside && (queries.high - low <= spec.left || high < spec.sinks) ? Sight::kAll
                                                                          : Sight::kSome;
}

// For each row of the block its position when some query in the range may see it, else -1. Returns
// how many rows have one.
inline uint32_t VisiblePositions(const MixSpec& spec, const RowBlock& block,
                                 const PositionRange& queries, int32_t* out) {
  uint32_t visible = 0;
  for (uint32_t r = 0; r < block.rows; ++r) {
    const int32_t position =
        block.positions == nullptr ? block.first + static_cast<int32_t>(r) : block.positions[r];
    const bool seen = position >= 0 && position <= queries.high &&
                      (position >= int64_t{queries.low} - spec.left ||
                       static_cast<uint32_t>(position) < spec.sinks);
    out[r] = seen ? position : -1;
    visible += seen;
  }
  return visible;
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_INL_H_
