#include "convert/ggml_blocks.h"

#include <bit>
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "convert/mxfp4.h"

namespace headroom::convert {
namespace {

const uint8_t* Bytes(const std::byte* data) { return reinterpret_cast<const uint8_t*>(data); }

float Half(const uint8_t* at) {
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return HalfToFloat(bits);
}

int Low(uint8_t byte) { return byte & 15; }
int High(uint8_t byte) { return byte >> 4; }

// 16 bytes of two codes: elements k and k + 16. element(code, k) is the float.
template <typename Element>
void WidenNibbles(const uint8_t* codes, float* out, Element element) {
  for (int k = 0; k < 16; ++k) {
    out[k] = element(Low(codes[k]), k);
    out[k + 16] = element(High(codes[k]), k + 16);
  }
}

// A block of 32: scale, optionally an offset, optionally fifth bits, then 16 bytes of two codes.
template <bool kHasOffset, bool kHasFifthBit, int kZero>
void WidenBlocksOf32(const std::byte* blocks, size_t count, float* out) {
  const uint8_t* at = Bytes(blocks);
  for (size_t b = 0; b < count; ++b, out += 32) {
    const float scale = Half(at);
    const float offset = kHasOffset ? Half(at + 2) : 0.0f;
    at += kHasOffset ? 4 : 2;
    uint32_t fifth = 0;
    if (kHasFifthBit) {
      std::memcpy(&fifth, at, 4);
      at += 4;
    }
    WidenNibbles(at, out, [&](int code, int k) {
      const int whole = code | static_cast<int>(fifth >> k & 1) << 4;
      const float value = scale * static_cast<float>(whole - kZero);
      return kHasOffset ? value + offset : value;
    });
    at += 16;
  }
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each have their own
// bytes, whose upper bits complete the nibbles of the last four.
struct ScaleAndMinimum {
  ScaleAndMinimum(const uint8_t* packed, int group) {
    const uint8_t* upper = packed + (group & 3);
    if (group < 4) {
      scale = upper[0] & 63;
      minimum = upper[4] & 63;
    } else {
      scale = Low(packed[group + 4]) | upper[0] >> 6 << 4;
      minimum = High(packed[group + 4]) | upper[4] >> 6 << 4;
    }
  }
  int scale, minimum;
};

// Q4_K and Q5_K: groups of 32, two of which share the bytes of their codes.
template <bool kHasFifthBit>
void WidenWithMinima(const std::byte* blocks, size_t count, float* out) {
  constexpr size_t kBlockBytes = kHasFifthBit ? 176 : 144;
  for (size_t b = 0; b < count; ++b) {
    const uint8_t* block = Bytes(blocks) + b * kBlockBytes;
    const float d = Half(block), least = Half(block + 2);
    const uint8_t* fifth = block + 16;
    const uint8_t* codes = block + (kHasFifthBit ? 48 : 16);
    for (int group = 0; group < 8; ++group) {
      const ScaleAndMinimum packed(block + 4, group);
      const float scale = d * static_cast<float>(packed.scale);
      const float minimum = least * static_cast<float>(packed.minimum);
      for (int k = 0; k < 32; ++k) {
        const uint8_t byte = codes[group / 2 * 32 + k];
        int code = group % 2 ? High(byte) : Low(byte);
        if (kHasFifthBit) code |= (fifth[k] >> group & 1) << 4;
        *out++ = scale * static_cast<float>(code) - minimum;
      }
    }
  }
}

}  // namespace

void WidenQ4_0(const std::byte* blocks, size_t count, float* out) {
  WidenBlocksOf32<false, false, 8>(blocks, count, out);
}
void WidenQ4_1(const std::byte* blocks, size_t count, float* out) {
  WidenBlocksOf32<true, false, 0>(blocks, count, out);
}
void WidenQ5_0(const std::byte* blocks, size_t count, float* out) {
  WidenBlocksOf32<false, true, 16>(blocks, count, out);
}
void WidenQ5_1(const std::byte* blocks, size_t count, float* out) {
  WidenBlocksOf32<true, true, 0>(blocks, count, out);
}

void WidenQ8_0(const std::byte* blocks, size_t count, float* out) {
  for (size_t b = 0; b < count; ++b) {
    const uint8_t* block = Bytes(blocks) + b * 34;
    const float d = Half(block);
    for (int k = 0; k < 32; ++k) *out++ = d * static_cast<float>(static_cast<int8_t>(block[2 + k]));
  }
}

void WidenQ2K(const std::byte* blocks, size_t count, float* out) {
  for (size_t b = 0; b < count; ++b) {
    const uint8_t* scales = Bytes(blocks) + b * 84;
    const uint8_t* codes = scales + 16;
    const float d = Half(scales + 80), least = Half(scales + 82);
    for (int k = 0; k < 256; ++k) {  // bits 2j of 32 bytes hold elements 32j .. 32j + 31
      const int code = codes[k / 128 * 32 + k % 32] >> (k % 128 / 32 * 2) & 3;
      const float scale = d * static_cast<float>(Low(scales[k / 16]));
      *out++ = scale * static_cast<float>(code) - least * static_cast<float>(High(scales[k / 16]));
    }
  }
}

void WidenQ3K(const std::byte* blocks, size_t count, float* out) {
  for (size_t b = 0; b < count; ++b) {
    const uint8_t* third = Bytes(blocks) + b * 110;
    const uint8_t* codes = third + 32;
    const uint8_t* packed = codes + 64;
    const float d = Half(packed + 12);
    for (int k = 0; k < 256; ++k) {
      const int group = k / 16;
      const int low = group < 8 ? Low(packed[group]) : High(packed[group - 8]);
      const int scale = (low | (packed[8 + group % 4] >> (group / 4 * 2) & 3) << 4) - 32;
      const int bits = codes[k / 128 * 32 + k % 32] >> (k % 128 / 32 * 2) & 3;
      const int code = bits - (third[k % 32] >> (k / 32) & 1 ? 0 : 4);
      *out++ = d * static_cast<float>(scale) * static_cast<float>(code);
    }
  }
}

void WidenQ4K(const std::byte* blocks, size_t count, float* out) {
  WidenWithMinima<false>(blocks, count, out);
}
void WidenQ5K(const std::byte* blocks, size_t count, float* out) {
  WidenWithMinima<true>(blocks, count, out);
}

void WidenQ6K(const std::byte* blocks, size_t count, float* out) {
  for (size_t b = 0; b < count; ++b) {
    const uint8_t* low = Bytes(blocks) + b * 210;
    const uint8_t* high = low + 128;
    const uint8_t* scales = high + 64;
    const float d = Half(scales + 16);
    for (int k = 0; k < 256; ++k) {
      const int half = k / 128, quarter = k % 128 / 32;
      const uint8_t byte = low[half * 64 + k % 64];
      const int nibble = quarter < 2 ? Low(byte) : High(byte);
      const int code = (nibble | (high[half * 32 + k % 32] >> (2 * quarter) & 3) << 4) - 32;
      const float scale = d * static_cast<float>(static_cast<int8_t>(scales[k / 16]));
      *out++ = scale * static_cast<float>(code);
    }
  }
}

void WidenMxfp4(const std::byte* blocks, size_t count, float* out) {
  for (size_t b = 0; b < count; ++b, out += 32) {
    const uint8_t* block = Bytes(blocks) + b * 17;
    // Half of 2^(e - 127), which for the two smallest e is a denormal.
    const uint32_t e = block[0];
    const float half = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    WidenNibbles(block + 1, out,
                 [&](int code, int) { return half * static_cast<float>(kMxfp4Doubled[code]); });
  }
}

}  // namespace headroom::convert
