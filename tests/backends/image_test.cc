// Kernels on pictures, portable and of every instruction set, against the oracles.
#include <catch2/catch_test_macros.hpp>
#include <numeric>

#include "base/half.h"
#include "support/image_codes_tester.h"
#include "support/image_tester.h"
#include "support/kernel_subjects.h"

namespace headroom::test {
namespace {

// Runs test(kernels) for every set and requires acceptance.
template <typename Fn>
void ForEachSet(const Fn& test) {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    const Verdict verdict = test(kernels.image);
    INFO(kernels.isa << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("group norm matches the oracle for every width and number of positions",
          "[image][norm]") {
  for (const uint32_t positions : kImagePositions) {
    for (const uint32_t width : kImageWidths) {
      if (positions > 17 && width > 17 && width % 2 == 0) continue;
      for (const bool in_place : {false, true}) {
        ForEachSet([&](const auto& k) {
          return TestGroupNorm(k.group_norm, positions, width, 1, in_place);
        });
      }
    }
  }
}

TEST_CASE("group norm of several groups matches the oracle", "[image][norm]") {
  for (const auto& [channels, groups] :
       {std::pair(6u, 2u), {6u, 6u}, {51u, 3u}, {64u, 32u}, {66u, 2u}, {134u, 2u}}) {
    for (const uint32_t positions : kImagePositions) {
      ForEachSet([&, c = channels, g = groups](const auto& k) {
        return TestGroupNorm(k.group_norm, positions, c, g, g % 4 == 2);
      });
    }
  }
}

// SHViT's norm of one group looks like a norm of channels, and is none.
TEST_CASE("group norm of one group is not a norm of each position", "[image][norm]") {
  constexpr uint32_t kPositions = 16, kChannels = 8;
  std::mt19937 random(5);
  const Strided x(kPositions, kChannels, kChannels);
  FillPositions(x, kPositions, kChannels, 1.0f, random);
  oracle::Picture picture(kPositions, 1, kChannels);
  picture.x = x.Doubles();
  const std::vector<double> one(kChannels, 1.0), zero(kChannels, 0.0);
  const oracle::Picture whole = oracle::GroupNorm(picture, 1, one, zero, 1e-5);
  double apart = 0, mean = 0;
  for (uint32_t p = 0; p < kPositions; ++p) {
    const std::vector<double> row(picture.x.begin() + p * kChannels,
                                  picture.x.begin() + (p + 1) * kChannels);
    const std::vector<double> own = oracle::LayerNorm(row, one, zero, 1e-5);
    for (uint32_t c = 0; c < kChannels; ++c) {
      apart = std::max(apart, std::fabs(own[c] - whole.at(p, 0, c)));
      mean += whole.at(p, 0, c) / (kPositions * kChannels);
    }
  }
  CHECK(apart > 0.5);
  CHECK(std::fabs(mean) < 1e-12);
  // Of one position both are the same.
  oracle::Picture pixel(1, 1, kChannels);
  std::copy_n(picture.x.begin(), kChannels, pixel.x.begin());
  const std::vector<double> own = oracle::LayerNorm(pixel.x, one, zero, 1e-5);
  for (uint32_t c = 0; c < kChannels; ++c) {
    CHECK(std::fabs(oracle::GroupNorm(pixel, 1, one, zero, 1e-5).x[c] - own[c]) < 1e-12);
  }
}

TEST_CASE("pools see their window and nothing else", "[image][pool]") {
  for (const uint32_t channels : kImageWidths) {
    for (const bool mean : {false, true}) {
      ForEachSet([&](const auto& k) { return TestPool(k.pool[mean], !mean, channels); });
    }
    for (const CodeCase& c : CodeCases()) {
      ForEachSet([&](const auto& k) { return TestPoolCodes(k.pool_codes, channels, c); });
    }
  }
}

TEST_CASE("the mean of equal numbers does not drift", "[image][pool]") {
  constexpr uint32_t kSide = 112;
  for (const float number : {0.1f, 6.0f, 0.685838878f}) {
    const std::vector<float> x(size_t{kSide} * kSide, number);
    ForEachSet([&](const auto& k) {
      float mean = 0;
      k.pool[1](x.data(), 1, kSide, {0, kSide, 0, kSide}, 1, &mean);
      Verdict verdict;
      verdict.Check(mean, number, MeanAllowance(number, x.size()), std::to_string(number));
      return verdict;
    });
  }
}

TEST_CASE("blends of four pixels match the oracle", "[image][resize]") {
  for (const uint32_t channels : kImageWidths) {
    ForEachSet([&](const auto& k) { return TestBlend(k.blend, channels); });
  }
}

TEST_CASE("attention among positions matches the oracle", "[image][attention]") {
  for (const AttentionCase& c : AttentionCases()) {
    ForEachSet([&](const auto& k) { return TestSelfAttention(k.turn_keys, k.self_attention, c); });
  }
}

TEST_CASE("numbers become the nearest codes, and codes numbers", "[image][codes]") {
  for (const uint32_t count : kImageWidths) {
    for (const CodeCase& c : CodeCases()) {
      ForEachSet([&](const auto& k) { return TestQuantise(k.quantise, count, c); });
      ForEachSet([&](const auto& k) { return TestDequantise(k.dequantise, count, c); });
    }
  }
}

TEST_CASE("halves become the numbers they are, and numbers the nearest halves", "[image][halves]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    std::vector<uint16_t> halves(1 << 16);
    std::iota(halves.begin(), halves.end(), uint16_t{0});
    std::vector<float> numbers(halves.size());
    kernels.image.from_halves(halves.data(), numbers.data(), 1 << 16);
    std::vector<uint16_t> again(halves.size());
    kernels.image.to_halves(numbers.data(), again.data(), 1 << 16);
    for (uint32_t i = 0; i < halves.size(); ++i) {
      const uint32_t mantissa = i % 1024, exponent = i / 1024 % 32;
      if (exponent == 31 && mantissa != 0) {
        CHECK(std::isnan(numbers[i]));
        CHECK((again[i] & 0x7fffu) > 0x7c00u);
        continue;
      }
      const double size = exponent == 31  ? INFINITY
                          : exponent == 0 ? std::ldexp(mantissa, -24)
                                          : std::ldexp(1024 + mantissa, int(exponent) - 25);
      if (numbers[i] != (i < 0x8000 ? size : -size)) FAIL_CHECK("pattern " << i);
      if (again[i] != i) FAIL_CHECK("pattern " << i << " becomes " << again[i]);
    }
  }
}

TEST_CASE("numbers between two halves become the nearer one, or the even one", "[image][halves]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    for (uint16_t low = 0; low < 0x7c00; low += 37) {  // and the one above, or infinity
      const uint16_t high = low + 1;
      const float a = HalfToFloat(low);
      const float b = high == 0x7c00 ? 65536.0f : HalfToFloat(high);
      const float middle = a + (b - a) / 2;
      const float x[] = {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f),
                         -middle};
      const uint16_t even = low % 2 == 0 ? low : high;
      const GuardedMemory out(sizeof(x) / 2, 2);
      kernels.image.to_halves(x, out.as<uint16_t>(), 4);
      const std::vector<uint16_t> found(out.as<uint16_t>(), out.as<uint16_t>() + 4);
      const std::vector<uint16_t> wanted = {even, low, high, static_cast<uint16_t>(even | 0x8000)};
      INFO("above " << low);
      CHECK(found == wanted);
    }
  }
}

TEST_CASE("codes are added, moved and scaled to the nearest code", "[image][codes]") {
  for (const uint32_t count : {1u, 2u, 7u, 16u, 17u, 33u, 67u, 256u, 1031u}) {
    for (const CodeCase& c : CodeCases()) {
      for (const bool in_place : {false, true}) {
        ForEachSet([&](const auto& k) { return TestAddCodes(k.add_codes, count, c, in_place); });
        ForEachSet(
            [&](const auto& k) { return TestScaleCodes(k.scale_codes, count, c, in_place); });
        for (const bool relu : {false, true}) {
          ForEachSet(
              [&](const auto& k) { return TestMoveCodes(k.move_codes, count, c, relu, in_place); });
        }
      }
    }
  }
}

}  // namespace
}  // namespace headroom::test
