// Range of a kI8Token row and scale of a block: the part of encoding that portable and fast paths
// share to the bit. This file and those that use it are compiled without contraction of products
// and sums, which would move a code where x times the inverse of the scale lies between two.
#pragma once

#include <cstdint>

namespace headroom::attention {

// Largest magnitude a row of codes keeps: the largest finite f16.
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

// Scale of a block of 32 as a reader will see it, and what the encoder multiplies by. The codes are
// made with the scale before it is rounded to f16, as ggml does (quantize_row_q8_0_ref, _q4_0_ref),
// so that a cache row and a weight block of the same numbers hold the same bits.
struct BlockScale {
  uint16_t scale_f16 = 0;
  float inverse = 0.0f;  // 0 when no f16 can hold the scale: every code then means 0
};

// kBlock8: 127 steps reach the largest magnitude of the block.
BlockScale MakeBlock8Scale(float largest_magnitude);

// kBlock4: `extreme` is the element of largest magnitude (the first of several), with its sign; it
// becomes code 0, eight steps below the middle.
BlockScale MakeBlock4Scale(float extreme);

}  // namespace headroom::attention
