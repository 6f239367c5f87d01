#include "convert/mxfp4.h"

#include <cmath>

namespace headroom::convert {
namespace {

constexpr int kHalfScaleBias = 128;
constexpr uint8_t kNotANumber = 255;

}  // namespace

Status ReadMxfp4(const std::string& name, const SourceTensor& blocks, const SourceTensor& scales,
                 uint64_t begin, std::span<float> out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(blocks.data) + begin / 2;
  const auto* exponents = reinterpret_cast<const uint8_t*>(scales.data) + begin / kMxfp4Block;
  for (size_t i = 0; i < out.size(); i += kMxfp4Block) {
    const uint8_t exponent = exponents[i / kMxfp4Block];
    if (exponent == kNotANumber) {
      return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" has the scale 255 at block %llu",
                          name.c_str(), static_cast<unsigned long long>((begin + i) / kMxfp4Block));
    }
    const float half = std::ldexp(1.0f, exponent - kHalfScaleBias);
    for (size_t k = 0; k < kMxfp4Block; ++k) {
      const uint8_t pair = codes[(i + k) / 2];
      out[i + k] = half * static_cast<float>(kMxfp4Doubled[k % 2 == 0 ? pair & 15 : pair >> 4]);
    }
  }
  return {};
}

void ReorderMxfp4(const SourceTensor& blocks, const SourceTensor& scales, uint64_t begin,
                  uint64_t count, std::byte* out) {
  constexpr size_t kHalf = kMxfp4Block / 2;
  for (uint64_t at = begin; at < begin + count; at += kMxfp4Block) {
    const std::byte* pairs = blocks.data + at / 2;
    const auto code = [pairs](size_t k) {
      return k % 2 == 0 ? pairs[k / 2] & std::byte{15} : pairs[k / 2] >> 4;
    };
    *out++ = scales.data[at / kMxfp4Block];
    for (size_t k = 0; k < kHalf; ++k) *out++ = code(k) | code(k + kHalf) << 4;
  }
}

}  // namespace headroom::convert
