// Blocks of GGUF files that keep their integers, and what is lost where they cannot.
#include "convert/block_copy.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "convert/ggml_blocks.h"
#include "convert/stored_error.h"
#include "tests/convert/fixture.h"

namespace headroom {
namespace {

using convert::BlockCopy;
using convert::FindBlockCopy;
using convert::FindGgmlType;
using convert::TensorDescription;

constexpr uint32_t kQ4 = 2, kQ8 = 8;

TensorDescription Blocks(DType dtype, uint32_t count, uint16_t block = 32) {
  return {"t", dtype, block, {1, 32 * count}};
}

struct Copied {
  std::vector<std::byte> codes;
  std::vector<uint16_t> scales;
  float error = 0.0f;  // relative
  std::vector<float> source;

  int code4(size_t i) const { return (std::to_integer<int>(codes[i / 2]) >> (i % 2 * 4) & 15) - 8; }
};

Copied Copy(uint32_t type, const std::vector<std::byte>& blocks) {
  const convert::ElementType& from = *FindGgmlType(type);
  const auto count = static_cast<uint32_t>(blocks.size() / from.block_bytes);
  const TensorDescription to = Blocks(type == kQ4 ? DType::kI4 : DType::kI8, count);
  const BlockCopy copy = FindBlockCopy(from, to);
  REQUIRE(copy);
  Copied out;
  out.codes.resize(count * (type == kQ4 ? 16 : 32));
  out.scales.resize(count);
  copy(blocks.data(), count, out.codes.data(), out.scales.data());
  out.source.resize(count * 32);
  from.widen(blocks.data(), count, out.source.data());
  const auto scales = std::as_bytes(std::span(out.scales));
  out.error = convert::StoredError::Of(to, out.source, out.codes, scales).Relative();
  return out;
}

// One block: a scale, then 32 integers of -8 .. 7 as ggml packs them.
std::vector<std::byte> Q4Block(float scale, const std::vector<int>& values) {
  std::vector<std::byte> block(18);
  const uint16_t bits = FloatToHalf(scale);
  std::memcpy(block.data(), &bits, 2);
  for (size_t k = 0; k < 16; ++k) {
    block[2 + k] = static_cast<std::byte>((values[k] + 8) | (values[k + 16] + 8) << 4);
  }
  return block;
}

std::vector<int> Ramp(int least) {
  std::vector<int> values(32);
  for (int k = 0; k < 32; ++k) values[k] = k * 5 % 15 - 7;
  values[9] = least;
  return values;
}

TEST_CASE("Q8_0 is copied bit for bit", "[convert][gguf]") {
  const std::string golden = test::ReadText(test::GoldenFolder("gguf-blocks/Q8_0.bin"));
  std::vector<std::byte> blocks(48 * 34);
  std::memcpy(blocks.data(), golden.data(), blocks.size());
  const Copied copied = Copy(kQ8, blocks);
  CHECK(copied.error == 0.0f);
  CHECK(std::memcmp(copied.codes.data() + 32, blocks.data() + 34 + 2, 32) == 0);
}

TEST_CASE("small integers are copied into int8 without loss", "[convert][gguf]") {
  const std::pair<uint32_t, const char*> types[] = {{2, "Q4_0"}, {6, "Q5_0"}, {39, "MXFP4"}};
  for (const auto& [number, name] : types) {
    INFO(name);
    const convert::ElementType& from = *FindGgmlType(number);
    const std::string golden =
        test::ReadText(test::GoldenFolder("gguf-blocks/" + std::string(name) + ".bin"));
    std::vector<std::byte> blocks(48 * from.block_bytes);
    std::memcpy(blocks.data(), golden.data(), blocks.size());
    if (number == 39) {  // scales that f16 has
      for (size_t b = 0; b < 48; ++b) blocks[b * 17] = static_cast<std::byte>(104 + b % 40);
    }
    const TensorDescription to = Blocks(DType::kI8, 48);
    std::vector<std::byte> codes(48 * 32);
    std::vector<uint16_t> scales(48);
    FindBlockCopy(from, to)(blocks.data(), 48, codes.data(), scales.data());
    std::vector<float> source(48 * 32);
    from.widen(blocks.data(), 48, source.data());
    const auto stored = std::as_bytes(std::span(scales));
    CHECK(convert::StoredError::Of(to, source, codes, stored).Relative() == 0.0f);
    CHECK(std::any_of(codes.begin(), codes.end(), [](std::byte b) { return b != std::byte{0}; }));
  }
}

TEST_CASE("MXFP4 blocks with a scale that f16 lacks are rounded", "[convert][gguf]") {
  std::vector<std::byte> blocks(2 * 17);
  for (const uint8_t exponent : {103, 144}) {
    blocks[0] = static_cast<std::byte>(exponent);
    blocks[1] = std::byte{0x73};
    blocks[17] = std::byte{128};
    std::vector<std::byte> codes(64);
    std::vector<uint16_t> scales(2);
    const BlockCopy copy = FindBlockCopy(*FindGgmlType(39), Blocks(DType::kI8, 2));
    copy(blocks.data(), 2, codes.data(), scales.data());
    CHECK(std::isfinite(HalfToFloat(scales[0])));
    CHECK(HalfToFloat(scales[1]) == 1.0f);
  }
}

TEST_CASE("Q4_0 keeps its integers; its scale becomes a bfloat16", "[convert][gguf]") {
  const std::vector<int> values = Ramp(-8);
  const Copied copied = Copy(kQ4, Q4Block(0.3f, values));
  for (size_t k = 0; k < 32; ++k) CHECK(copied.code4(k) == values[k]);
  CHECK(copied.scales[0] == FloatToBfloat(HalfToFloat(FloatToHalf(0.3f))));
  CHECK(copied.error <= 0x1p-8f);
  CHECK(copied.error > 0.0f);
  CHECK(Copy(kQ4, Q4Block(0.375f, values)).error == 0.0f);  // a scale that both types have
}

TEST_CASE("Q4_0 blocks with a negative scale keep it", "[convert][gguf]") {
  const std::vector<int> values = Ramp(-8);
  const Copied copied = Copy(kQ4, Q4Block(-0.375f, values));
  CHECK(copied.error == 0.0f);
  for (size_t k = 0; k < 32; ++k) CHECK(copied.code4(k) == values[k]);
  CHECK(BfloatToFloat(copied.scales[0]) == -0.375f);
}

TEST_CASE("Q4_0 blocks of zeros get a scale that kernels take", "[convert][gguf]") {
  for (const float scale : {0.0f, -0.0f}) {
    const Copied copied = Copy(kQ4, Q4Block(scale, Ramp(-8)));
    CHECK(copied.error == 0.0f);
    for (size_t k = 0; k < 32; ++k) CHECK(copied.code4(k) == 0);
    CHECK(BfloatToFloat(copied.scales[0]) >= std::numeric_limits<float>::min());
  }
  const Copied denormal = Copy(kQ4, Q4Block(0x1p-24f, Ramp(-8)));
  CHECK(denormal.error == 0.0f);
  CHECK(BfloatToFloat(denormal.scales[0]) == 0x1p-24f);
}

TEST_CASE("blocks are copied only between forms that agree", "[convert][gguf]") {
  CHECK_FALSE(FindBlockCopy(*FindGgmlType(kQ4), Blocks(DType::kI4, 2, 64)));
  CHECK_FALSE(FindBlockCopy(*FindGgmlType(kQ8), Blocks(DType::kI8, 2, 0)));
  CHECK_FALSE(FindBlockCopy(*FindGgmlType(kQ8), Blocks(DType::kI4, 2)));
  CHECK_FALSE(FindBlockCopy(*FindGgmlType(14), Blocks(DType::kI8, 8)));
}

TEST_CASE("the error of stored elements is that of every form", "[convert]") {
  const float values[4] = {1.0f, 2.0f, -2.0f, 4.0f};
  const auto error = [&](TensorDescription to, const auto& data, const auto& scales) {
    return convert::StoredError::Of(to, values, std::as_bytes(std::span(data)),
                                    std::as_bytes(std::span(scales)))
        .Relative();
  };
  const std::vector<float> none;
  CHECK(error({"t", DType::kF32, 0, {2, 2}}, values, none) == 0.0f);
  const uint16_t halves[4] = {FloatToHalf(1), FloatToHalf(2), FloatToHalf(-2), FloatToHalf(3)};
  CHECK(error({"t", DType::kF16, 0, {2, 2}}, halves, none) == 0.2f);  // sqrt(1 / 25)
  const int8_t bytes[4] = {2, 4, -1, 2};
  const float rows[2] = {0.5f, 2.0f};
  CHECK(error({"t", DType::kI8, 0, {2, 2}}, bytes, rows) == 0.0f);
  const uint8_t nibbles[2] = {0xca, 0xa7};  // 2, 4 | -1, 2
  CHECK(error({"t", DType::kI4, 0, {2, 2}}, nibbles, rows) == 0.0f);
  const float off[2] = {0.5f, 1.0f};
  CHECK(std::abs(error({"t", DType::kI4, 0, {2, 2}}, nibbles, off) - std::sqrt(0.2f)) < 1e-6f);
}

}  // namespace
}  // namespace headroom
