#include "convert/quantise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "convert/scale_search.h"

namespace headroom::convert {
namespace {

constexpr float kSmallestScale = std::numeric_limits<float>::min();  // also a normal bfloat16

// Nearest even for |x| < 2^22, in a form that compilers turn into vector code.
float RoundEven(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

float LargestMagnitude(std::span<const float> values) {
  float largest = 0.0f;
  for (const float v : values) largest = std::max(largest, std::fabs(v));
  return largest;
}

// The value with it. Several of each, or every step would wait for the one before.
float Extreme(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  float lows[kLanes] = {}, highs[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lows[lane] = std::min(lows[lane], values[i + lane]);
      highs[lane] = std::max(highs[lane], values[i + lane]);
    }
  }
  float low = *std::min_element(lows, lows + kLanes),
        high = *std::max_element(highs, highs + kLanes);
  for (; i < values.size(); ++i) {
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
  }
  return -low > high ? low : high;
}

float Code4(float value, float inverse) {
  return RoundEven(std::min(std::max(value * inverse, -8.0f), 7.0f));
}

// Scales to try, as divisors of the largest value: some represent it exactly, more cuts it for a
// finer grid, less trades it for the rest. With a sign the largest value lies on the side of code
// -8, or, by the divisors below 0, on that of 7. Where importance is known, what is unimportant may
// be cut much further.
using Divisors = std::array<float, kScales>;
constexpr Divisors kSigned = {8.0f,  7.2f,  7.6f,  8.4f,  8.8f,  9.3f,  -6.7f, -7.0f,
                              -7.5f, 10.5f, 12.0f, 14.0f, 17.0f, 21.0f, 10.5f, 12.0f};
constexpr Divisors kPositive = {7.0f, 6.25f, 6.6f,  7.35f, 7.7f,  8.0f,  8.4f,  8.9f,
                                9.5f, 10.5f, 12.0f, 14.0f, 17.0f, 21.0f, 10.5f, 12.0f};
constexpr size_t kUncut = 9;

// Those that do not cut; the lanes left over repeat the first.
constexpr Divisors Uncut(Divisors divisors) {
  std::fill(divisors.begin() + kUncut, divisors.end(), divisors[0]);
  return divisors;
}
constexpr Divisors kSignedUncut = Uncut(kSigned), kPositiveUncut = Uncut(kPositive);

// The best scale of either sign, or, for a whole row, above zero.
float SearchScale(std::span<const float> values, std::span<const float> importance,
                  ScaleType type) {
  const float extreme = Extreme(values);
  // Below this, scales or their inverses leave the normal range; nothing that small matters.
  if (!(std::fabs(extreme) > kSmallestScale * 128)) return kSmallestScale;
  const bool row = type == ScaleType::kFloat;
  const Divisors& divisors =
      importance.empty() ? (row ? kPositiveUncut : kSignedUncut) : (row ? kPositive : kSigned);
  return FindScale(row ? std::fabs(extreme) : -extreme, divisors, type, values, importance);
}

void Pack4(std::span<const float> values, float scale, uint8_t* codes) {
  const float inverse = 1.0f / scale;
  for (size_t k = 0; k < values.size(); k += 2) {
    const int low = static_cast<int>(Code4(values[k], inverse)) + 8;
    const int high = static_cast<int>(Code4(values[k + 1], inverse)) + 8;
    codes[k / 2] = static_cast<uint8_t>(low | high << 4);
  }
}

}  // namespace

float QuantiseInt8Row(std::span<const float> row, int8_t* codes) {
  const float scale = std::max(LargestMagnitude(row) / 127.0f, kSmallestScale);
  for (size_t k = 0; k < row.size(); ++k) {
    codes[k] = static_cast<int8_t>(RoundEven(std::clamp(row[k] / scale, -127.0f, 127.0f)));
  }
  return scale;
}

void QuantiseInt8Row(std::span<const float> row, uint32_t block, int8_t* codes, uint16_t* scales) {
  constexpr float kLargestHalf = 65504.0f;
  for (size_t begin = 0; begin < row.size(); begin += block) {
    const std::span<const float> values = row.subspan(begin, block);
    const uint16_t stored = FloatToHalf(std::min(LargestMagnitude(values) / 127.0f, kLargestHalf));
    // What is too small for an f16 scale is zero.
    const float scale = std::max(HalfToFloat(stored), kSmallestScale);
    for (size_t k = 0; k < values.size(); ++k) {
      const float code = stored == 0 ? 0.0f : std::clamp(values[k] / scale, -127.0f, 127.0f);
      codes[begin + k] = static_cast<int8_t>(RoundEven(code));
    }
    *scales++ = stored;
  }
}

void QuantiseInt4Row(std::span<const float> row, std::span<const float> importance, uint32_t block,
                     uint8_t* codes, uint16_t* scales) {
  for (size_t begin = 0; begin < row.size(); begin += block) {
    const std::span<const float> values = row.subspan(begin, block);
    const std::span<const float> weights =
        importance.empty() ? importance : importance.subspan(begin, block);
    const float scale = SearchScale(values, weights, ScaleType::kBfloat);
    *scales++ = FloatToBfloat(scale);
    Pack4(values, scale, codes + begin / 2);
  }
}

float QuantiseInt4Row(std::span<const float> row, std::span<const float> importance,
                      uint8_t* codes) {
  const float scale = SearchScale(row, importance, ScaleType::kFloat);
  Pack4(row, scale, codes);
  return scale;
}

}  // namespace headroom::convert
