// Which scale suits some values in 4-bit codes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace headroom::convert {

inline constexpr size_t kScales = 16;  // tried side by side, one to a vector lane

// What a scale is stored in.
enum class ScaleType : uint8_t { kFloat, kBfloat };

// Tries the scales extreme / divisor and two least-squares corrections of each, all as stored, with
// codes q = x / scale rounded to nearest even in -8 .. 7, and returns the one of the smallest
// sum w (x - scale q)^2. `importance`: w, as many as values, or empty for 1. Scales stay normal
// when |extreme| is at least a hundred times the smallest normal float.
float FindScale(float extreme, const std::array<float, kScales>& divisors, ScaleType type,
                std::span<const float> values, std::span<const float> importance);

}  // namespace headroom::convert
