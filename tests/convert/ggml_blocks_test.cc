// Block types of GGUF files: the same bits as ggml's own reference (tests/golden/gguf-blocks).
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "convert/source_tensor.h"
#include "tests/convert/fixture.h"

namespace headroom {
namespace {

using convert::ElementType;
using convert::FindGgmlType;
using convert::SourceTensor;

TEST_CASE("every block type is widened to the bits that ggml gives", "[convert][gguf]") {
  constexpr uint32_t kNumbers[] = {1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 30, 39};
  for (const uint32_t number : kNumbers) {
    const ElementType& type = *FindGgmlType(number);
    INFO(type.name);
    REQUIRE(type.widen);
    const std::string golden =
        test::ReadText(test::GoldenFolder("gguf-blocks/" + std::string(type.name) + ".bin"));
    const size_t count = golden.size() / (type.block_bytes + type.block * sizeof(float));
    REQUIRE(count >= 12);
    REQUIRE(golden.size() == count * (type.block_bytes + type.block * sizeof(float)));
    std::vector<float> expected(count * type.block), values(count * type.block, NAN);
    std::memcpy(expected.data(), golden.data() + count * type.block_bytes,
                expected.size() * sizeof(float));
    // From an odd address, as in a file.
    std::vector<std::byte> blocks(count * type.block_bytes + 1);
    std::memcpy(blocks.data() + 1, golden.data(), blocks.size() - 1);
    type.widen(blocks.data() + 1, count, values.data());
    size_t different = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      different += std::memcmp(&values[i], &expected[i], sizeof(float)) != 0;
    }
    CHECK(different == 0);
  }
}

TEST_CASE("a range of blocks is read where it lies, and nothing but whole blocks",
          "[convert][gguf]") {
  std::vector<std::byte> data(3 * 34);
  for (int b = 0; b < 3; ++b) {
    data[b * 34 + 1] = std::byte{0x3c};  // 1.0 as f16
    for (int k = 0; k < 32; ++k) data[b * 34 + 2 + k] = static_cast<std::byte>(b * 32 + k);
  }
  const SourceTensor tensor{FindGgmlType(8), {3, 32}, data.data(), data.size()};
  std::vector<float> out(64);
  REQUIRE(convert::ReadFloats("t", tensor, 32, out).ok());
  CHECK(out[0] == 32.0f);
  CHECK(out[63] == 95.0f);
  CHECK_FALSE(convert::ReadFloats("t", tensor, 64, out).ok());
  CHECK_FALSE(convert::ReadFloats("t", tensor, 16, std::span(out).first(32)).ok());
  CHECK_FALSE(convert::ReadFloats("t", tensor, 0, std::span(out).first(16)).ok());
  CHECK_FALSE(convert::ReadFloats("t", tensor, UINT64_MAX - 31, std::span(out).first(32)).ok());
}

TEST_CASE("block types that nobody widens are refused by name", "[convert][gguf]") {
  const std::vector<std::byte> data(66);
  const SourceTensor tensor{FindGgmlType(16), {1, 256}, data.data(), data.size()};
  std::vector<float> out(256);
  const Status status = convert::ReadFloats("t", tensor, 0, out);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(std::string(status.message()).find("IQ2_XXS") != std::string::npos);
}

}  // namespace
}  // namespace headroom
