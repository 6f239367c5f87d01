#include "convert/quantise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"

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

float Code4(float value, float inverse) {
  return RoundEven(std::clamp(value * inverse, -8.0f, 7.0f));
}

struct Sums {
  float error = 0.0f;    // sum (x - s q)^2
  float product = 0.0f;  // sum x q
  float squares = 0.0f;  // sum q^2
};

Sums Measure(std::span<const float> values, float scale) {
  const float inverse = 1.0f / scale;
  Sums sums;
  for (const float v : values) {
    const float q = Code4(v, inverse);
    const float e = v - scale * q;
    sums.error += e * e;
    sums.product += v * q;
    sums.squares += q * q;
  }
  return sums;
}

// The best scale that `round` can represent.
template <typename Round>
float SearchScale(std::span<const float> values, Round round) {
  const float largest = LargestMagnitude(values);
  // Below this, scales or their inverses leave the normal range; nothing that small matters.
  if (!(largest > kSmallestScale * 64)) return kSmallestScale;
  float best = 0.0f;
  Sums best_sums;
  best_sums.error = std::numeric_limits<float>::infinity();
  const auto attempt = [&](float wanted) {
    const float scale = round(wanted);
    if (!(scale >= kSmallestScale) || std::isinf(scale) || scale == best) return;
    const Sums sums = Measure(values, scale);
    if (sums.error < best_sums.error || best == 0.0f) {
      best = scale;
      best_sums = sums;
    }
  };
  // Divisors of the largest value: 7 represents it exactly, more cuts it for a finer grid, 8 suits
  // a negative one, less trades it for the rest.
  for (const float divisor : {7.0f, 6.25f, 6.6f, 7.35f, 7.7f, 8.0f, 8.4f, 8.9f, 9.5f}) {
    attempt(largest / divisor);
  }
  for (int i = 0; i < 2 && best_sums.squares > 0.0f; ++i) {
    attempt(best_sums.product / best_sums.squares);
  }
  return best;
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

void QuantiseInt4Row(std::span<const float> row, uint32_t block, uint8_t* codes, uint16_t* scales) {
  const auto round = [](float scale) { return BfloatToFloat(FloatToBfloat(scale)); };
  for (size_t begin = 0; begin < row.size(); begin += block) {
    const std::span<const float> values = row.subspan(begin, block);
    const float scale = SearchScale(values, round);
    *scales++ = FloatToBfloat(scale);
    Pack4(values, scale, codes + begin / 2);
  }
}

float QuantiseInt4Row(std::span<const float> row, uint8_t* codes) {
  const float scale = SearchScale(row, [](float wanted) { return wanted; });
  Pack4(row, scale, codes);
  return scale;
}

}  // namespace headroom::convert
