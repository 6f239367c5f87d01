// Wrong block encoders and rotations, given to the testers of the right ones.
#include <catch2/catch_test_macros.hpp>

#include "attention/row_codec.h"
#include "support/block_tester.h"

namespace headroom::mutants {
namespace {

using namespace test;  // NOLINT: the testers

enum class BlockBug {
  kNone,
  kTruncated,
  kScaleOfFirstBlock,
  kSignOfExtremeLost,
  kNibblesSwapped,
  kNeighboursShareAByte,
  kPaddingLeft,
  kCoarse,
};

template <BlockBug kBug, bool kEight>
void WrongEncode(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  const auto element = [&](uint32_t d) { return d < width ? row[d] : 0.0f; };
  attention::BlockScale scale;
  for (uint32_t begin = 0; begin < width; begin += 32, ++meta, data += kEight ? 32 : 16) {
    float extreme = 0;
    for (uint32_t d = begin; d < begin + 32; ++d) {
      if (std::fabs(element(d)) > std::fabs(extreme)) extreme = element(d);
    }
    if (kEight || kBug == BlockBug::kSignOfExtremeLost) extreme = std::fabs(extreme);
    if (kBug == BlockBug::kCoarse) extreme *= 1.5f;
    if (begin == 0 || kBug != BlockBug::kScaleOfFirstBlock) {
      scale = kEight ? attention::MakeBlock8Scale(extreme) : attention::MakeBlock4Scale(extreme);
    }
    *meta = scale.scale_f16;
    int codes[32];
    for (uint32_t j = 0; j < 32; ++j) {
      const float x = element(begin + j) * scale.inverse;
      const float whole = kBug == BlockBug::kTruncated ? std::floor(x) : std::floor(x + 0.5f);
      codes[j] = static_cast<int>(kEight ? std::clamp(whole, -127.0f, 127.0f)
                                         : std::clamp(whole + 8, 0.0f, 15.0f));
    }
    for (uint32_t j = 0; j < 32; ++j) {
      if (kBug == BlockBug::kPaddingLeft && begin + j >= width) codes[j] = kEight ? 90 : 3;
      if (kEight) data[j] = static_cast<std::byte>(static_cast<int8_t>(codes[j]));
    }
    for (uint32_t j = 0; j < 16 && !kEight; ++j) {
      const bool near = kBug == BlockBug::kNeighboursShareAByte;
      const int low = near ? codes[2 * j] : codes[j],
                high = near ? codes[2 * j + 1] : codes[j + 16];
      data[j] = static_cast<std::byte>(kBug == BlockBug::kNibblesSwapped ? high | low << 4
                                                                         : low | high << 4);
    }
  }
}

bool Rejected(attention::EncodeRowKernel kernel, RowCodec codec) {
  for (const uint32_t width : kPointwiseWidths) {
    for (const auto& [spread, middle] : {std::pair(1.0f, 0.0f), {1.0f, -70.0f}}) {
      if (!TestEncodeBlocks(kernel, codec, width, spread, middle).accepted()) return true;
    }
  }
  return false;
}

template <bool kEight>
void ExpectRejected() {
  const RowCodec codec = kEight ? RowCodec::kBlock8 : RowCodec::kBlock4;
  CHECK_FALSE(Rejected(WrongEncode<BlockBug::kNone, kEight>, codec));
  CHECK(Rejected(WrongEncode<BlockBug::kTruncated, kEight>, codec));
  CHECK(Rejected(WrongEncode<BlockBug::kScaleOfFirstBlock, kEight>, codec));
  CHECK(Rejected(WrongEncode<BlockBug::kPaddingLeft, kEight>, codec));
  CHECK(Rejected(WrongEncode<BlockBug::kCoarse, kEight>, codec));
}

TEST_CASE("every wrong encoder in blocks is rejected, the right one is not", "[mutant][codec]") {
  ExpectRejected<true>();
  ExpectRejected<false>();
  CHECK(Rejected(WrongEncode<BlockBug::kSignOfExtremeLost, false>, RowCodec::kBlock4));
  CHECK(Rejected(WrongEncode<BlockBug::kNibblesSwapped, false>, RowCodec::kBlock4));
  CHECK(Rejected(WrongEncode<BlockBug::kNeighboursShareAByte, false>, RowCodec::kBlock4));
}

enum class RotationBug { kNone, kNotNormalised, kWholeWidth, kSignDropped, kLastRowSkipped, kGap };

template <RotationBug kBug>
void WrongHadamard(float* rows, uint32_t count, uint32_t stride, uint32_t width) {
  const uint32_t n = kBug == RotationBug::kWholeWidth ? width : attention::HadamardBlock(width);
  if (kBug == RotationBug::kLastRowSkipped) --count;
  if (kBug == RotationBug::kGap) stride = width;
  for (uint32_t r = 0; r < count; ++r) {
    for (uint32_t d = 0; d + n <= width; d += n) {
      float* x = rows + r * stride + d;
      std::vector<float> y(n, 0.0f);
      for (uint32_t i = 0; i < n; ++i) {
        for (uint32_t j = 0; j < n; ++j) {
          const bool minus = kBug != RotationBug::kSignDropped && std::popcount(i & j) % 2 == 1;
          y[i] += minus ? -x[j] : x[j];
        }
        if (kBug != RotationBug::kNotNormalised) y[i] /= std::sqrt(static_cast<float>(n));
      }
      std::copy(y.begin(), y.end(), x);
    }
  }
}

TEST_CASE("every wrong rotation is rejected, the right one is not", "[mutant][hadamard]") {
  CHECK(TestHadamard(WrongHadamard<RotationBug::kNone>, 24).accepted());
  CHECK_FALSE(TestHadamard(WrongHadamard<RotationBug::kNotNormalised>, 24).accepted());
  CHECK_FALSE(TestHadamard(WrongHadamard<RotationBug::kWholeWidth>, 24).accepted());
  CHECK_FALSE(TestHadamard(WrongHadamard<RotationBug::kSignDropped>, 24).accepted());
  CHECK_FALSE(TestHadamard(WrongHadamard<RotationBug::kLastRowSkipped>, 24).accepted());
  CHECK_FALSE(TestHadamard(WrongHadamard<RotationBug::kGap>, 24).accepted());
}

}  // namespace
}  // namespace headroom::mutants
