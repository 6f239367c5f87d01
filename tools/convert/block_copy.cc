#include "convert/block_copy.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

#include "base/half.h"
#include "convert/ggml_blocks.h"
#include "convert/quantise.h"

namespace headroom::convert {
namespace {

constexpr uint32_t kBlock = 32;
constexpr size_t kQ4Bytes = 18, kQ5Bytes = 22, kQ8Bytes = 34, kMxfp4Bytes = 17;

uint16_t Scale(const std::byte* block) {
  uint16_t bits;
  std::memcpy(&bits, block, 2);
  return bits;
}

void CopyQ8(const std::byte* blocks, size_t count, std::byte* codes, uint16_t* scales) {
  for (size_t b = 0; b < count; ++b) {
    scales[b] = Scale(blocks + b * kQ8Bytes);
    std::memcpy(codes + b * kBlock, blocks + b * kQ8Bytes + 2, kBlock);
  }
}

// The integers of a block are its floats once its scale is 1.
template <size_t kBytes, void (*kWiden)(const std::byte*, size_t, float*)>
void CopyIntegers(const std::byte* blocks, size_t count, std::byte* codes, uint16_t* scales) {
  constexpr uint16_t kOne = 0x3c00;
  for (size_t b = 0; b < count; ++b) {
    std::byte block[kBytes];
    std::memcpy(block, blocks + b * kBytes, kBytes);
    scales[b] = Scale(block);
    std::memcpy(block, &kOne, 2);
    float integers[kBlock];
    kWiden(block, 1, integers);
    for (uint32_t k = 0; k < kBlock; ++k)
      codes[b * kBlock + k] = static_cast<std::byte>(static_cast<int8_t>(integers[k]));
  }
}

void CopyMxfp4(const std::byte* blocks, size_t count, std::byte* codes, uint16_t* scales) {
  constexpr std::byte kOne{128};  // the exponent of a scale of 2, whose half multiplies integers
  for (size_t b = 0; b < count; ++b) {
    std::byte block[kMxfp4Bytes];
    std::memcpy(block, blocks + b * kMxfp4Bytes, kMxfp4Bytes);
    float values[kBlock];
    const float scale = std::ldexp(1.0f, std::to_integer<int>(block[0]) - 128);
    scales[b] = FloatToHalf(scale);
    if (HalfToFloat(scales[b]) != scale) {
      WidenMxfp4(block, 1, values);
      QuantiseInt8Row(values, kBlock, reinterpret_cast<int8_t*>(codes) + b * kBlock, scales + b);
      continue;
    }
    block[0] = kOne;
    WidenMxfp4(block, 1, values);
    for (uint32_t k = 0; k < kBlock; ++k)
      codes[b * kBlock + k] = static_cast<std::byte>(static_cast<int8_t>(values[k]));
  }
}

void CopyQ4(const std::byte* blocks, size_t count, std::byte* codes, uint16_t* scales) {
  constexpr size_t kHalf = kBlock / 2;
  for (size_t b = 0; b < count; ++b) {
    const std::byte* block = blocks + b * kQ4Bytes;
    const float scale = HalfToFloat(Scale(block));
    // The dense kernels take no scale of 0: a block of zeros has codes of 0 instead.
    scales[b] = FloatToBfloat(scale == 0.0f ? std::numeric_limits<float>::min() : scale);
    const auto code = [&](uint32_t k) {  // k and k + 16 share a byte there, 2k and 2k + 1 here
      const int byte = std::to_integer<int>(block[2 + k % kHalf]);
      return scale == 0.0f ? 8 : k < kHalf ? byte & 15 : byte >> 4;
    };
    for (uint32_t k = 0; k < kHalf; ++k) {
      codes[b * kHalf + k] = static_cast<std::byte>(code(2 * k) | code(2 * k + 1) << 4);
    }
  }
}

}  // namespace

BlockCopy FindBlockCopy(const ElementType& from, const TensorDescription& to) {
  static const struct {
    std::string_view from;
    DType to;
    BlockCopy copy;
  } kCopies[] = {{"Q8_0", DType::kI8, CopyQ8},
                 {"Q5_0", DType::kI8, CopyIntegers<kQ5Bytes, WidenQ5_0>},
                 {"Q4_0", DType::kI8, CopyIntegers<kQ4Bytes, WidenQ4_0>},
                 {"MXFP4", DType::kI8, CopyMxfp4},
                 {"Q4_0", DType::kI4, CopyQ4}};
  for (const auto& entry : kCopies) {
    if (to.block == kBlock && entry.from == from.name && entry.to == to.dtype) return entry.copy;
  }
  return nullptr;
}

}  // namespace headroom::convert
