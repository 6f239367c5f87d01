// Wrong kernels on pictures, given to the testers of the right ones.
#include <catch2/catch_test_macros.hpp>

#include "support/image_codes_tester.h"
#include "support/image_tester.h"

namespace headroom::mutants {
namespace {

using namespace test;  // NOLINT: the testers

enum class NormBug {
  kNone,
  kEachPosition,
  kEachChannel,
  kOneGroup,
  kEpsilonDropped,
  kEpsilonOutside,
  kWeightDropped,
  kBiasDropped,
  kMeanKept,
  kUnbiased,
  kLastPositionLeft,
  kWeightOfGroup,
  kStrideIgnored
};

template <NormBug kBug>
void WrongGroupNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride,
                    uint32_t positions, uint32_t channels, uint32_t groups, const float* weight,
                    const float* bias, float epsilon) {
  if (kBug == NormBug::kStrideIgnored) x_stride = channels;
  if (kBug == NormBug::kOneGroup) groups = 1;
  if (kBug == NormBug::kEachChannel) groups = channels;
  const uint32_t width = channels / groups;
  const uint32_t step = kBug == NormBug::kEachPosition ? 1 : positions;
  for (uint32_t at = 0; at < channels * (positions / step); ++at) {
    const uint32_t c = at % channels, first = c / width * width, begin = at / channels * step;
    if (c != first) continue;
    double mean = 0, squares = 0;
    const auto each = [&](const auto& visit) {
      for (uint32_t p = begin; p < begin + step; ++p) {
        for (uint32_t i = first; i < first + width; ++i) visit(p, i, double{x[p * x_stride + i]});
      }
    };
    const double count = double{1} * step * width;
    each([&](uint32_t, uint32_t, double v) { mean += v / count; });
    each([&](uint32_t, uint32_t, double v) { squares += (v - mean) * (v - mean); });
    const double divisor = kBug == NormBug::kUnbiased && count > 1 ? count - 1 : count;
    const bool outside = kBug == NormBug::kEpsilonOutside;
    const bool inside = !outside && kBug != NormBug::kEpsilonDropped;
    const double root =
        std::sqrt(squares / divisor + (inside ? epsilon : 0)) + (outside ? epsilon : 0);
    each([&](uint32_t p, uint32_t i, double v) {
      if (kBug == NormBug::kLastPositionLeft && p + 1 == positions) return;
      const uint32_t w = kBug == NormBug::kWeightOfGroup ? i - first : i;
      const double gain = kBug == NormBug::kWeightDropped ? 1 : weight[w];
      const double shift = kBug == NormBug::kBiasDropped ? 0 : bias[i];
      const double centre = kBug == NormBug::kMeanKept ? 0 : mean;
      out[p * out_stride + i] = static_cast<float>((v - centre) / root * gain + shift);
    });
  }
}

bool Rejected(ops::GroupNormKernel kernel) {
  return !TestGroupNorm(kernel, 17, 9, 1, false).accepted() ||
         !TestGroupNorm(kernel, 49, 12, 3, false).accepted();
}

TEST_CASE("every wrong group norm is rejected, the right one is not", "[mutant][image]") {
  CHECK_FALSE(Rejected(WrongGroupNorm<NormBug::kNone>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kEachPosition>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kEachChannel>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kOneGroup>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kEpsilonDropped>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kEpsilonOutside>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kWeightDropped>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kBiasDropped>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kMeanKept>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kUnbiased>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kLastPositionLeft>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kWeightOfGroup>));
  CHECK(Rejected(WrongGroupNorm<NormBug::kStrideIgnored>));
}

enum class PoolBug {
  kNone,
  kPaddingCounted,
  kFromZero,
  kSum,
  kRowTooMany,
  kFirstColumnLeft,
  kLastChannelLeft,
  kZeroIgnored,
  kScaleDropped
};

// `padded`: the window's pixels if the picture went on beyond its edges.
template <PoolBug kBug, typename Pixel, typename Merge>
double PoolOne(const ops::PoolWindow& w, double start, const Pixel& pixel, const Merge& merge) {
  double result = kBug == PoolBug::kFromZero ? 0 : start;
  const uint32_t more = kBug == PoolBug::kRowTooMany && w.row_end < kPoolRows ? 1 : 0;
  const uint32_t left = kBug == PoolBug::kFirstColumnLeft && w.column_end > w.column_begin + 1;
  for (uint32_t row = w.row_begin; row < w.row_end + more; ++row) {
    for (uint32_t column = w.column_begin + left; column < w.column_end; ++column) {
      result = merge(result, pixel(row * kPoolColumns + column));
    }
  }
  return result;
}
template <PoolBug kBug>
double Divisor(const ops::PoolWindow& w) {
  if (kBug == PoolBug::kSum) return 1;
  // As many as in the middle of the picture, though the window ends at its edge.
  const uint32_t padding = kBug == PoolBug::kPaddingCounted && w.row_end == kPoolRows ? 1 : 0;
  return (w.row_end - w.row_begin + padding) * (w.column_end - w.column_begin);
}

template <PoolBug kBug, bool kLargest>
void WrongPool(const float* x, uint32_t stride, uint32_t, const ops::PoolWindow& w,
               uint32_t channels, float* out) {
  for (uint32_t c = 0; c + (kBug == PoolBug::kLastChannelLeft) < channels; ++c) {
    const double pooled = PoolOne<kBug>(
        w, kLargest ? -INFINITY : 0.0, [&](uint32_t p) { return double{x[p * stride + c]}; },
        [](double a, double b) { return kLargest ? std::max(a, b) : a + b; });
    out[c] = static_cast<float>(kLargest ? pooled : pooled / Divisor<kBug>(w));
  }
}

template <PoolBug kBug>
void WrongPoolCodes(const int8_t* x, uint32_t stride, uint32_t, const ops::PoolWindow& w,
                    uint32_t channels, ops::CodeScale scale, float* out) {
  for (uint32_t c = 0; c + (kBug == PoolBug::kLastChannelLeft) < channels; ++c) {
    const double sum = PoolOne<kBug>(
        w, 0.0, [&](uint32_t p) { return double{1} * x[p * stride + c]; },
        [](double a, double b) { return a + b; });
    const double zero = kBug == PoolBug::kZeroIgnored ? 0 : scale.zero;
    const double ratio = kBug == PoolBug::kScaleDropped ? 1 : scale.ratio;
    out[c] = static_cast<float>((sum / Divisor<kBug>(w) - zero) * ratio);
  }
}

TEST_CASE("every wrong pool is rejected, the right one is not", "[mutant][image]") {
  const auto rejected = [](ops::PoolKernel kernel, bool largest) {
    return !TestPool(kernel, largest, 17).accepted();
  };
  CHECK_FALSE(rejected(WrongPool<PoolBug::kNone, true>, true));
  CHECK_FALSE(rejected(WrongPool<PoolBug::kNone, false>, false));
  CHECK(rejected(WrongPool<PoolBug::kNone, true>, false));
  CHECK(rejected(WrongPool<PoolBug::kFromZero, true>, true));
  CHECK(rejected(WrongPool<PoolBug::kFirstColumnLeft, true>, true));
  CHECK(rejected(WrongPool<PoolBug::kLastChannelLeft, true>, true));
  CHECK(rejected(WrongPool<PoolBug::kPaddingCounted, false>, false));
  CHECK(rejected(WrongPool<PoolBug::kSum, false>, false));
  CHECK(rejected(WrongPool<PoolBug::kRowTooMany, false>, false));
  CHECK(rejected(WrongPool<PoolBug::kFirstColumnLeft, false>, false));
}

TEST_CASE("every wrong pool of codes is rejected, the right one is not", "[mutant][image]") {
  const auto rejected = [](ops::PoolCodesKernel kernel) {
    return !TestPoolCodes(kernel, 17, {false, -3, 0}).accepted();
  };
  CHECK_FALSE(rejected(WrongPoolCodes<PoolBug::kNone>));
  CHECK(rejected(WrongPoolCodes<PoolBug::kPaddingCounted>));
  CHECK(rejected(WrongPoolCodes<PoolBug::kSum>));
  CHECK(rejected(WrongPoolCodes<PoolBug::kRowTooMany>));
  CHECK(rejected(WrongPoolCodes<PoolBug::kLastChannelLeft>));
  CHECK(rejected(WrongPoolCodes<PoolBug::kZeroIgnored>));
  CHECK(rejected(WrongPoolCodes<PoolBug::kScaleDropped>));
}

template <int kSwapped>
void WrongBlend(const float* const from[4], const float weights[4], float* out, uint32_t channels) {
  for (uint32_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += double{weights[i]} * from[i ^ kSwapped][c];
    out[c] = static_cast<float>(sum);
  }
}

TEST_CASE("blends of pixels in another order are rejected", "[mutant][image]") {
  CHECK(TestBlend(WrongBlend<0>, 33).accepted());
  CHECK_FALSE(TestBlend(WrongBlend<1>, 33).accepted());
  CHECK_FALSE(TestBlend(WrongBlend<2>, 33).accepted());
}

enum class AttendBug {
  kNone,
  kScaleDropped,
  kNoMaximum,
  kPaddedCounted,
  kReluForgotten,
  kReluAlways,
  kOtherHeadKeys,
  kOtherHeadValues,
  kFirstQueryForAll,
  kCausal,
  kUnnormalised
};

template <AttendBug kBug>
void WrongAttend(const ops::SelfAttention& at, uint32_t head, const float* turned, uint32_t begin,
                 uint32_t end, float* scores) {
  const uint32_t padded = ops::PaddedPositions(at.positions);
  for (uint32_t query = begin; query < end; ++query) {
    const uint32_t from = kBug == AttendBug::kFirstQueryForAll ? begin : query;
    const uint32_t of = kBug == AttendBug::kOtherHeadKeys ? 0 : head;
    const float* q = at.qkv + uint64_t{from} * at.stride + of * at.query_width;
    const uint32_t seen = kBug == AttendBug::kCausal          ? query + 1
                          : kBug == AttendBug::kPaddedCounted ? padded
                                                              : at.positions;
    float largest = -HUGE_VALF;
    double sum = 0;
    for (uint32_t t = 0; t < seen; ++t) {
      double dot = 0;
      for (uint32_t d = 0; d < at.query_width; ++d) dot += double{q[d]} * turned[d * padded + t];
      scores[t] = static_cast<float>(kBug == AttendBug::kScaleDropped ? dot : dot * at.scale);
      largest = std::fmax(largest, scores[t]);
    }
    if (kBug == AttendBug::kNoMaximum) largest = 0;
    for (uint32_t t = 0; t < seen; ++t) sum += scores[t] = std::exp(scores[t] - largest);
    if (kBug == AttendBug::kUnnormalised) sum = 1;
    const uint32_t value_head = kBug == AttendBug::kOtherHeadValues ? 0 : head;
    const float* values = at.qkv + 2 * at.heads * at.query_width + value_head * at.value_width;
    float* out = at.out + uint64_t{query} * at.out_stride + head * at.value_width;
    for (uint32_t c = 0; c < at.value_width; ++c) {
      double mixed = 0;
      for (uint32_t t = 0; t < std::min(seen, at.positions); ++t) {
        mixed += scores[t] / sum * values[uint64_t{t} * at.stride + c];
      }
      const bool relu =
          kBug == AttendBug::kReluAlways || (at.relu && kBug != AttendBug::kReluForgotten);
      out[c] = static_cast<float>(relu ? std::fmax(mixed, 0.0) : mixed);
    }
  }
}

void NoTurn(const ops::SelfAttention& at, uint32_t head, float* turned) {
  ops::PortableImage().turn_keys(at, head, turned);
  const uint32_t padded = ops::PaddedPositions(at.positions);
  if (at.positions < padded) turned[padded - 1] = 1.0f;  // not 0 behind the last
}

bool Rejected(ops::TurnKeysKernel turn, ops::SelfAttentionKernel kernel) {
  const auto cases = AttentionCases();
  return std::any_of(cases.begin(), cases.end(), [&](const AttentionCase& c) {
    return c.positions < 50 && !TestSelfAttention(turn, kernel, c).accepted();
  });
}

TEST_CASE("every wrong attention among positions is rejected, the right one is not",
          "[mutant][image]") {
  const auto turn = ops::PortableImage().turn_keys;
  CHECK_FALSE(Rejected(turn, WrongAttend<AttendBug::kNone>));
  CHECK(Rejected(NoTurn, WrongAttend<AttendBug::kNone>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kScaleDropped>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kNoMaximum>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kPaddedCounted>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kReluForgotten>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kReluAlways>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kOtherHeadKeys>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kOtherHeadValues>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kFirstQueryForAll>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kCausal>));
  CHECK(Rejected(turn, WrongAttend<AttendBug::kUnnormalised>));
}

enum class CodeBug {
  kNone,
  kZeroIgnored,
  kOutZeroIgnored,
  kScaleDropped,
  kTruncated,
  kHalvesUp,
  kHalvesAway,
  kWraps,
  kNarrow,
  kReluOfCode,
  kReluForgotten,
  kSecondScaleForBoth,
  kLastLeft
};

template <CodeBug kBug>
int8_t WrongCode(double number, int32_t zero) {
  const double rounded = kBug == CodeBug::kTruncated    ? std::trunc(number)
                         : kBug == CodeBug::kHalvesUp   ? std::floor(number + 0.5)
                         : kBug == CodeBug::kHalvesAway ? std::round(number)
                                                        : std::nearbyint(number);
  const double code = rounded + (kBug == CodeBug::kOutZeroIgnored ? 0 : zero);
  if (kBug == CodeBug::kWraps) return static_cast<int8_t>(static_cast<int>(std::fmod(code, 256)));
  return static_cast<int8_t>(std::clamp(code, kBug == CodeBug::kNarrow ? -127.0 : -128.0, 127.0));
}
template <CodeBug kBug>
double WrongNumber(int8_t code, ops::CodeScale scale) {
  const double steps = code - (kBug == CodeBug::kZeroIgnored ? 0 : scale.zero);
  return kBug == CodeBug::kScaleDropped ? steps : steps * scale.ratio;
}

template <CodeBug kBug>
void WrongQuantise(const float* x, float scale, int32_t zero, int8_t* out, uint32_t count) {
  for (uint32_t i = 0; i + (kBug == CodeBug::kLastLeft) < count; ++i) {
    const double number = kBug == CodeBug::kScaleDropped ? x[i] : x[i] / double{scale};
    out[i] = WrongCode<kBug>(number, zero);
  }
}
template <CodeBug kBug>
void WrongDequantise(const int8_t* x, float scale, int32_t zero, float* out, uint32_t count) {
  for (uint32_t i = 0; i + (kBug == CodeBug::kLastLeft) < count; ++i) {
    out[i] = static_cast<float>(WrongNumber<kBug>(x[i], {scale, zero}));
  }
}
template <CodeBug kBug>
void WrongAdd(const int8_t* a, ops::CodeScale a_scale, const int8_t* b, ops::CodeScale b_scale,
              int32_t out_zero, int8_t* out, uint32_t count) {
  if (kBug == CodeBug::kSecondScaleForBoth) a_scale = b_scale;
  for (uint32_t i = 0; i + (kBug == CodeBug::kLastLeft) < count; ++i) {
    out[i] = WrongCode<kBug>(WrongNumber<kBug>(a[i], a_scale) + WrongNumber<kBug>(b[i], b_scale),
                             out_zero);
  }
}
template <CodeBug kBug>
void WrongMove(const int8_t* x, ops::CodeScale scale, int32_t out_zero, bool relu, int8_t* out,
               uint32_t count) {
  for (uint32_t i = 0; i + (kBug == CodeBug::kLastLeft) < count; ++i) {
    double number = WrongNumber<kBug>(x[i], scale);
    if (kBug == CodeBug::kReluOfCode && relu && x[i] < 0) number = 0;
    const bool cut = relu && kBug != CodeBug::kReluForgotten && kBug != CodeBug::kReluOfCode;
    out[i] = WrongCode<kBug>(cut ? std::fmax(number, 0.0) : number, out_zero);
  }
}
template <CodeBug kBug>
void WrongScale(const int8_t* x, ops::CodeScale scale, const float* factors, int32_t out_zero,
                int8_t* out, uint32_t count) {
  for (uint32_t i = 0; i + (kBug == CodeBug::kLastLeft) < count; ++i) {
    out[i] = WrongCode<kBug>(WrongNumber<kBug>(x[i], scale) * double{factors[i]}, out_zero);
  }
}

template <typename Test>
bool RejectedByAny(const Test& test) {
  const auto cases = CodeCases();
  return std::any_of(cases.begin(), cases.end(),
                     [&](const CodeCase& c) { return !test(c).accepted(); });
}
template <CodeBug kBug>
bool QuantiseRejected() {
  return RejectedByAny([](const CodeCase& c) { return TestQuantise(WrongQuantise<kBug>, 256, c); });
}
template <CodeBug kBug>
bool DequantiseRejected() {
  return RejectedByAny(
      [](const CodeCase& c) { return TestDequantise(WrongDequantise<kBug>, 256, c); });
}
template <CodeBug kBug>
bool AddRejected() {
  return RejectedByAny(
      [](const CodeCase& c) { return TestAddCodes(WrongAdd<kBug>, 256, c, false); });
}
template <CodeBug kBug>
bool MoveRejected() {
  return RejectedByAny(
      [](const CodeCase& c) { return TestMoveCodes(WrongMove<kBug>, 256, c, true, false); });
}
template <CodeBug kBug>
bool ScaleRejected() {
  return RejectedByAny(
      [](const CodeCase& c) { return TestScaleCodes(WrongScale<kBug>, 256, c, false); });
}

// Those that are mistakes of every kernel that makes codes.
#define CHECK_ROUNDING(rejected)                 \
  do {                                           \
    CHECK_FALSE(rejected<CodeBug::kNone>());     \
    CHECK(rejected<CodeBug::kOutZeroIgnored>()); \
    CHECK(rejected<CodeBug::kScaleDropped>());   \
    CHECK(rejected<CodeBug::kTruncated>());      \
    CHECK(rejected<CodeBug::kHalvesUp>());       \
    CHECK(rejected<CodeBug::kHalvesAway>());     \
    CHECK(rejected<CodeBug::kWraps>());          \
    CHECK(rejected<CodeBug::kNarrow>());         \
    CHECK(rejected<CodeBug::kLastLeft>());       \
  } while (false)

TEST_CASE("every wrong kernel of codes is rejected, the right one is not", "[mutant][image]") {
  CHECK_ROUNDING(QuantiseRejected);
  CHECK_ROUNDING(AddRejected);
  CHECK_ROUNDING(MoveRejected);
  CHECK_ROUNDING(ScaleRejected);
  CHECK(AddRejected<CodeBug::kZeroIgnored>());
  CHECK(AddRejected<CodeBug::kSecondScaleForBoth>());
  CHECK(MoveRejected<CodeBug::kZeroIgnored>());
  CHECK(MoveRejected<CodeBug::kReluOfCode>());
  CHECK(MoveRejected<CodeBug::kReluForgotten>());
  CHECK(ScaleRejected<CodeBug::kZeroIgnored>());
  CHECK_FALSE(DequantiseRejected<CodeBug::kNone>());
  CHECK(DequantiseRejected<CodeBug::kZeroIgnored>());
  CHECK(DequantiseRejected<CodeBug::kScaleDropped>());
  CHECK(DequantiseRejected<CodeBug::kLastLeft>());
}

}  // namespace
}  // namespace headroom::mutants
