// What the softmax kernels share: the domain of scores, which rows a set of queries may see.
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

// Adds the rows' biases to scores in the log2 domain: row r's to the `vectors` vectors at scores +
// r * stride.
HWY_NOINLINE void BiasRows(const float* bias, size_t rows, size_t vectors, size_t stride,
                           float* scores) {
  const DF df;
  for (size_t r = 0; r < rows; ++r, scores += stride) {
    const VF add = hn::Set(df, bias[r] * kLog2E);
    for (size_t v = 0; v < vectors * kLanes; v += kLanes) {
      hn::Store(hn::Add(hn::Load(df, scores + v), add), df, scores + v);
    }
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
