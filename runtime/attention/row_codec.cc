#include "attention/row_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention/softmax_mix.h"
#include "base/half.h"

namespace headroom::attention {
namespace {

void EncodeF32(const float* row, uint32_t width, std::byte* data, uint16_t*) {
  std::memcpy(data, row, uint64_t{width} * sizeof(float));
}

void EncodeF16(const float* row, uint32_t width, std::byte* data, uint16_t*) {
  uint16_t* out = reinterpret_cast<uint16_t*>(data);
  for (uint32_t d = 0; d < width; ++d) out[d] = FloatToHalf(row[d]);
}

// Codes are computed from the scale and minimum as the reader will see them (rounded to f16), so
// that the rounding of those two does not add to the error of every element.
void EncodeI8Token(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  float low = std::numeric_limits<float>::infinity();
  float high = -low;
  for (uint32_t d = 0; d < width; ++d) {  // NaN compares false and is skipped
    low = std::min(low, row[d]);
    high = std::max(high, row[d]);
  }
  const I8TokenRange range = MakeI8TokenRange(low, high);
  meta[0] = range.scale_f16;
  meta[1] = range.minimum_f16;
  int8_t* out = reinterpret_cast<int8_t*>(data);
  for (uint32_t d = 0; d < width; ++d) {
    float code = std::nearbyint((row[d] - range.minimum) * range.inverse_scale);
    code = code > 0.0f ? std::min(code, 255.0f) : 0.0f;  // NaN becomes code 0
    out[d] = static_cast<int8_t>(static_cast<int32_t>(code) - 128);
  }
}

// The next smaller f16 of a finite one.
uint16_t NextHalfBelow(uint16_t half) {
  if ((half & 0x7fffu) == 0) return 0x8001u;  // below either zero lies the smallest negative
  return static_cast<uint16_t>((half & 0x8000u) ? half + 1 : half - 1);
}

}  // namespace

I8TokenRange MakeI8TokenRange(float low, float high) {
  I8TokenRange range;
  if (low > high) return range;
  low = std::clamp(low, -kRowClip, kRowClip);
  high = std::clamp(high, -kRowClip, kRowClip);
  range.minimum_f16 = FloatToHalf(low);
  if (HalfToFloat(range.minimum_f16) > low) range.minimum_f16 = NextHalfBelow(range.minimum_f16);
  range.minimum = HalfToFloat(range.minimum_f16);
  const float span = high - range.minimum;
  range.scale_f16 = FloatToHalf(span / 255.0f);
  if (HalfToFloat(range.scale_f16) * 255.0f < span) ++range.scale_f16;
  range.scale = HalfToFloat(range.scale_f16);
  range.inverse_scale = range.scale > 0.0f ? 1.0f / range.scale : 0.0f;
  return range;
}

EncodeRowKernel PortableEncodeRow(RowCodec codec) {
  switch (codec) {
    case RowCodec::kF32:
      return EncodeF32;
    case RowCodec::kF16:
      return EncodeF16;
    case RowCodec::kI8Token:
      return EncodeI8Token;
    case RowCodec::kBlock8:
    case RowCodec::kBlock4:
      break;
  }
  return nullptr;
}

void DecodeRow(RowCodec codec, const std::byte* data, const uint16_t* meta, uint32_t width,
               float* row) {
  switch (codec) {
    case RowCodec::kF32:
      std::memcpy(row, data, uint64_t{width} * sizeof(float));
      return;
    case RowCodec::kF16: {
      const uint16_t* values = reinterpret_cast<const uint16_t*>(data);
      for (uint32_t d = 0; d < width; ++d) row[d] = HalfToFloat(values[d]);
      return;
    }
    case RowCodec::kI8Token: {
      const int8_t* codes = reinterpret_cast<const int8_t*>(data);
      const float scale = HalfToFloat(meta[0]);
      const float minimum = HalfToFloat(meta[1]);
      for (uint32_t d = 0; d < width; ++d) {
        row[d] = scale * static_cast<float>(codes[d] + 128) + minimum;
      }
      return;
    }
    case RowCodec::kBlock8:
    case RowCodec::kBlock4:
      return;
  }
}

}  // namespace headroom::attention
