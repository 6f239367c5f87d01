// One row of float weights into each stored form (layouts: tensor/dtype.h). Symmetric, round to
// nearest even.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace headroom::convert {

// Scale = largest magnitude / 127; codes in -127 .. 127. A row of zeros gets the smallest normal
// scale, since the dense kernels want scales that are normal and positive.
float QuantiseInt8Row(std::span<const float> row, int8_t* codes);

// Blocks of `block` values: scale = largest magnitude of the block / 127 as f16 (at most 65504),
// codes in -127 .. 127. `scales`: f16, row.size() / block.
void QuantiseInt8Row(std::span<const float> row, uint32_t block, int8_t* codes, uint16_t* scales);

// Blocks of `block` values: code in -8 .. 7, stored + 8, low nibble = even column. Each block
// takes, of a few scales that put its largest value near code -8 and two least-squares corrections,
// the one with the smallest squared error after the scale itself has been rounded to bfloat16; such
// a scale may be negative. `importance`: a weight >= 0 for each column's squared error, or empty
// for 1. row.size() is a multiple of the block, which is even. `codes`: row.size() / 2 bytes,
// `scales`: row.size() / block.
void QuantiseInt4Row(std::span<const float> row, std::span<const float> importance, uint32_t block,
                     uint8_t* codes, uint16_t* scales);

// The same with one f32 scale for the row, returned; it is positive. row.size() is even.
float QuantiseInt4Row(std::span<const float> row, std::span<const float> importance,
                      uint8_t* codes);

}  // namespace headroom::convert
