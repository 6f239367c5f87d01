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

// Element d of a row as a block codec keeps it: NaN is 0, and so is what lies behind the row.
float BlockElement(const float* row, uint32_t width, uint32_t d) {
  if (d >= width || std::isnan(row[d])) return 0.0f;
  return std::clamp(row[d], -kRowClip, kRowClip);
}

void EncodeBlock8(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  int8_t* out = reinterpret_cast<int8_t*>(data);
  for (uint32_t begin = 0; begin < width; begin += kRowBlock) {
    float largest = 0.0f;
    for (uint32_t d = begin; d < begin + kRowBlock; ++d) {
      largest = std::max(largest, std::fabs(BlockElement(row, width, d)));
    }
    const BlockScale scale = MakeBlock8Scale(largest);
    meta[begin / kRowBlock] = scale.scale_f16;
    for (uint32_t d = begin; d < begin + kRowBlock; ++d) {  // halves round away from zero
      out[d] = static_cast<int8_t>(std::round(BlockElement(row, width, d) * scale.inverse));
    }
  }
}

void EncodeBlock4(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  for (uint32_t begin = 0; begin < width; begin += kRowBlock) {
    float extreme = 0.0f;
    for (uint32_t d = begin; d < begin + kRowBlock; ++d) {
      const float x = BlockElement(row, width, d);
      if (std::fabs(x) > std::fabs(extreme)) extreme = x;
    }
    const BlockScale scale = MakeBlock4Scale(extreme);
    meta[begin / kRowBlock] = scale.scale_f16;
    const auto code = [&](uint32_t d) {
      const float x = BlockElement(row, width, d) * scale.inverse;
      return static_cast<uint8_t>(std::min(x + 8.5f, 15.0f));
    };
    for (uint32_t j = 0; j < kRowBlock / 2; ++j) {
      *data++ = static_cast<std::byte>(code(begin + j) | code(begin + j + kRowBlock / 2) << 4);
    }
  }
}

// The next smaller f16 of a finite one.
uint16_t NextHalfBelow(uint16_t half) {
  if ((half & 0x7fffu) == 0) return 0x8001u;  // below either zero lies the smallest negative
  return static_cast<uint16_t>((half & 0x8000u) ? half + 1 : half - 1);
}

BlockScale MakeScale(float scale) {
  BlockScale block;
  block.scale_f16 = FloatToHalf(scale);
  if ((block.scale_f16 & 0x7fffu) == 0) return {};  // its inverse might overflow
  block.inverse = 1.0f / scale;
  return block;
}

}  // namespace

BlockScale MakeBlock8Scale(float largest_magnitude) {
  return MakeScale(largest_magnitude / 127.0f);
}
BlockScale MakeBlock4Scale(float extreme) { return MakeScale(extreme / -8.0f); }

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
      return EncodeBlock8;
    case RowCodec::kBlock4:
      return EncodeBlock4;
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
    case RowCodec::kBlock8: {
      const int8_t* codes = reinterpret_cast<const int8_t*>(data);
      for (uint32_t d = 0; d < width; ++d) {
        row[d] = HalfToFloat(meta[d / kRowBlock]) * static_cast<float>(codes[d]);
      }
      return;
    }
    case RowCodec::kBlock4: {
      constexpr uint32_t kHalf = kRowBlock / 2;
      for (uint32_t d = 0; d < width; ++d) {
        const uint32_t pair = static_cast<uint32_t>(data[d / kRowBlock * kHalf + d % kHalf]);
        const uint32_t nibble = d % kRowBlock < kHalf ? pair & 15u : pair >> 4;
        row[d] =
            HalfToFloat(meta[d / kRowBlock]) * static_cast<float>(static_cast<int>(nibble) - 8);
      }
      return;
    }
  }
}

}  // namespace headroom::attention
