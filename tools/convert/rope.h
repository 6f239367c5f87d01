// Rotary frequencies as the runtime takes them: scaling already applied, in double until the last
// rounding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace headroom::convert {

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kYarn, kLong, kDivisors };

struct RopeParameters {
  uint32_t dims = 0;  // rotated dimensions, even
  double base = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double original_context = 0.0;  // llama3, yarn, long: trained context before scaling
  double low_frequency_factor = 1.0, high_frequency_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;                        // yarn
  bool truncate = true;                        // yarn: whole dimensions as limits
  double attention_factor = 0.0;               // yarn, long: 0 = from factor
  double mscale = 0.0, mscale_all_dims = 0.0;  // yarn: 0 = not given
  std::vector<double> divisors = {};           // long, divisors: [dims / 2]
  bool interleaved = false;                    // neighbours make pairs, not halves
  std::vector<uint32_t> pairs = {};            // of the dims / 2 only these, in order; empty: all

  bool operator==(const RopeParameters&) const = default;
};

struct RopeFrequencies {
  std::vector<float> inverse_frequencies;  // [dims / 2], radians per position
  float attention_factor = 1.0f;           // multiplies cos and sin
};

// Frequency i is base^(-2i / dims), then
//   linear  divided by the factor
//   llama3  wavelengths above original / low are divided by the factor, those below original / high
//   kept,
//           between them interpolated linearly in original / wavelength
//   yarn    dimensions that turn more than beta_fast times within the original context are kept,
//   those
//           below beta_slow times divided, a linear ramp over the dimension index between them;
//           attention factor 0.1 ln(factor) + 1 (arXiv 2309.00071, section 3)
//   long    divided by divisor i; attention factor sqrt(1 + ln(factor) / ln(original)), 1 for
//           factors up to 1 (arXiv 2402.13753, section 3, and the first models' code)
//   divisors  divided by divisor i: any of the above, worked out by who wrote the file
RopeFrequencies ComputeRope(const RopeParameters& parameters);

// What YaRN multiplies by when the context grows `factor` times: 0.1 scale ln(factor) + 1.
double YarnMagnitude(double factor, double scale);

}  // namespace headroom::convert
