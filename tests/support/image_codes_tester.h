// Testers of the kernels on codes of 8 bits. Ratios that are no power of two show the arithmetic;
// those that are put results halfway between two codes, where only one is right.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "ops/image.h"
#include "oracle/image_codes.h"
#include "support/compare.h"
#include "support/image_tester.h"

namespace headroom::test {

// Codes that end at a forbidden page.
class GuardedCodes {
 public:
  explicit GuardedCodes(size_t count) : memory_(count) {}
  // All of them in turn, the ends among the first few.
  GuardedCodes(size_t count, std::mt19937& random) : GuardedCodes(count) {
    constexpr int8_t kEnds[] = {-128, 127, 0, -1};
    for (size_t i = 0; i < count; ++i) {
      data()[i] = random() % 5 == 0 ? kEnds[random() % 4] : static_cast<int8_t>(random());
    }
  }
  int8_t* data() const { return memory_.as<int8_t>(); }
  int8_t& operator[](size_t i) const { return data()[i]; }
  std::vector<int> Ints(size_t count) const { return {data(), data() + count}; }

 private:
  GuardedMemory memory_;
};

// What a case's scales are: `halves` makes them powers of two.
struct CodeCase {
  bool halves = false;
  int32_t zero = 0, out_zero = 0;
};
inline std::vector<CodeCase> CodeCases() {
  return {{false, 0, 0}, {false, -3, 4}, {false, 127, -128}, {false, -128, 127},
          {true, 0, 0},  {true, -3, 5},  {true, 100, -100}};
}

// The nearest code to `number`, given in steps of the result's scale. Halfway cases are exact in
// f32, so that exactly one code is right.
inline void CheckCode(int found, double number, double magnitude, const CodeCase& c,
                      const std::string& where, Verdict* verdict) {
  const oracle::CodeSpec spec{1, c.out_zero};
  if (c.halves) return verdict->Check(found, oracle::Encode(number, spec), 0, where);
  verdict->Check(found, oracle::CodePlace(number, spec), NearestCodeAllowance(magnitude), where);
}

inline Verdict TestQuantise(ops::QuantiseKernel kernel, uint32_t count, const CodeCase& c) {
  std::mt19937 random(count + 9);
  const float scale = c.halves ? 0.25f : 0.037f;
  const GuardedFloats x(count, 60 * scale, 0.0f, random);
  for (uint32_t i = 0; i < count; ++i) {
    if (c.halves) x[i] = 0.125f * static_cast<float>(static_cast<int>(random() % 401) - 200);
    if (i % 11 == 10) x[i] = random() % 2 == 0 ? 1e20f : -1e20f;
  }
  const GuardedCodes out(count);
  kernel(x.data(), scale, c.zero, out.data(), count);
  Verdict verdict;
  for (uint32_t i = 0; i < count; ++i) {
    const double steps = x[i] / double{scale};
    CheckCode(out[i], steps, std::min(std::fabs(steps), 1e3), {c.halves, 0, c.zero},
              "number " + std::to_string(x[i]) + " zero " + std::to_string(c.zero), &verdict);
  }
  return verdict;
}

inline Verdict TestDequantise(ops::DequantiseKernel kernel, uint32_t count, const CodeCase& c) {
  std::mt19937 random(count + 10);
  const float scale = c.halves ? 0.25f : 0.037f;
  const GuardedCodes x(count, random);
  const GuardedFloats out(count);
  kernel(x.data(), scale, c.zero, out.data(), count);
  Verdict verdict;
  for (uint32_t i = 0; i < count; ++i) {
    const double exact = oracle::CodeNumber(x[i], {scale, c.zero});
    verdict.Check(out[i], exact, ProductAllowance(exact), "code " + std::to_string(x[i]));
  }
  return verdict;
}

inline Verdict TestAddCodes(ops::AddCodesKernel kernel, uint32_t count, const CodeCase& c,
                            bool in_place) {
  std::mt19937 random(count + 11);
  const ops::CodeScale a_scale{c.halves ? 0.5f : 0.83f, c.zero};
  const ops::CodeScale b_scale{c.halves ? 0.25f : 0.31f, c.zero / 2 + 1};
  const GuardedCodes a(count, random), b(count, random), separate(count);
  const std::vector<int> before = a.Ints(count);
  const GuardedCodes& out = in_place ? a : separate;
  kernel(a.data(), a_scale, b.data(), b_scale, c.out_zero, out.data(), count);
  Verdict verdict;
  for (uint32_t i = 0; i < count; ++i) {
    const double first = oracle::CodeNumber(before[i], {a_scale.ratio, a_scale.zero});
    const double second = oracle::CodeNumber(b[i], {b_scale.ratio, b_scale.zero});
    CheckCode(out[i], first + second, std::fabs(first) + std::fabs(second), c,
              "codes " + std::to_string(before[i]) + " and " + std::to_string(b[i]), &verdict);
  }
  return verdict;
}

inline Verdict TestMoveCodes(ops::MoveCodesKernel kernel, uint32_t count, const CodeCase& c,
                             bool relu, bool in_place) {
  std::mt19937 random(count + 12);
  const ops::CodeScale scale{c.halves ? 0.5f : 1.37f, c.zero};
  const GuardedCodes x(count, random), separate(count);
  const std::vector<int> before = x.Ints(count);
  const GuardedCodes& out = in_place ? x : separate;
  kernel(x.data(), scale, c.out_zero, relu, out.data(), count);
  Verdict verdict;
  for (uint32_t i = 0; i < count; ++i) {
    const double number = oracle::CodeNumber(before[i], {scale.ratio, scale.zero});
    CheckCode(out[i], relu ? std::fmax(number, 0.0) : number, std::fabs(number), c,
              "code " + std::to_string(before[i]) + (relu ? " relu" : ""), &verdict);
  }
  return verdict;
}

inline Verdict TestScaleCodes(ops::ScaleCodesKernel kernel, uint32_t count, const CodeCase& c,
                              bool in_place) {
  std::mt19937 random(count + 13);
  const ops::CodeScale scale{c.halves ? 1.0f : 0.83f, c.zero};
  const GuardedCodes x(count, random), separate(count);
  const std::vector<int> before = x.Ints(count);
  const GuardedFloats factors(count, 1.0f, 0.3f, random);
  for (uint32_t i = 0; i < count && c.halves; ++i) {
    factors[i] = 0.5f * static_cast<float>(random() % 4);
  }
  const GuardedCodes& out = in_place ? x : separate;
  kernel(x.data(), scale, factors.data(), c.out_zero, out.data(), count);
  Verdict verdict;
  for (uint32_t i = 0; i < count; ++i) {
    const double number =
        oracle::CodeNumber(before[i], {scale.ratio, scale.zero}) * double{factors[i]};
    CheckCode(out[i], number, std::fabs(number), c,
              "code " + std::to_string(before[i]) + " by " + std::to_string(factors[i]), &verdict);
  }
  return verdict;
}

// What lies outside of the window is the largest code there is.
inline Verdict TestPoolCodes(ops::PoolCodesKernel kernel, uint32_t channels, const CodeCase& c) {
  std::mt19937 random(channels + 14);
  constexpr uint32_t kPixels = kPoolRows * kPoolColumns;
  const uint32_t stride = channels + 6;
  const ops::CodeScale scale{c.halves ? 0.25f : 0.037f, c.zero};
  Verdict verdict;
  for (const ops::PoolWindow& w : PoolWindows()) {
    const GuardedCodes x((kPixels - 1) * stride + channels, random);
    std::vector<int64_t> sums(channels, 0);
    int64_t pixels = 0;
    for (uint32_t p = 0; p < kPixels; ++p) {
      const bool seen = InWindow(w, p);
      pixels += seen;
      for (uint32_t n = 0; n < channels; ++n) {
        int8_t& code = x[p * stride + n];
        if (!seen) code = 127;
        if (n % 7 == 6 && seen) code = -128;  // as far from 0 as a sum can get
        sums[n] += seen ? code : 0;
      }
    }
    const GuardedFloats out(channels);
    kernel(x.data(), stride, kPoolColumns, w, channels, scale, out.data());
    for (uint32_t n = 0; n < channels; ++n) {
      const double mean = static_cast<double>(sums[n]) / static_cast<double>(pixels);
      verdict.Check(out[n], (mean - c.zero) * scale.ratio,
                    CodeMeanAllowance(mean, c.zero, scale.ratio),
                    "C " + std::to_string(n) + " pixels " + std::to_string(pixels));
    }
  }
  return verdict;
}

}  // namespace headroom::test
