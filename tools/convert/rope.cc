#include "convert/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace headroom::convert {

double YarnMagnitude(double factor, double scale) {
  return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

namespace {

double Llama3(double frequency, const RopeParameters& p) {
  const double turns = p.original_context * frequency / (2 * std::numbers::pi);
  if (turns < p.low_frequency_factor) return frequency / p.factor;
  if (turns > p.high_frequency_factor) return frequency;
  const double smooth =
      (turns - p.low_frequency_factor) / (p.high_frequency_factor - p.low_frequency_factor);
  return (1 - smooth) * frequency / p.factor + smooth * frequency;
}

// Dimension index (a fraction of pairs) whose frequency turns `turns` times in the original
// context.
double YarnDimension(double turns, const RopeParameters& p) {
  return p.dims * std::log(p.original_context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(p.base));
}

double YarnAttentionFactor(const RopeParameters& p) {
  if (p.attention_factor != 0.0) return p.attention_factor;
  if (p.mscale != 0.0 && p.mscale_all_dims != 0.0) {
    return YarnMagnitude(p.factor, p.mscale) / YarnMagnitude(p.factor, p.mscale_all_dims);
  }
  return YarnMagnitude(p.factor, 1.0);
}

double LongAttentionFactor(const RopeParameters& p) {
  if (p.attention_factor != 0.0) return p.attention_factor;
  return p.factor <= 1.0 ? 1.0 : std::sqrt(1 + std::log(p.factor) / std::log(p.original_context));
}

struct YarnRamp {
  double low, high;
  explicit YarnRamp(const RopeParameters& p)
      : low(YarnDimension(p.beta_fast, p)), high(YarnDimension(p.beta_slow, p)) {
    if (p.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, p.dims - 1.0);
    if (low == high) high += 0.001;  // a step, not a division by zero
  }
  double Apply(double frequency, uint32_t i, double factor) const {
    const double divided = std::clamp((i - low) / (high - low), 0.0, 1.0);
    return frequency / factor * divided + frequency * (1 - divided);
  }
};

}  // namespace

RopeFrequencies ComputeRope(const RopeParameters& p) {
  RopeFrequencies rope;
  const YarnRamp ramp(p);
  for (uint32_t i = 0; i < p.dims / 2; ++i) {
    double frequency = std::pow(p.base, -2.0 * i / p.dims);
    switch (p.scaling) {
      case RopeScaling::kNone:
        break;
      case RopeScaling::kLinear:
        frequency /= p.factor;
        break;
      case RopeScaling::kLlama3:
        frequency = Llama3(frequency, p);
        break;
      case RopeScaling::kYarn:
        frequency = ramp.Apply(frequency, i, p.factor);
        break;
      case RopeScaling::kLong:
      case RopeScaling::kDivisors:
        frequency /= p.divisors[i];
        break;
    }
    rope.inverse_frequencies.push_back(static_cast<float>(frequency));
  }
  if (!p.pairs.empty()) {
    const std::vector<float> all = std::move(rope.inverse_frequencies);
    rope.inverse_frequencies.clear();
    for (const uint32_t pair : p.pairs) rope.inverse_frequencies.push_back(all[pair]);
  }
  if (p.scaling == RopeScaling::kYarn) {
    rope.attention_factor = static_cast<float>(YarnAttentionFactor(p));
  }
  if (p.scaling == RopeScaling::kLong) {
    rope.attention_factor = static_cast<float>(LongAttentionFactor(p));
  }
  return rope;
}

}  // namespace headroom::convert
