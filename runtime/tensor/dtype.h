// Element types of weights and the codecs of cached rows.
#pragma once

#include <cstdint>

#include "base/math.h"

namespace headroom {

// A weight tensor's storage, exactly as the dense backend consumes it. Rows are output channels [N,
// K].
//   kI8  int8. block 0: one f32 scale per row; block 32, 64 or 128: one f16 scale per block,
//        [N, K / block], and the code times the scale is the weight
//   kI4  two values a byte, low nibble = even k, stored as value + 8 (zero point 8).
//        block 0: one f32 scale > 0 per row; block 32, 64 or 128: one bf16 scale per block, [N, K /
//        block], of either sign, so that eight steps reach to the side of the largest value
enum class DType : uint8_t { kF32 = 0, kF16 = 1, kBF16 = 2, kI8 = 3, kI4 = 4, kI32 = 5 };

inline const char* DTypeName(DType dtype) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "int8", "int4", "int32"};
  return kNames[static_cast<int>(dtype)];
}

constexpr uint32_t DTypeBits(DType dtype) {
  constexpr uint32_t kBits[] = {32, 16, 16, 8, 4, 32};
  return kBits[static_cast<int>(dtype)];
}

// How one cached row of D values is kept.
//   kF32 4D bytes; kF16 2D bytes; kI8Token D bytes plus {f16 scale, f16 minimum} (spec codec
//   I8_TOK): value = scale * code + minimum with code in 0..255 stored as code - 128 in an int8.
enum class RowCodec : uint8_t { kF32 = 0, kF16 = 1, kI8Token = 2 };

inline const char* RowCodecName(RowCodec codec) {
  constexpr const char* kNames[] = {"f32", "f16", "int8"};
  return kNames[static_cast<int>(codec)];
}

// Bytes of the row's elements, without its scale and minimum.
constexpr uint32_t RowDataBytes(RowCodec codec, uint32_t width) {
  switch (codec) {
    case RowCodec::kF32:
      return width * 4;
    case RowCodec::kF16:
      return width * 2;
    case RowCodec::kI8Token:
      return width;
  }
  return 0;
}

// Bytes of scale and minimum per row, kept in an array of their own beside the rows.
constexpr uint32_t RowMetaBytes(RowCodec codec) { return codec == RowCodec::kI8Token ? 4 : 0; }

}  // namespace headroom
