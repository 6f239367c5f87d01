// Row-wise kernels and row codecs, portable and of every instruction set, against the oracles.
#include <catch2/catch_test_macros.hpp>

#include "support/kernel_subjects.h"
#include "support/pointwise_tester.h"

namespace headroom::test {
namespace {

using ops::Activation;
using ops::RopeLayout;

// Runs test(kernels) for every set and requires acceptance.
template <typename Fn>
void ForEachSet(const Fn& test) {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    const Verdict verdict = test(kernels);
    INFO(kernels.isa << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("norms match the oracle, with and without bias, in place or not", "[pointwise]") {
  for (const bool in_place : {false, true}) {
    for (const uint32_t width : kPointwiseWidths) {
      ForEachSet([&](const auto& k) {
        return TestNorm(k.pointwise.rms_norm, NormKind::kRms, width, in_place);
      });
      ForEachSet([&](const auto& k) {
        return TestNorm(k.pointwise.layer_norm, NormKind::kLayer, width, in_place);
      });
    }
  }
}

TEST_CASE("rotary embedding matches the oracle in both layouts", "[pointwise]") {
  for (const uint32_t pairs : kPointwiseWidths) {
    for (const RopeLayout layout : {RopeLayout::kHalfSplit, RopeLayout::kInterleaved}) {
      ForEachSet([&](const auto& k) { return TestRope(k.pointwise.rope, layout, pairs); });
    }
  }
}

TEST_CASE("activations match the oracle, gated or not, in place or not", "[pointwise]") {
  for (int i = 0; i < ops::kActivations; ++i) {
    const Activation kind = static_cast<Activation>(i);
    for (const uint32_t width : kPointwiseWidths) {
      for (const bool gated : {false, true}) {
        ForEachSet([&](const auto& k) {
          return TestActivation(k.pointwise.activation[static_cast<int>(kind)], kind, width, gated,
                                width % 2);
        });
      }
    }
  }
}

TEST_CASE("activations at their ends", "[pointwise]") {
  struct Row {
    Activation kind;
    float x, y;
  };
  constexpr float kInf = INFINITY;
  const Row rows[] = {{Activation::kExp, -kInf, 0},
                      {Activation::kExp, kInf, kInf},
                      {Activation::kExp, 0, 1},
                      {Activation::kExp, 88.8f, kInf},
                      {Activation::kExp, 3e38f, kInf},
                      {Activation::kSoftplus, -kInf, 0},
                      {Activation::kSoftplus, kInf, kInf},
                      {Activation::kSoftplus, 3e38f, 3e38f},
                      {Activation::kTanh, -kInf, -1},
                      {Activation::kTanh, kInf, 1},
                      {Activation::kEluPlus1, -kInf, 0},
                      {Activation::kEluPlus1, kInf, kInf},
                      {Activation::kReluSquared, -kInf, 0},
                      {Activation::kReluSquared, kInf, kInf}};
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    for (const Row& row : rows) {
      for (const uint32_t width : {1u, 16u}) {
        const std::vector<float> x(width, row.x);
        std::vector<float> y(width, 7.0f);
        kernels.pointwise.activation[static_cast<int>(row.kind)](x.data(), nullptr, y.data(),
                                                                 width);
        INFO(kernels.isa << " activation " << static_cast<int>(row.kind) << " of " << row.x);
        CHECK(y[width - 1] == row.y);
      }
    }
    for (const Activation kind : {Activation::kExp, Activation::kSoftplus, Activation::kTanh,
                                  Activation::kEluPlus1}) {  // NaN is not hidden
      const std::vector<float> x(16, NAN);
      std::vector<float> y(16, 7.0f);
      kernels.pointwise.activation[static_cast<int>(kind)](x.data(), nullptr, y.data(), 16);
      INFO(kernels.isa << " activation " << static_cast<int>(kind));
      CHECK(std::isnan(y[3]));
    }
  }
}

TEST_CASE("softplus and exp keep their digits where they vanish", "[pointwise]") {
  for (const Activation kind : {Activation::kSoftplus, Activation::kExp, Activation::kEluPlus1}) {
    for (const xnnpack::Kernels& kernels : KernelSubjects()) {
      std::vector<float> x, y(860);
      for (int i = 0; i < 860; ++i) x.push_back(-0.1f * static_cast<float>(i));
      kernels.pointwise.activation[static_cast<int>(kind)](x.data(), nullptr, y.data(), 860);
      Verdict verdict;
      for (size_t i = 0; i < x.size(); ++i) {
        const double exact = ExactActivation(kind, x[i]);
        verdict.Check(y[i], exact, ActivationAllowance(0, exact, x[i]) - kSmallest,
                      "x " + std::to_string(x[i]));
      }
      INFO(kernels.isa << ", activation " << static_cast<int>(kind) << ": " << verdict.Why());
      CHECK(verdict.accepted());
    }
  }
}

TEST_CASE("products of rows match the oracle, in place of any operand", "[pointwise]") {
  for (const uint32_t width : kPointwiseWidths) {
    ForEachSet([&](const auto& k) { return TestMultiply(k.pointwise.multiply, width); });
    for (int place = 0; place < 4; ++place) {
      for (const bool has_addend : {false, true}) {
        if (place == 2 && !has_addend) continue;
        ForEachSet([&](const auto& k) {
          return TestMultiplyAdd(k.pointwise.multiply_add, width, has_addend, place);
        });
      }
      for (const uint32_t heads : {1u, 3u}) {
        ForEachSet([&](const auto& k) {
          return TestHeadProduct(k.pointwise.head_product, heads, width, place);
        });
      }
    }
  }
}

TEST_CASE("convolutions match the oracle for every number of taps", "[pointwise]") {
  for (const uint32_t width : kPointwiseWidths) {
    for (uint32_t taps = 1; taps <= ops::kMostTaps; ++taps) {
      for (const bool has_bias : {false, true}) {
        ForEachSet([&](const auto& k) {
          return TestConvolve(k.pointwise.convolve, taps, width, has_bias);
        });
      }
    }
  }
}

TEST_CASE("sums, products and caps match the oracle", "[pointwise]") {
  for (const uint32_t width : kPointwiseWidths) {
    ForEachSet([&](const auto& k) { return TestAdd(k.pointwise.add, width); });
    ForEachSet([&](const auto& k) { return TestScale(k.pointwise.scale, width); });
    for (const float cap : {5.0f, 30.0f, 50.0f}) {
      ForEachSet([&](const auto& k) { return TestSoftcap(k.pointwise.softcap, width, cap); });
    }
  }
}

TEST_CASE("vectors turned into a basis match the oracle", "[pointwise]") {
  for (const uint32_t width : kPointwiseWidths) {
    if (width > ops::kMostBasisWidth) continue;
    ForEachSet([&](const auto& k) { return TestBasis(k.pointwise.to_basis, width); });
  }
}

TEST_CASE("encoded rows decode to within the codec's step", "[codec]") {
  for (const uint32_t width : kPointwiseWidths) {
    for (int codec = 0; codec < 3; ++codec) {  // the others: row_codec_test
      for (const auto& [spread, middle] : {std::pair(1.0f, 0.0f),
                                           {0.01f, 0.0f},
                                           {20.0f, 300.0f},
                                           {1.0f, -70.0f},
                                           {1e-4f, 0.0f},
                                           {2000.0f, 0.0f}}) {
        ForEachSet([&](const auto& k) {
          return TestEncode(k.encode_row[codec], static_cast<RowCodec>(codec), width, spread,
                            middle);
        });
      }
    }
  }
}

// Scale, minimum and codes of a row as int8.
struct EncodedI8 {
  double scale, minimum;
  std::vector<int8_t> codes;
  double Value(size_t d) const { return scale * (codes[d] + 128) + minimum; }
};

EncodedI8 Encode(const xnnpack::Kernels& kernels, std::vector<float> row) {
  EncodedI8 out;
  uint16_t meta[2] = {0xffff, 0xffff};
  out.codes.resize(row.size());
  kernels.encode_row[2](row.data(), static_cast<uint32_t>(row.size()),
                        reinterpret_cast<std::byte*>(out.codes.data()), meta);
  out.scale = oracle::DecodeF16(meta[0]);
  out.minimum = oracle::DecodeF16(meta[1]);
  return out;
}

TEST_CASE("int8 rows that are constant decode to the constant", "[codec]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    for (const float x : {0.0f, 1.0f, -3.5f, 65504.0f, 0x1p-20f}) {  // f16 holds these
      const EncodedI8 row = Encode(kernels, std::vector<float>(37, x));
      CHECK(row.scale == 0);
      CHECK(row.Value(0) == x);
      CHECK(row.Value(36) == x);
    }
    const EncodedI8 third = Encode(kernels, std::vector<float>(5, 1.0f / 3));  // f16 does not
    CHECK(std::fabs(third.Value(4) - 1.0f / 3) <=
          CodeAllowance(1.0f / 3, third.minimum, third.scale));
  }
}

TEST_CASE("int8 rows with NaN and infinities stay finite and keep the numbers", "[codec]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    const EncodedI8 mixed = Encode(kernels, {1.0f, NAN, -2.0f, 0.5f, NAN});
    CHECK(std::fabs(mixed.Value(0) - 1.0) <= mixed.scale);
    CHECK(std::fabs(mixed.Value(2) + 2.0) <= mixed.scale);
    CHECK(mixed.codes[1] == -128);  // the minimum
    const EncodedI8 wild = Encode(kernels, {INFINITY, -INFINITY, 3.0f, 1e30f});
    CHECK(std::isfinite(wild.scale));
    CHECK(wild.codes[0] == 127);
    CHECK(wild.codes[1] == -128);
    CHECK(wild.codes[3] == 127);
    const EncodedI8 nothing = Encode(kernels, std::vector<float>(20, NAN));
    CHECK(nothing.Value(7) == 0);
  }
}

TEST_CASE("int8 rows are encoded to the same bits by every kernel", "[codec]") {
  // A session saved on one machine must mean the same on another.
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.4f, 2.0f);
  const xnnpack::Kernels portable = xnnpack::PortableKernels();
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    for (int i = 0; i < 200; ++i) {
      std::vector<float> row(1 + i);
      for (float& x : row) x = normal(random);
      const EncodedI8 a = Encode(kernels, row), b = Encode(portable, row);
      REQUIRE((a.codes == b.codes));  // in brackets: long rows are no use in a message
      REQUIRE(a.scale == b.scale);
      REQUIRE(a.minimum == b.minimum);
    }
  }
}

TEST_CASE("f16 rows keep denormals, infinities, NaN and ties to even", "[codec]") {
  const std::vector<float> row = {
      0x1p-24f, 0x1p-25f,  0x1.8p-24f,      65504.0f,        65519.0f, 65520.0f,
      INFINITY, -INFINITY, 1.0f + 0x1p-11f, 1.0f + 0x3p-11f, -0.0f,    1e-30f,
      -1e30f,   0.1f,      2049.0f,         2051.0f,         NAN};
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    std::vector<uint16_t> out(row.size());
    kernels.encode_row[1](row.data(), static_cast<uint32_t>(row.size()),
                          reinterpret_cast<std::byte*>(out.data()), nullptr);
    for (size_t i = 0; i < row.size(); ++i) {
      INFO(kernels.isa << " element " << i);
      if (std::isnan(row[i])) {
        CHECK(std::isnan(oracle::DecodeF16(out[i])));
      } else {
        CHECK(out[i] == FloatToHalf(row[i]));
      }
    }
  }
}

// --- the list
// --------------------------------------------------------------------------------------

enum class Family {
  kMix,
  kEncodeRow,
  kDecodeRows,
  kHadamard,
  kMerge,
  kNorm,
  kRope,
  kActivation,
  kElementwise,
  kLinearMix,
  kBasis,
  kImage
};

TEST_CASE("every kernel of the table is listed, and no slot is empty in any set", "[kernels]") {
  size_t listed = 0;
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    listed = 0;
#define HR_KERNEL(stem, family, slot) \
  {                                   \
    INFO(#stem);                      \
    CHECK(kernels.slot != nullptr);   \
    (void)Family::family;             \
    ++listed;                         \
  }
#include "backends/xnnpack/kernel_list.inc"
#undef HR_KERNEL
  }
  // The table is function pointers and two names; the cases above, softmax_mix_test and
  // linear_mix_test walk every
  // slot of a family by index or name, so a slot that is not listed is one that is not tested.
  CHECK(listed == sizeof(xnnpack::Kernels) / sizeof(void*) - 2);
}

}  // namespace
}  // namespace headroom::test
