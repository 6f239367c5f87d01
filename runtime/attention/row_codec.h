// Range of a kI8Token row: the part of encoding that portable and fast paths share to the bit.
#pragma once

#include <cstdint>

namespace headroom::attention {

// Largest magnitude a kI8Token row keeps: the largest finite f16.
inline constexpr float kRowClip = 65504.0f;

// Scale and minimum as a reader will see them (rounded to f16), and what the encoder multiplies by.
struct I8TokenRange {
  uint16_t scale_f16 = 0;
  uint16_t minimum_f16 = 0;
  float scale = 0.0f;
  float minimum = 0.0f;
  float inverse_scale = 0.0f;  // 0 when the scale is 0: every code is then 0
};

// Range covering [low, high]; the minimum is rounded down and the scale up, so that every element
// of the row lies between code 0 and code 255. low > high means the row held no number: the range
// is {0, 0}.
I8TokenRange MakeI8TokenRange(float low, float high);

}  // namespace headroom::attention
