// The 4-bit floats in which some mixtures of experts are published (OCP Microscaling Formats 1.0,
// section 5: elements E2M1, scales E8M0, blocks of 32).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "convert/source_tensor.h"

namespace headroom::convert {

inline constexpr uint32_t kMxfp4Block = 32;

// Twice an E2M1 by its code: sign, two bits of exponent, one of mantissa.
inline constexpr int kMxfp4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Elements [begin, begin + out.size()) of NAME_blocks (U8, two elements a byte, low nibble first)
// and NAME_scales (U8, one a block of 32 elements): element * 2^(scale - 127), exactly, or infinite
// where f32 ends. Both numbers are multiples of the block. kCorrupt: a scale of 255, which stands
// for NaN.
Status ReadMxfp4(const std::string& name, const SourceTensor& blocks, const SourceTensor& scales,
                 uint64_t begin, std::span<float> out);

// The same range as blocks of GGUF files: the scale, then elements k and k + 16 in one byte, 17
// bytes in all for 32 elements.
void ReorderMxfp4(const SourceTensor& blocks, const SourceTensor& scales, uint64_t begin,
                  uint64_t count, std::byte* out);

}  // namespace headroom::convert
