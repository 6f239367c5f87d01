// Blocks of GGUF files that the model file stores in the same way: integers are copied, not rounded
// a second time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "convert/hrm_writer.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Takes `count` source blocks into codes and one 16-bit scale each.
using BlockCopy = void (*)(const std::byte* blocks, size_t count, std::byte* codes,
                           uint16_t* scales);

// From the source's element type into the tensor's; nullptr where blocks differ.
//   Q8_0, Q5_0, Q4_0 to int8 in blocks of 32: integers and f16 scale as they are, exact.
//   MXFP4 to the same: twice its values are integers up to 12, and half its scale is an f16 unless
//        it is below 2^-24 or above 2^15; a block that has such a scale is rounded.
//   Q4_0 to int4 in blocks of 32: the same integers; the f16 scale, of either sign, becomes a
//        bfloat16, which rounds a block by up to 2^-9 of itself.
BlockCopy FindBlockCopy(const ElementType& from, const TensorDescription& to);

}  // namespace headroom::convert
