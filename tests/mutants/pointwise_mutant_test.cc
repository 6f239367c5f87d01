// Wrong row-wise kernels and encoders, given to the testers of the right ones.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "attention/row_codec.h"
#include "support/pointwise_tester.h"

namespace headroom::mutants {
namespace {

using namespace test;  // NOLINT: the testers

enum class NormBug {
  kNone,
  kEpsilonDropped,
  kEpsilonOutside,
  kSumForMean,
  kWeightDropped,
  kBiasDropped,
  kMeanKept,
  kVarianceUnbiased,
  kFirstRowForAll,
  kLastElementLeft,
  kStrideIgnored
};

template <NormKind kKind, NormBug kBug>
void WrongNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride, uint32_t rows,
               uint32_t width, const float* weight, const float* bias, float epsilon) {
  if (kBug == NormBug::kStrideIgnored) x_stride = width;
  const bool centred = kKind == NormKind::kLayer && kBug != NormBug::kMeanKept;
  const double outside = kBug == NormBug::kEpsilonOutside ? epsilon : 0;
  const double inside =
      kBug == NormBug::kEpsilonDropped || kBug == NormBug::kEpsilonOutside ? 0 : epsilon;
  const double divisor = kBug == NormBug::kSumForMean         ? 1
                         : kBug == NormBug::kVarianceUnbiased ? std::max(width, 2u) - 1.0
                                                              : width;
  for (uint32_t r = 0; r < rows; ++r) {
    const float* row = x + r * x_stride;
    double mean = 0, squares = 0;
    for (uint32_t c = 0; c < width && centred; ++c) mean += row[c];
    mean /= width;
    for (uint32_t c = 0; c < width; ++c) squares += (row[c] - mean) * (row[c] - mean);
    const double root = std::sqrt(squares / divisor + inside) + outside;
    float* to = out + (kBug == NormBug::kFirstRowForAll ? 0 : r) * out_stride;
    for (uint32_t c = 0; c + (kBug == NormBug::kLastElementLeft ? 1 : 0) < width; ++c) {
      const double gain = kBug == NormBug::kWeightDropped ? 1 : weight[c];
      const double shift = bias == nullptr || kBug == NormBug::kBiasDropped ? 0 : bias[c];
      to[c] = static_cast<float>((row[c] - mean) / root * gain + shift);
    }
  }
}

bool NormRejected(ops::NormKernel kernel, NormKind kind) {
  return std::any_of(std::begin(kPointwiseWidths), std::end(kPointwiseWidths), [&](uint32_t width) {
    return !TestNorm(kernel, kind, width, false).accepted();
  });
}

template <NormKind kKind>
void CheckNorms() {
  CHECK_FALSE(NormRejected(WrongNorm<kKind, NormBug::kNone>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kEpsilonDropped>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kEpsilonOutside>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kSumForMean>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kWeightDropped>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kBiasDropped>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kVarianceUnbiased>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kFirstRowForAll>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kLastElementLeft>, kKind));
  CHECK(NormRejected(WrongNorm<kKind, NormBug::kStrideIgnored>, kKind));
}

TEST_CASE("every wrong RMSNorm is rejected, the right one is not", "[mutant][pointwise]") {
  CheckNorms<NormKind::kRms>();
  CHECK(NormRejected(WrongNorm<NormKind::kLayer, NormBug::kNone>, NormKind::kRms));
}
TEST_CASE("every wrong LayerNorm is rejected, the right one is not", "[mutant][pointwise]") {
  CheckNorms<NormKind::kLayer>();
  CHECK(NormRejected(WrongNorm<NormKind::kLayer, NormBug::kMeanKept>, NormKind::kLayer));
}

enum class RopeBug {
  kNone,
  kMinusSineDropped,
  kPlusSineDropped,
  kSignsSwapped,
  kLayoutSwapped,
  kInPlaceStale,
  kLastPairLeft
};

template <RopeBug kBug>
void WrongRope(float* x, uint32_t dims, ops::RopeLayout layout, const float* cos_sin) {
  const uint32_t pairs = dims / 2;
  const bool half = (layout == ops::RopeLayout::kHalfSplit) != (kBug == RopeBug::kLayoutSwapped);
  for (uint32_t i = 0; i + (kBug == RopeBug::kLastPairLeft ? 1 : 0) < pairs; ++i) {
    float& first = x[half ? i : 2 * i];
    float& second = x[half ? i + pairs : 2 * i + 1];
    float a = first;
    const float b = second, c = cos_sin[i];
    const float s = kBug == RopeBug::kSignsSwapped ? -cos_sin[pairs + i] : cos_sin[pairs + i];
    first = a * c - (kBug == RopeBug::kMinusSineDropped ? 0 : b * s);
    if (kBug == RopeBug::kInPlaceStale) a = first;
    second = b * c + (kBug == RopeBug::kPlusSineDropped ? 0 : a * s);
  }
}

bool RopeRejected(ops::RopeKernel kernel) {
  for (const uint32_t pairs : kPointwiseWidths) {
    for (const auto layout : {ops::RopeLayout::kHalfSplit, ops::RopeLayout::kInterleaved}) {
      if (!TestRope(kernel, layout, pairs).accepted()) return true;
    }
  }
  return false;
}

TEST_CASE("every wrong rotation is rejected, the right one is not", "[mutant][pointwise]") {
  CHECK_FALSE(RopeRejected(WrongRope<RopeBug::kNone>));
  CHECK(RopeRejected(WrongRope<RopeBug::kMinusSineDropped>));
  CHECK(RopeRejected(WrongRope<RopeBug::kPlusSineDropped>));
  CHECK(RopeRejected(WrongRope<RopeBug::kSignsSwapped>));
  CHECK(RopeRejected(WrongRope<RopeBug::kLayoutSwapped>));
  CHECK(RopeRejected(WrongRope<RopeBug::kInPlaceStale>));
  CHECK(RopeRejected(WrongRope<RopeBug::kLastPairLeft>));
}

enum class ActBug { kNone, kOtherGelu, kUpIgnored, kOverflows, kTailCut, kPlainLog };

template <ops::Activation kKind, ActBug kBug>
void WrongAct(const float* gate, const float* up, float* out, uint32_t width) {
  using ops::Activation;
  for (uint32_t i = 0; i < width; ++i) {
    const double x = gate[i];
    double y = ExactActivation(kKind, x);
    if (kBug == ActBug::kOtherGelu) {
      y = ExactActivation(
          kKind == Activation::kGeluErf ? Activation::kGeluTanh : Activation::kGeluErf, x);
    }
    if (kBug == ActBug::kOverflows) y = gate[i] * (std::exp(gate[i]) / (1 + std::exp(gate[i])));
    if (kBug == ActBug::kTailCut && x < -4) y = 0;
    if (kBug == ActBug::kPlainLog) y = std::log(1 + std::exp(gate[i]));  // in f32
    out[i] = static_cast<float>(y * (up == nullptr || kBug == ActBug::kUpIgnored ? 1.0 : up[i]));
  }
}

template <ops::Activation kKind>
bool ActRejected(ops::ActivationKernel kernel) {
  for (const uint32_t width : kPointwiseWidths) {
    for (const bool gated : {false, true}) {
      if (!TestActivation(kernel, kKind, width, gated, false).accepted()) return true;
    }
  }
  return false;
}

TEST_CASE("every wrong activation is rejected, the right one is not", "[mutant][pointwise]") {
  using enum ops::Activation;
  CHECK_FALSE(ActRejected<kSilu>(WrongAct<kSilu, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kGeluErf>(WrongAct<kGeluErf, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kGeluTanh>(WrongAct<kGeluTanh, ActBug::kNone>));
  CHECK(ActRejected<kSilu>(WrongAct<kSilu, ActBug::kUpIgnored>));
  CHECK(ActRejected<kSilu>(WrongAct<kSilu, ActBug::kOverflows>));
  CHECK(ActRejected<kGeluErf>(WrongAct<kGeluErf, ActBug::kOtherGelu>));
  CHECK(ActRejected<kGeluErf>(WrongAct<kGeluErf, ActBug::kTailCut>));
  CHECK(ActRejected<kGeluTanh>(WrongAct<kGeluTanh, ActBug::kOtherGelu>));
  CHECK_FALSE(ActRejected<kQuickGelu>(WrongAct<kQuickGelu, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kSigmoid>(WrongAct<kSigmoid, ActBug::kNone>));
  CHECK(ActRejected<kRelu>(WrongAct<kSilu, ActBug::kNone>));
  CHECK(ActRejected<kQuickGelu>(WrongAct<kGeluTanh, ActBug::kNone>));
  CHECK(ActRejected<kQuickGelu>(WrongAct<kSilu, ActBug::kNone>));
  CHECK(ActRejected<kSigmoid>(WrongAct<kSilu, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kTanh>(WrongAct<kTanh, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kSoftplus>(WrongAct<kSoftplus, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kExp>(WrongAct<kExp, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kEluPlus1>(WrongAct<kEluPlus1, ActBug::kNone>));
  CHECK_FALSE(ActRejected<kReluSquared>(WrongAct<kReluSquared, ActBug::kNone>));
  CHECK(ActRejected<kTanh>(WrongAct<kSigmoid, ActBug::kNone>));
  CHECK(ActRejected<kSoftplus>(WrongAct<kSoftplus, ActBug::kTailCut>));
  CHECK(ActRejected<kSoftplus>(WrongAct<kRelu, ActBug::kNone>));
  CHECK(ActRejected<kSoftplus>(WrongAct<kSoftplus, ActBug::kPlainLog>));
  CHECK(ActRejected<kExp>(WrongAct<kEluPlus1, ActBug::kNone>));
  CHECK(ActRejected<kExp>(WrongAct<kExp, ActBug::kTailCut>));
  CHECK(ActRejected<kEluPlus1>(WrongAct<kExp, ActBug::kNone>));
  CHECK(ActRejected<kReluSquared>(WrongAct<kRelu, ActBug::kNone>));
}

enum class RowBug {
  kNone,
  kAddendIgnored,
  kFactorIgnored,
  kOtherHead,
  kUnscaled,
  kOldestLast,
  kBiasIgnored,
  kFirstTapLeft,
  kLastElementLeft
};

template <RowBug kBug>
void WrongMultiplyAdd(const float* x, const float* factor, const float* addend, float* out,
                      uint32_t width) {
  for (uint32_t i = 0; i + (kBug == RowBug::kLastElementLeft) < width; ++i) {
    const float by = kBug == RowBug::kFactorIgnored ? 1 : factor[i];
    out[i] = x[i] * by + (addend == nullptr || kBug == RowBug::kAddendIgnored ? 0 : addend[i]);
  }
}

template <RowBug kBug>
void WrongHeadProduct(const float* a, const float* b, const float* c, float* out, uint32_t heads,
                      uint32_t width) {
  for (uint32_t h = 0; h < heads; ++h) {
    double dot = 0;
    const uint32_t from = (kBug == RowBug::kOtherHead ? 0 : h) * width;
    for (uint32_t i = 0; i + (kBug == RowBug::kLastElementLeft) < width; ++i) {
      dot += double{a[from + i]} * b[from + i];
    }
    for (uint32_t i = h * width; i < (h + 1) * width; ++i) {
      out[i] = static_cast<float>(kBug == RowBug::kUnscaled ? dot : dot * c[i]);
    }
  }
}

template <RowBug kBug>
void WrongConvolve(const float* const* rows, uint32_t taps, const float* weight, const float* bias,
                   float* out, uint32_t width) {
  for (uint32_t i = 0; i + (kBug == RowBug::kLastElementLeft) < width; ++i) {
    double sum = bias == nullptr || kBug == RowBug::kBiasIgnored ? 0 : bias[i];
    for (uint32_t j = kBug == RowBug::kFirstTapLeft; j < taps; ++j) {
      sum +=
          double{weight[j * width + i]} * rows[kBug == RowBug::kOldestLast ? taps - 1 - j : j][i];
    }
    out[i] = static_cast<float>(sum);
  }
}

bool MultiplyAddRejected(ops::MultiplyAddKernel kernel) {
  return std::any_of(std::begin(kPointwiseWidths), std::end(kPointwiseWidths), [&](uint32_t width) {
    return !TestMultiplyAdd(kernel, width, true, 0).accepted() ||
           !TestMultiplyAdd(kernel, width, false, 3).accepted();
  });
}
bool HeadProductRejected(ops::HeadProductKernel kernel) {
  return std::any_of(std::begin(kPointwiseWidths), std::end(kPointwiseWidths), [&](uint32_t width) {
    return !TestHeadProduct(kernel, 3, width, 3).accepted();
  });
}
bool ConvolveRejected(ops::ConvolveKernel kernel) {
  return std::any_of(std::begin(kPointwiseWidths), std::end(kPointwiseWidths), [&](uint32_t width) {
    return !TestConvolve(kernel, 4, width, true).accepted();
  });
}

TEST_CASE("every wrong product of rows is rejected, the right one is not", "[mutant][pointwise]") {
  CHECK_FALSE(MultiplyAddRejected(WrongMultiplyAdd<RowBug::kNone>));
  CHECK(MultiplyAddRejected(WrongMultiplyAdd<RowBug::kAddendIgnored>));
  CHECK(MultiplyAddRejected(WrongMultiplyAdd<RowBug::kFactorIgnored>));
  CHECK(MultiplyAddRejected(WrongMultiplyAdd<RowBug::kLastElementLeft>));
  CHECK_FALSE(HeadProductRejected(WrongHeadProduct<RowBug::kNone>));
  CHECK(HeadProductRejected(WrongHeadProduct<RowBug::kOtherHead>));
  CHECK(HeadProductRejected(WrongHeadProduct<RowBug::kUnscaled>));
  CHECK(HeadProductRejected(WrongHeadProduct<RowBug::kLastElementLeft>));
  CHECK_FALSE(ConvolveRejected(WrongConvolve<RowBug::kNone>));
  CHECK(ConvolveRejected(WrongConvolve<RowBug::kOldestLast>));
  CHECK(ConvolveRejected(WrongConvolve<RowBug::kBiasIgnored>));
  CHECK(ConvolveRejected(WrongConvolve<RowBug::kFirstTapLeft>));
  CHECK(ConvolveRejected(WrongConvolve<RowBug::kLastElementLeft>));
}

enum class TurnBug { kNone, kTurnedRound, kInPlace, kLastColumnLeft };

template <TurnBug kBug>
void WrongBasis(float* x, const float* basis, uint32_t width) {
  const std::vector<float> before(x, x + width);
  for (uint32_t j = 0; j + (kBug == TurnBug::kLastColumnLeft) < width; ++j) {
    double sum = 0;
    for (uint32_t i = 0; i < width; ++i) {
      const float factor = kBug == TurnBug::kInPlace ? x[i] : before[i];
      sum += double{factor} * basis[kBug == TurnBug::kTurnedRound ? j * width + i : i * width + j];
    }
    x[j] = static_cast<float>(sum);
  }
}

bool BasisRejected(ops::BasisKernel kernel) {
  for (const uint32_t width : kPointwiseWidths) {
    if (!TestBasis(kernel, width).accepted()) return true;
  }
  return false;
}

TEST_CASE("every wrong turn into a basis is rejected, the right one is not",
          "[mutant][pointwise]") {
  CHECK_FALSE(BasisRejected(WrongBasis<TurnBug::kNone>));
  CHECK(BasisRejected(WrongBasis<TurnBug::kTurnedRound>));
  CHECK(BasisRejected(WrongBasis<TurnBug::kInPlace>));
  CHECK(BasisRejected(WrongBasis<TurnBug::kLastColumnLeft>));
}

enum class CodeBug { kNone, kMinimumDropped, kTruncated, kSymmetric, kCoarse, kSignedOffset };

template <CodeBug kBug>
void WrongEncodeI8(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  float low = *std::min_element(row, row + width), high = *std::max_element(row, row + width);
  if (kBug == CodeBug::kMinimumDropped) low = 0;
  if (kBug == CodeBug::kSymmetric) {
    high = std::max(std::fabs(low), std::fabs(high));
    low = -high;
  }
  if (kBug == CodeBug::kCoarse) high += high - low;
  const attention::I8TokenRange range = attention::MakeI8TokenRange(low, high);
  meta[0] = range.scale_f16;
  meta[1] = range.minimum_f16;
  for (uint32_t d = 0; d < width; ++d) {
    const float x = (row[d] - range.minimum) * range.inverse_scale;
    const float code =
        std::clamp(kBug == CodeBug::kTruncated ? std::floor(x) : std::nearbyint(x), 0.0f, 255.0f);
    const int stored = static_cast<int>(code) - (kBug == CodeBug::kSignedOffset ? 127 : 128);
    reinterpret_cast<int8_t*>(data)[d] = static_cast<int8_t>(std::min(stored, 127));
  }
}

bool EncodeRejected(attention::EncodeRowKernel kernel) {
  for (const uint32_t width : kPointwiseWidths) {
    for (const auto& [spread, middle] : {std::pair(1.0f, 0.0f), {20.0f, 300.0f}, {1.0f, -70.0f}}) {
      if (!TestEncode(kernel, RowCodec::kI8Token, width, spread, middle).accepted()) return true;
    }
  }
  return false;
}

TEST_CASE("every wrong int8 encoder is rejected, the right one is not", "[mutant][codec]") {
  CHECK_FALSE(EncodeRejected(WrongEncodeI8<CodeBug::kNone>));
  CHECK(EncodeRejected(WrongEncodeI8<CodeBug::kMinimumDropped>));
  CHECK(EncodeRejected(WrongEncodeI8<CodeBug::kTruncated>));
  CHECK(EncodeRejected(WrongEncodeI8<CodeBug::kSymmetric>));
  CHECK(EncodeRejected(WrongEncodeI8<CodeBug::kCoarse>));
  CHECK(EncodeRejected(WrongEncodeI8<CodeBug::kSignedOffset>));
}

}  // namespace
}  // namespace headroom::mutants
