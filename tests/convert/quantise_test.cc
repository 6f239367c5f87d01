// Quantised rows against their definition in double.
#include "convert/quantise.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/half.h"

namespace headroom {
namespace {

using convert::QuantiseInt4Row;
using convert::QuantiseInt8Row;

std::vector<float> Normal(size_t count, uint32_t seed, float deviation = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

int Code4(const std::vector<uint8_t>& codes, size_t k) {
  return (k % 2 ? codes[k / 2] >> 4 : codes[k / 2] & 15) - 8;
}

double SquaredError(const std::vector<float>& row, size_t begin, size_t count, double scale,
                    const std::vector<uint8_t>& codes) {
  double sum = 0;
  for (size_t k = begin; k < begin + count; ++k) {
    const double e = row[k] - scale * Code4(codes, k);
    sum += e * e;
  }
  return sum;
}

TEST_CASE("int8 rows are the nearest codes of max / 127", "[convert][quantise]") {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> row = Normal(97, seed);
    std::vector<int8_t> codes(row.size(), 99);
    const float scale = QuantiseInt8Row(row, codes.data());
    double largest = 0;
    for (const float v : row) largest = std::max(largest, std::fabs(static_cast<double>(v)));
    REQUIRE(std::fabs(scale - largest / 127) <= 1e-7 * largest);
    int extreme = 0;
    for (size_t k = 0; k < row.size(); ++k) {
      REQUIRE(std::fabs(row[k] - double{scale} * codes[k]) <= scale * 0.50001);
      extreme = std::max(extreme, std::abs(codes[k]));
    }
    REQUIRE(extreme == 127);
  }
}

TEST_CASE("int8 rounds halves to even", "[convert][quantise]") {
  const std::vector<float> row = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -127.0f};  // scale 1
  std::vector<int8_t> codes(row.size());
  CHECK(QuantiseInt8Row(row, codes.data()) == 1.0f);
  CHECK(codes == std::vector<int8_t>{127, 0, 2, 2, 0, -2, -127});
}

TEST_CASE("int8 in blocks: nearest codes of each block's own f16 scale", "[convert][quantise]") {
  std::vector<float> row = Normal(128, 4);
  for (size_t k = 32; k < 64; ++k) row[k] *= 1e-3f;   // a scale that is denormal in f16
  for (size_t k = 64; k < 96; ++k) row[k] *= 1e-9f;   // one that is zero
  for (size_t k = 96; k < 128; ++k) row[k] *= 1e10f;  // one that is clamped
  std::vector<int8_t> codes(row.size(), 99);
  std::vector<uint16_t> scales(4);
  QuantiseInt8Row(row, 32, codes.data(), scales.data());
  for (size_t k = 0; k < 64; ++k) {
    const double scale = HalfToFloat(scales[k / 32]);
    REQUIRE(scale > 0);
    // Rounding the scale down may cut the largest value by its own share.
    REQUIRE(std::fabs(row[k] - scale * codes[k]) <= scale * (k < 32 ? 0.57 : 2.0));
  }
  CHECK(scales[2] == 0);
  CHECK(std::vector<int8_t>(codes.begin() + 64, codes.begin() + 96) == std::vector<int8_t>(32, 0));
  CHECK(HalfToFloat(scales[3]) == 65504.0f);
  for (size_t k = 96; k < 128; ++k) {
    if (std::fabs(row[k]) > 65504.0f * 127) REQUIRE(codes[k] == (row[k] > 0 ? 127 : -127));
  }
}

TEST_CASE("rows of zeros get a scale that is normal and positive", "[convert][quantise]") {
  const std::vector<float> zeros(64, 0.0f);
  std::vector<int8_t> codes(64, 1);
  CHECK(std::isnormal(QuantiseInt8Row(zeros, codes.data())));
  CHECK(codes == std::vector<int8_t>(64, 0));
  std::vector<uint8_t> nibbles(32, 0);
  std::vector<uint16_t> scales(2);
  QuantiseInt4Row(zeros, {}, 32, nibbles.data(), scales.data());
  CHECK(nibbles == std::vector<uint8_t>(32, 0x88));
  for (const uint16_t s : scales) {
    CHECK(std::isnormal(BfloatToFloat(s)));
    CHECK(BfloatToFloat(s) > 0.0f);
  }
  CHECK(std::isnormal(QuantiseInt4Row(zeros, {}, nibbles.data())));
}

TEST_CASE("values at the edges of float stay defined", "[convert][quantise]") {
  for (const float v : {1e-44f, 1e-38f, 1e-36f, 1e30f, std::numeric_limits<float>::max()}) {
    std::vector<float> row(32, v);
    row[5] = -v;
    std::vector<int8_t> codes(32);
    const float scale8 = QuantiseInt8Row(row, codes.data());
    CHECK(std::isnormal(scale8));
    std::vector<uint8_t> nibbles(16);
    std::vector<uint16_t> scales(1);
    QuantiseInt4Row(row, {}, 32, nibbles.data(), scales.data());
    CHECK(std::isnormal(BfloatToFloat(scales[0])));
    CHECK(std::isnormal(QuantiseInt4Row(row, {}, nibbles.data())));
  }
}

TEST_CASE("int4 packs the even column into the low nibble, plus 8", "[convert][quantise]") {
  std::vector<float> row(32, 0.0f);
  for (int k = 0; k < 32; ++k) row[k] = static_cast<float>(k % 16 - 8);  // exact at scale 1
  std::vector<uint8_t> codes(16);
  std::vector<uint16_t> scales(1);
  QuantiseInt4Row(row, {}, 32, codes.data(), scales.data());
  REQUIRE(BfloatToFloat(scales[0]) == 1.0f);
  for (size_t k = 0; k < 32; ++k) CHECK(Code4(codes, k) == static_cast<int>(row[k]));
  CHECK(codes[0] == ((-8 + 8) | (-7 + 8) << 4));
  // With the largest value on the other side the scale changes sides.
  for (float& v : row) v = -v;
  QuantiseInt4Row(row, {}, 32, codes.data(), scales.data());
  REQUIRE(BfloatToFloat(scales[0]) == -1.0f);
  for (size_t k = 0; k < 32; ++k) CHECK(Code4(codes, k) == -static_cast<int>(row[k]));
}

TEST_CASE("int4 codes are the nearest ones and beat the plain scale", "[convert][quantise]") {
  double searched = 0, plain = 0;
  for (const uint32_t block : {32u, 64u, 128u}) {
    const std::vector<float> row = Normal(block * 12, block);
    std::vector<uint8_t> codes(row.size() / 2);
    std::vector<uint16_t> scales(row.size() / block);
    QuantiseInt4Row(row, {}, block, codes.data(), scales.data());
    for (size_t b = 0; b < scales.size(); ++b) {
      const double scale = BfloatToFloat(scales[b]);
      double largest = 0;
      for (size_t k = b * block; k < (b + 1) * block; ++k) {
        largest = std::max(largest, std::fabs(double{row[k]}));
        // Nearest: no neighbouring code is closer.
        const int code = Code4(codes, k);
        const double error = std::fabs(row[k] - scale * code);
        if (code < 7) REQUIRE(error <= std::fabs(row[k] - scale * (code + 1)) + 1e-8);
        if (code > -8) REQUIRE(error <= std::fabs(row[k] - scale * (code - 1)) + 1e-8);
      }
      searched += SquaredError(row, b * block, block, scale, codes);
      const double simple = BfloatToFloat(FloatToBfloat(static_cast<float>(largest / 7)));
      for (size_t k = b * block; k < (b + 1) * block; ++k) {
        const double q = std::clamp(std::nearbyint(row[k] / simple), -8.0, 7.0);
        plain += (row[k] - simple * q) * (row[k] - simple * q);
      }
    }
  }
  CHECK(searched < 0.78 * plain);  // a fifth of the squared error, or the search is not one
}

TEST_CASE("int4 comes close to the best scale an exhaustive search finds", "[convert][quantise]") {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    const std::vector<float> row = Normal(32, 100 + seed);
    std::vector<uint8_t> codes(16);
    std::vector<uint16_t> scales(1);
    QuantiseInt4Row(row, {}, 32, codes.data(), scales.data());
    const double error = SquaredError(row, 0, 32, BfloatToFloat(scales[0]), codes);
    double best = std::numeric_limits<double>::infinity();
    for (uint32_t bits = 0; bits < 2 * 0x600; ++bits) {  // every bfloat16 from 3e-5 to 0.125, +-
      const double s = BfloatToFloat(static_cast<uint16_t>(0x3800 + bits / 2 + bits % 2 * 0x8000));
      double sum = 0;
      for (const float v : row) {
        const double e = v - s * std::clamp(std::nearbyint(v / s), -8.0, 7.0);
        sum += e * e;
      }
      best = std::min(best, sum);
    }
    INFO("seed " << seed);
    CHECK(error >= best * 0.999);
    CHECK(error <= best * 1.25);
  }
}

TEST_CASE("int4 per row has one positive scale, not far behind one of either sign",
          "[convert][quantise]") {
  double per_row = 0, per_block = 0;
  for (uint32_t seed = 0; seed < 12; ++seed) {
    const std::vector<float> row = Normal(128, seed);
    std::vector<uint8_t> codes(64), block_codes(64);
    std::vector<uint16_t> scales(1);
    const float scale = QuantiseInt4Row(row, {}, codes.data());
    CHECK(scale > 0);
    QuantiseInt4Row(row, {}, 128, block_codes.data(), scales.data());
    per_row += SquaredError(row, 0, 128, scale, codes);
    per_block += SquaredError(row, 0, 128, BfloatToFloat(scales[0]), block_codes);
  }
  CHECK(per_row > 0.98 * per_block);
  CHECK(per_row < 1.3 * per_block);
}

TEST_CASE("importance decides which errors count", "[convert][quantise]") {
  std::vector<float> row = Normal(64, 9);
  row[7] = 0.12f;  // thrice the others, and nothing comes in there
  row[40] = -0.12f;
  std::vector<float> importance(64, 1.0f);
  importance[7] = importance[40] = 0.0f;
  const auto error_of_the_rest = [&](std::span<const float> weights, uint32_t block) {
    std::vector<uint8_t> codes(32);
    std::vector<uint16_t> scales(2);
    float row_scale = 0;
    if (block != 0) QuantiseInt4Row(row, weights, block, codes.data(), scales.data());
    if (block == 0) row_scale = QuantiseInt4Row(row, weights, codes.data());
    double sum = 0;
    for (size_t k = 0; k < 64; ++k) {
      const double scale = block == 0 ? row_scale : BfloatToFloat(scales[k / 32]);
      if (k != 7 && k != 40) sum += std::pow(row[k] - scale * Code4(codes, k), 2);
    }
    return sum;
  };
  for (const uint32_t block : {0u, 32u}) {
    INFO("block " << block);
    CHECK(error_of_the_rest(importance, block) < 0.8 * error_of_the_rest({}, block));
  }
  // Equal weights are no weights.
  const std::vector<float> equal(64, 4.0f);
  CHECK(error_of_the_rest(equal, 32) == error_of_the_rest({}, 32));
}

}  // namespace
}  // namespace headroom
