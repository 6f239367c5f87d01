// What scales make of some values in 4-bit codes: the inner loop of choosing one.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace headroom::convert {

inline constexpr size_t kScales = 16;  // tried side by side, one to a vector lane

struct ScaleErrors {
  std::array<float, kScales> error;    // sum w (x - s q)^2
  std::array<float, kScales> product;  // sum w x q
  std::array<float, kScales> squares;  // sum w q^2
};

// For each s of `scales`, none 0, and q = x / s rounded to nearest even in -8 .. 7. `importance`:
// w, as many as values, or empty for 1.
ScaleErrors ErrorsOf(const std::array<float, kScales>& scales, std::span<const float> values,
                     std::span<const float> importance);

}  // namespace headroom::convert
