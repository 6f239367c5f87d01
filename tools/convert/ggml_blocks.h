// The block types of GGUF files as floats, bit for bit as ggml's reference code widens them
// (ggml-quants.c, dequantize_row_*). Every function takes `count` whole blocks from any address.
//
// Scales are f16 and codes have few bits, so that every product below is exact in a float and one
// addition is all that rounds: the results do not depend on how a compiler contracts the formulas.
// A scale that is not finite gives elements that are not, which the converter refuses.
#pragma once

#include <cstddef>

namespace headroom::convert {

// d q; Q4_0: q = code - 8, Q5_0: q = code - 16, Q8_0: q int8. Elements k and k + 16 share a byte.
void WidenQ4_0(const std::byte* blocks, size_t count, float* out);
void WidenQ5_0(const std::byte* blocks, size_t count, float* out);
void WidenQ8_0(const std::byte* blocks, size_t count, float* out);
// d code + m
void WidenQ4_1(const std::byte* blocks, size_t count, float* out);
void WidenQ5_1(const std::byte* blocks, size_t count, float* out);
// 256 elements in groups of 16 (Q2_K, Q3_K, Q6_K) or 32 with scales of their own, which are small
// integers times d: (d scale) q, or (d scale) code - (dmin minimum).
void WidenQ2K(const std::byte* blocks, size_t count, float* out);
void WidenQ3K(const std::byte* blocks, size_t count, float* out);
void WidenQ4K(const std::byte* blocks, size_t count, float* out);
void WidenQ5K(const std::byte* blocks, size_t count, float* out);
void WidenQ6K(const std::byte* blocks, size_t count, float* out);
// Microscaling: a power of two times one of {0, .5, 1, 1.5, 2, 3, 4, 6} and their negatives.
void WidenMxfp4(const std::byte* blocks, size_t count, float* out);

}  // namespace headroom::convert
