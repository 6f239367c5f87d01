#include "base/half.h"

#include <cmath>
#include <limits>

#include <catch2/catch_test_macros.hpp>

namespace headroom {
namespace {

// The definition of an f16 pattern, by arithmetic instead of bits.
double Exact(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int fraction = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

TEST_CASE("every finite half converts to its exact value and back", "[base][half]") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if ((half & 0x7c00) == 0x7c00) continue;
    REQUIRE(static_cast<double>(HalfToFloat(half)) == Exact(half));
    REQUIRE(FloatToHalf(HalfToFloat(half)) == half);
  }
}

TEST_CASE("rounding to half takes the nearest, and the even one in the middle", "[base][half]") {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
    const double middle = (Exact(low) + Exact(high)) / 2;
    const auto even = (low & 1) == 0 ? low : high;
    REQUIRE(FloatToHalf(static_cast<float>(middle)) == even);
    REQUIRE(FloatToHalf(std::nextafterf(static_cast<float>(middle), 0.0f)) == low);
    REQUIRE(FloatToHalf(std::nextafterf(static_cast<float>(middle), 1e9f)) == high);
  }
}

TEST_CASE("infinity, overflow and NaN keep their meaning in half", "[base][half]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(FloatToHalf(infinity) == 0x7c00);
  CHECK(FloatToHalf(-infinity) == 0xfc00);
  CHECK(FloatToHalf(65519.0f) == 0x7bff);
  CHECK(FloatToHalf(65520.0f) == 0x7c00);
  CHECK(HalfToFloat(0x7c00) == infinity);
  CHECK(std::isnan(HalfToFloat(FloatToHalf(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("bfloat16 rounds to nearest even and keeps NaN", "[base][half]") {
  CHECK(FloatToBfloat(1.0f) == 0x3f80);
  CHECK(FloatToBfloat(1.00390625f) == 0x3f80);  // halfway, even below
  CHECK(FloatToBfloat(1.01171875f) == 0x3f82);  // halfway, even above
  CHECK(BfloatToFloat(0xc040) == -3.0f);
  CHECK(std::isnan(BfloatToFloat(FloatToBfloat(std::nanf("1")))));
}

}  // namespace
}  // namespace headroom
