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
//   kF32      4D bytes; kF16 2D bytes
//   kI8Token  D bytes plus {f16 scale, f16 minimum}: value = scale * code + minimum with code in
//             0..255 stored as code - 128 in an int8
//   kBlock8   blocks of 32 along the row, int8 codes and one f16 scale each: value = scale * code
//   kBlock4   blocks of 32 along the row, 16 bytes and one f16 scale each: byte j holds element
//             j in its low nibble and element j + 16 in its high one, value = scale * (nibble - 8)
// The last block of a row is filled up with codes that mean 0.
enum class RowCodec : uint8_t { kF32 = 0, kF16 = 1, kI8Token = 2, kBlock8 = 3, kBlock4 = 4 };
inline constexpr int kRowCodecs = 5;
inline constexpr uint32_t kRowBlock = 32;  // elements of a block of kBlock8 and kBlock4
// Most rows at the begin of a sequence that may be kept in f16 beside coded ones.
inline constexpr uint32_t kMaxExactRows = 64;

inline const char* RowCodecName(RowCodec codec) {
  constexpr const char* kNames[] = {"f32", "f16", "int8", "int8/32", "int4/32"};
  return kNames[static_cast<int>(codec)];
}

// Bytes of the row's elements, without its scales and minimum.
constexpr uint32_t RowDataBytes(RowCodec codec, uint32_t width) {
  switch (codec) {
    case RowCodec::kF32:
      return width * 4;
    case RowCodec::kF16:
      return width * 2;
    case RowCodec::kI8Token:
      return width;
    case RowCodec::kBlock8:
      return static_cast<uint32_t>(RoundUp(width, kRowBlock));
    case RowCodec::kBlock4:
      return static_cast<uint32_t>(RoundUp(width, kRowBlock) / 2);
  }
  return 0;
}

// Bytes of scales and minimum per row, kept in an array of their own beside the rows.
constexpr uint32_t RowMetaBytes(RowCodec codec, uint32_t width) {
  switch (codec) {
    case RowCodec::kF32:
    case RowCodec::kF16:
      return 0;
    case RowCodec::kI8Token:
      return width == 0 ? 0 : 4;
    case RowCodec::kBlock8:
    case RowCodec::kBlock4:
      return static_cast<uint32_t>(CeilDiv(width, kRowBlock) * sizeof(uint16_t));
  }
  return 0;
}

}  // namespace headroom
