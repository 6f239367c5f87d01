// Walsh-Hadamard rotation of rows: spreads outliers over a block of channels before rows are
// rounded to few bits.
//
//   y = H x,  H_ij = n^-1/2 (-1)^popcount(i & j)   per block of n channels, n the largest power of
//   two that divides the width
// H is symmetric and orthonormal, so H H = 1: the same call rotates and rotates back, and q . k is
// (H q) . (H k). Rotating queries and keys changes no score; rotated values come out of attention
// rotated.
#pragma once

#include <cstdint>

namespace headroom::attention {

// Channels that are rotated together. 1: an odd width, whose rows stay as they are.
constexpr uint32_t HadamardBlock(uint32_t width) { return width & (~width + 1); }

// In place on `count` rows of `width` f32, `stride` floats apart.
using HadamardKernel = void (*)(float* rows, uint32_t count, uint32_t stride, uint32_t width);

HadamardKernel PortableHadamard();

}  // namespace headroom::attention
