// Rotary frequencies against their published definitions, written again in another form.
#include "convert/rope.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

namespace headroom {
namespace {

using convert::ComputeRope;
using convert::RopeFrequencies;
using convert::RopeParameters;
using convert::RopeScaling;

constexpr double kTwoPi = 6.283185307179586;

double Plain(const RopeParameters& p, size_t i) {
  return 1.0 / std::exp(std::log(p.base) * 2.0 * static_cast<double>(i) / p.dims);
}

TEST_CASE("plain and linear frequencies", "[convert][rope]") {
  RopeParameters p{.dims = 64, .base = 10000.0};
  const RopeFrequencies plain = ComputeRope(p);
  REQUIRE(plain.inverse_frequencies.size() == 32);
  CHECK(plain.inverse_frequencies[0] == 1.0f);
  CHECK(plain.attention_factor == 1.0f);
  p.scaling = RopeScaling::kLinear;
  p.factor = 4.0;
  const RopeFrequencies linear = ComputeRope(p);
  for (size_t i = 0; i < 32; ++i) {
    CHECK(plain.inverse_frequencies[i] == Catch::Approx(Plain(p, i)).epsilon(1e-6));
    CHECK(linear.inverse_frequencies[i] == Catch::Approx(Plain(p, i) / 4).epsilon(1e-6));
  }
}

TEST_CASE("llama3 scaling keeps short waves, divides long ones, blends between",
          "[convert][rope]") {
  const RopeParameters p{.dims = 64,
                         .base = 500000.0,
                         .scaling = RopeScaling::kLlama3,
                         .factor = 32.0,
                         .original_context = 8192,
                         .low_frequency_factor = 1.0,
                         .high_frequency_factor = 4.0};
  const RopeFrequencies rope = ComputeRope(p);
  int kept = 0, divided = 0, blended = 0;
  for (size_t i = 0; i < 32; ++i) {
    const double f = Plain(p, i), wavelength = kTwoPi / f;
    double expected;
    if (wavelength < 8192.0 / 4) {
      expected = f;
      ++kept;
    } else if (wavelength > 8192.0) {
      expected = f / 32;
      ++divided;
    } else {
      const double smooth = (8192.0 / wavelength - 1.0) / 3.0;
      expected = (1 - smooth) * f / 32 + smooth * f;
      ++blended;
    }
    INFO(i);
    CHECK(rope.inverse_frequencies[i] == Catch::Approx(expected).epsilon(1e-6));
  }
  CHECK(kept > 0);
  CHECK(divided > 0);
  CHECK(blended > 0);
}

TEST_CASE("yarn blends by dimension and scales attention", "[convert][rope]") {
  RopeParameters p{.dims = 128,
                   .base = 1e6,
                   .scaling = RopeScaling::kYarn,
                   .factor = 4.0,
                   .original_context = 32768};
  const RopeFrequencies rope = ComputeRope(p);
  CHECK(rope.attention_factor == Catch::Approx(0.1 * std::log(4.0) + 1.0));
  // The pair that turns n times in L positions: base^(2i/d) = L / (2 pi n).
  const auto pair_of = [&](double turns) {
    return 128 / 2.0 * std::log(32768 / (kTwoPi * turns)) / std::log(1e6);
  };
  const double low = std::floor(pair_of(32)), high = std::ceil(pair_of(1));
  REQUIRE(low > 5);
  REQUIRE(high < 60);
  for (size_t i = 0; i < 64; ++i) {
    const double divided =
        std::min(1.0, std::max(0.0, (static_cast<double>(i) - low) / (high - low)));
    const double expected = Plain(p, i) * (divided / 4 + (1 - divided));
    INFO(i);
    CHECK(rope.inverse_frequencies[i] == Catch::Approx(expected).epsilon(1e-6));
  }
  p.attention_factor = 1.5;
  CHECK(ComputeRope(p).attention_factor == 1.5f);
  p.attention_factor = 0.0;
  p.mscale = 1.0;
  p.mscale_all_dims = 0.5;
  CHECK(ComputeRope(p).attention_factor ==
        Catch::Approx((0.1 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1)));
}

TEST_CASE("longrope divides each pair by a number of its own and scales attention",
          "[convert][rope]") {
  RopeParameters p{.dims = 6,
                   .base = 10000.0,
                   .scaling = RopeScaling::kLong,
                   .factor = 32.0,
                   .original_context = 4096};
  p.divisors = {1.0, 2.5, 64.0};
  const RopeFrequencies rope = ComputeRope(p);
  REQUIRE(rope.inverse_frequencies.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(rope.inverse_frequencies[i] == Catch::Approx(Plain(p, i) / p.divisors[i]).epsilon(1e-6));
  }
  CHECK(rope.attention_factor == Catch::Approx(std::sqrt(1 + std::log(32.0) / std::log(4096.0))));
  p.factor = 0.5;
  CHECK(ComputeRope(p).attention_factor == 1.0f);
  p.attention_factor = 1.25;
  CHECK(ComputeRope(p).attention_factor == 1.25f);
}

TEST_CASE("no rotated dimensions, no frequencies", "[convert][rope]") {
  CHECK(ComputeRope({.dims = 0}).inverse_frequencies.empty());
}

}  // namespace
}  // namespace headroom
