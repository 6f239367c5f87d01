// Testers of the row-wise kernels and row codecs. Each takes the kernel's real signature, makes
// data in which every term of the formula matters, and compares with the oracle; product kernels
// and mutants alike.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "attention/softmax_mix.h"
#include "base/half.h"
#include "ops/pointwise.h"
#include "oracle/pointwise.h"
#include "oracle/projection.h"
#include "support/compare.h"
#include "support/guarded_memory.h"
#include "support/tolerance.h"

namespace headroom::test {

inline constexpr uint32_t kPointwiseWidths[] = {1,  2,  3,  4,  7,  8,  9,   15,  16, 17,
                                                31, 32, 33, 63, 64, 65, 127, 130, 576};

// f32 values ending at a forbidden page, so that a vector read or written too far is a crash.
class GuardedFloats {
 public:
  explicit GuardedFloats(size_t count, float fill = NAN)
      : memory_(count * sizeof(float), sizeof(float)) {
    std::fill_n(data(), count, fill);
  }
  GuardedFloats(size_t count, float spread, float middle, std::mt19937& random)
      : GuardedFloats(count) {
    std::normal_distribution<float> normal(middle, spread);
    for (size_t i = 0; i < count; ++i) data()[i] = normal(random);
  }
  float* data() const { return memory_.as<float>(); }
  size_t size() const { return memory_.bytes() / sizeof(float); }
  float& operator[](size_t i) const { return data()[i]; }
  std::vector<double> Doubles(size_t from, size_t count) const {
    return {data() + from, data() + from + count};
  }

 private:
  GuardedMemory memory_;
};

enum class NormKind { kRms, kLayer };

// Rows with a large mean and a spread of their own; epsilon large enough to be seen on small rows.
inline Verdict TestNorm(ops::NormKernel kernel, NormKind kind, uint32_t width, bool in_place) {
  std::mt19937 random(width);
  constexpr uint32_t kRows = 3;
  const uint32_t stride = width + 5, out_stride = in_place ? stride : width + 2;
  const GuardedFloats weight(width, 0.5f, 1.0f, random), bias(width, 1.0f, 0.0f, random);
  Verdict verdict;
  for (const bool with_bias : {false, true}) {
    for (const float gain : {1.0f, 1e-3f, 300.0f}) {
      const float epsilon = 1e-5f;
      const GuardedFloats x((kRows - 1) * stride + width, gain, gain * 2.0f, random);
      const std::vector<float> before(x.data(), x.data() + x.size());
      const GuardedFloats separate((kRows - 1) * out_stride + width);
      const GuardedFloats& out = in_place ? x : separate;
      kernel(x.data(), stride, out.data(), out_stride, kRows, width, weight.data(),
             with_bias ? bias.data() : nullptr, epsilon);
      for (uint32_t r = 0; r < kRows; ++r) {
        const std::vector<double> row(before.begin() + r * stride,
                                      before.begin() + r * stride + width);
        const std::vector<double> w = weight.Doubles(0, width);
        const std::vector<double> b =
            with_bias ? bias.Doubles(0, width) : std::vector<double>(width, 0.0);
        std::vector<double> exact = kind == NormKind::kRms ? oracle::RmsNorm(row, w, epsilon)
                                                           : oracle::LayerNorm(row, w, b, epsilon);
        double magnitude = 0, spread = 0, mean = 0;
        for (const double v : row) mean += v / width;
        for (const double v : row) {
          magnitude += std::fabs(v) / width;
          spread += (v - mean) * (v - mean) / width;
        }
        for (uint32_t c = 0; c < width; ++c) {
          if (kind == NormKind::kRms) exact[c] += b[c];
          double allowed = NormAllowance(exact[c] - b[c], b[c], width);
          if (kind == NormKind::kLayer) {
            const double gain_here = std::fabs(w[c]) / std::sqrt(spread + epsilon);
            allowed += CentringAllowance(
                magnitude, gain_here * (1 + std::fabs(row[c] - mean) / std::sqrt(spread + epsilon)),
                width);
          }
          verdict.Check(out[r * out_stride + c], exact[c], allowed,
                        "C " + std::to_string(width) + " row " + std::to_string(r) + " element " +
                            std::to_string(c));
        }
        for (uint32_t c = width; c < out_stride && r + 1 < kRows; ++c) {  // between rows: as it was
          const float found = out[r * out_stride + c];
          if (in_place ? found != before[r * stride + c] : !std::isnan(found))
            verdict.Fail("gap overwritten");
        }
      }
    }
  }
  return verdict;
}

// Angles all round the circle; both halves of a pair of the same size.
inline Verdict TestRope(ops::RopeKernel kernel, ops::RopeLayout layout, uint32_t pairs) {
  std::mt19937 random(pairs * 2 + 1);
  std::uniform_real_distribution<double> angle(0, 2 * M_PI);
  const GuardedFloats x(2 * pairs, 1.0f, 0.0f, random), cos_sin(2 * pairs);
  for (uint32_t i = 0; i < pairs; ++i) {
    const double a = angle(random);
    cos_sin[i] = static_cast<float>(1.2 * std::cos(a));
    cos_sin[pairs + i] = static_cast<float>(1.2 * std::sin(a));
  }
  const std::vector<double> before = x.Doubles(0, 2 * pairs);
  kernel(x.data(), 2 * pairs, layout, cos_sin.data());
  const bool interleaved = layout == ops::RopeLayout::kInterleaved;
  const std::vector<double> exact =
      oracle::Rotate(before, cos_sin.Doubles(0, pairs), cos_sin.Doubles(pairs, pairs), interleaved);
  Verdict verdict;
  for (uint32_t d = 0; d < 2 * pairs; ++d) {
    const uint32_t partner = interleaved ? d ^ 1u : (d < pairs ? d + pairs : d - pairs);
    verdict.Check(x[d], exact[d], RotationAllowance(before[d], before[partner]),
                  "pairs " + std::to_string(pairs) + " element " + std::to_string(d));
  }
  return verdict;
}

inline double ExactActivation(ops::Activation kind, double x) {
  switch (kind) {
    case ops::Activation::kSilu:
      return oracle::Silu(x);
    case ops::Activation::kGeluErf:
      return oracle::GeluErf(x);
    case ops::Activation::kGeluTanh:
      return oracle::GeluTanh(x);
    case ops::Activation::kRelu:
      return oracle::Relu(x);
    case ops::Activation::kQuickGelu:
      return oracle::QuickGelu(x);
    case ops::Activation::kSigmoid:
      return oracle::Sigmoid(x);
    case ops::Activation::kTanh:
      return std::tanh(x);
    case ops::Activation::kSoftplus:
      return oracle::Softplus(x);
    case ops::Activation::kExp:
      return std::exp(x);
    case ops::Activation::kEluPlus1:
      return oracle::EluPlus1(x);
    case ops::Activation::kReluSquared:
      return oracle::ReluSquared(x);
  }
  return NAN;
}

// What f32 makes of a number too large for it.
inline double Overflowed(double x) { return std::fabs(x) >= 0x1.ffffffp127 ? x * INFINITY : x; }

// What goes through exp, whose relative error grows with it.
inline double ActivationExponent(ops::Activation kind, double x) {
  switch (kind) {
    case ops::Activation::kSilu:
      return x;
    case ops::Activation::kGeluErf:
      return 0.5 * x * x;
    case ops::Activation::kGeluTanh:
      return 1.6 * x * (1 + 0.045 * x * x);
    case ops::Activation::kRelu:
      return 0;
    case ops::Activation::kQuickGelu:
      return 1.702 * x;
    case ops::Activation::kSigmoid:
    case ops::Activation::kExp:
      return x;
    case ops::Activation::kSoftplus:
    case ops::Activation::kEluPlus1:
      return std::min(x, 0.0);
    case ops::Activation::kTanh:
    case ops::Activation::kReluSquared:
      return 0;
  }
  return 0;
}

inline Verdict TestActivation(ops::ActivationKernel kernel, ops::Activation kind, uint32_t width,
                              bool gated, bool in_place) {
  std::mt19937 random(width * 3 + gated);
  const GuardedFloats gate(width, 3.0f, 0.0f, random), up(width, 1.0f, 0.5f, random),
      separate(width);
  constexpr float kSpecial[] = {0.0f,    -0.0f, 1e-6f, -1e-6f, 20.0f, -20.0f, 100.0f,
                                -100.0f, 1e4f,  -1e4f, -50.0f, 88.6f, -86.0f, 1e9f};
  for (uint32_t i = 0; i < width && width > std::size(kSpecial); ++i) {
    if (i % 4 == 3) gate[i] = kSpecial[i / 4 % std::size(kSpecial)];
  }
  const std::vector<double> x = gate.Doubles(0, width);
  const GuardedFloats& out = in_place ? gate : separate;
  kernel(gate.data(), gated ? up.data() : nullptr, out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    const double factor = gated ? up[i] : 1.0;
    const double act = Overflowed(ExactActivation(kind, x[i]));
    verdict.Check(out[i], Overflowed(act * factor),
                  std::isinf(act) ? 0
                                  : ActivationAllowance(x[i], act, ActivationExponent(kind, x[i])) *
                                        std::fabs(factor),
                  "x " + std::to_string(x[i]));
  }
  return verdict;
}

inline Verdict TestAdd(ops::AddKernel kernel, uint32_t width) {
  std::mt19937 random(width);
  const GuardedFloats a(width, 1.0f, 0.0f, random), b(width, 2.0f, 1.0f, random), out(width);
  kernel(a.data(), b.data(), out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    const double exact = double{a[i]} + b[i];
    verdict.Check(out[i], exact, AddAllowance(exact), "element " + std::to_string(i));
  }
  kernel(a.data(), b.data(), a.data(), width);  // in place
  for (uint32_t i = 0; i < width; ++i)
    verdict.Check(a[i], out[i], 0, "in place " + std::to_string(i));
  return verdict;
}

inline Verdict TestScale(ops::ScaleKernel kernel, uint32_t width) {
  std::mt19937 random(width);
  const GuardedFloats x(width, 1.0f, 0.0f, random), out(width);
  kernel(x.data(), 1.7f, out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    const double exact = double{x[i]} * 1.7f;
    verdict.Check(out[i], exact, ProductAllowance(exact), "element " + std::to_string(i));
  }
  return verdict;
}

inline Verdict TestSoftcap(ops::SoftcapKernel kernel, uint32_t width, float cap) {
  std::mt19937 random(width);
  const GuardedFloats x(width, cap, 0.0f, random), out(width);
  for (uint32_t i = 0; i < width; ++i) {
    if (i % 5 == 4) x[i] *= 1e-4f;   // where tanh is its argument
    if (i % 5 == 3) x[i] *= 100.0f;  // where it is 1
  }
  kernel(x.data(), cap, out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    const double exact = cap * std::tanh(double{x[i]} / cap);
    verdict.Check(out[i], exact, SoftcapAllowance(cap, exact), "x " + std::to_string(x[i]));
  }
  return verdict;
}

inline Verdict TestMultiply(ops::MultiplyKernel kernel, uint32_t width) {
  std::mt19937 random(width);
  const GuardedFloats a(width, 1.0f, 0.5f, random), b(width, 2.0f, 1.0f, random), out(width);
  kernel(a.data(), b.data(), out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    const double exact = double{a[i]} * b[i];
    verdict.Check(out[i], exact, ProductAllowance(exact), "element " + std::to_string(i));
  }
  kernel(a.data(), b.data(), b.data(), width);  // in place
  for (uint32_t i = 0; i < width; ++i) {
    verdict.Check(b[i], out[i], 0, "in place " + std::to_string(i));
  }
  return verdict;
}

// `place`: which operand the result overwrites; 3: none.
inline Verdict TestMultiplyAdd(ops::MultiplyAddKernel kernel, uint32_t width, bool has_addend,
                               int place) {
  std::mt19937 random(width * 5 + 1);
  const GuardedFloats x(width, 1.0f, 0.5f, random), factor(width, 2.0f, 1.0f, random);
  const GuardedFloats addend(width, 1.0f, 0.0f, random), separate(width);
  const std::vector<double> a = x.Doubles(0, width), b = factor.Doubles(0, width),
                            c = has_addend ? addend.Doubles(0, width)
                                           : std::vector<double>(width, 0.0);
  const GuardedFloats* const places[] = {&x, &factor, &addend, &separate};
  const GuardedFloats& out = *places[place];
  kernel(x.data(), factor.data(), has_addend ? addend.data() : nullptr, out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    const double exact = a[i] * b[i] + c[i];
    verdict.Check(out[i], exact, MultiplyAddAllowance(a[i] * b[i], exact),
                  "element " + std::to_string(i) + " in place of " + std::to_string(place));
  }
  return verdict;
}

// `place` as above.
inline Verdict TestHeadProduct(ops::HeadProductKernel kernel, uint32_t heads, uint32_t width,
                               int place) {
  std::mt19937 random(width * 7 + heads);
  const uint32_t all = heads * width;
  const GuardedFloats a(all, 1.0f, 0.2f, random), b(all, 1.0f, 0.2f, random);
  const GuardedFloats c(all, 1.0f, 0.2f, random), separate(all);
  const std::vector<double> was_a = a.Doubles(0, all), was_b = b.Doubles(0, all),
                            was_c = c.Doubles(0, all);
  const GuardedFloats* const places[] = {&a, &b, &c, &separate};
  const GuardedFloats& out = *places[place];
  kernel(a.data(), b.data(), c.data(), out.data(), heads, width);
  Verdict verdict;
  for (uint32_t h = 0; h < heads; ++h) {
    double dot = 0, magnitude = 0;
    for (uint32_t i = h * width; i < (h + 1) * width; ++i) {
      dot += was_a[i] * was_b[i];
      magnitude += std::fabs(was_a[i] * was_b[i]);
    }
    for (uint32_t i = h * width; i < (h + 1) * width; ++i) {
      verdict.Check(out[i], dot * was_c[i], BasisAllowance(magnitude, width) * std::fabs(was_c[i]),
                    "head " + std::to_string(h) + " element " + std::to_string(i % width) +
                        " in place of " + std::to_string(place));
    }
  }
  return verdict;
}

// Rows apart, each behind a forbidden page.
inline Verdict TestConvolve(ops::ConvolveKernel kernel, uint32_t taps, uint32_t width,
                            bool has_bias) {
  std::mt19937 random(width * 9 + taps);
  const GuardedFloats weight(taps * width, 1.0f, 0.3f, random), bias(width, 1.0f, 0.0f, random);
  std::vector<GuardedFloats> rows;
  std::vector<const float*> pointers;
  for (uint32_t j = 0; j < taps; ++j) rows.emplace_back(width, 1.0f, 0.0f, random);
  for (const GuardedFloats& row : rows) pointers.push_back(row.data());
  const GuardedFloats out(width);
  kernel(pointers.data(), taps, weight.data(), has_bias ? bias.data() : nullptr, out.data(), width);
  Verdict verdict;
  for (uint32_t i = 0; i < width; ++i) {
    std::vector<double> inputs, weights;
    const double offset = has_bias ? bias[i] : 0;
    double magnitude = std::fabs(offset);
    for (uint32_t j = 0; j < taps; ++j) {
      inputs.push_back(rows[j][i]);
      weights.push_back(weight[j * width + i]);
      magnitude += std::fabs(inputs[j] * weights[j]);
    }
    verdict.Check(out[i], oracle::Convolve(inputs, weights, offset),
                  BasisAllowance(magnitude, taps), "element " + std::to_string(i));
  }
  return verdict;
}

// A matrix that is no more than that; the vector before and behind others of a row.
inline Verdict TestBasis(ops::BasisKernel kernel, uint32_t width) {
  std::mt19937 random(width + 11);
  const GuardedFloats basis(width * width, 1.0f, 0.0f, random), x(width, 1.0f, 0.5f, random);
  const std::vector<double> before = x.Doubles(0, width);
  kernel(x.data(), basis.data(), width);
  Verdict verdict;
  for (uint32_t j = 0; j < width; ++j) {
    double exact = 0, magnitude = 0;
    for (uint32_t i = 0; i < width; ++i) {
      const double term = before[i] * double{basis[i * width + j]};
      exact += term;
      magnitude += std::fabs(term);
    }
    verdict.Check(x[j], exact, BasisAllowance(magnitude, width), "element " + std::to_string(j));
  }
  return verdict;
}

// --- row codecs
// ------------------------------------------------------------------------------------

// Encodes one row of a kind of data and bounds the error of what a reader (the oracle) gets back.
inline Verdict TestEncode(attention::EncodeRowKernel kernel, RowCodec codec, uint32_t width,
                          float spread, float middle) {
  std::mt19937 random(width + 7);
  const GuardedFloats row(width, spread, middle, random);
  const std::vector<float> before(row.data(), row.data() + width);
  const GuardedMemory data(RowDataBytes(codec, width), 1);
  const GuardedMemory meta(RowMetaBytes(RowCodec::kI8Token, 1), 2);
  kernel(row.data(), width, data.data(), meta.as<uint16_t>());
  const double scale = oracle::DecodeF16(meta.as<uint16_t>()[0]);
  const double minimum = oracle::DecodeF16(meta.as<uint16_t>()[1]);
  Verdict verdict;
  for (uint32_t d = 0; d < width; ++d) {
    const std::string where = "D " + std::to_string(d) + " of " + std::to_string(width);
    if (row[d] != before[d]) verdict.Fail("input changed");
    if (codec == RowCodec::kF32) {
      verdict.Check(oracle::LoadAt<float>(data.data(), d), row[d], 0, where);
    } else if (codec == RowCodec::kF16) {
      verdict.Check(oracle::DecodeF16(oracle::LoadAt<uint16_t>(data.data(), d)), row[d],
                    HalfAllowance(row[d]), where);
    } else {
      const int stored = oracle::LoadAt<int8_t>(data.data(), d);
      verdict.Check(scale * (stored + 128) + minimum, row[d], CodeAllowance(row[d], minimum, scale),
                    where);
    }
  }
  if (codec == RowCodec::kI8Token) {  // the step must be as fine as the row allows
    const auto [low, high] = std::minmax_element(before.begin(), before.end());
    const double span = double{*high} - *low;
    const double finest = (span + std::fabs(*low) * 0x1p-10) / 255 * (1 + 0x1p-9) + 0x1p-24;
    verdict.Check(scale, finest / 2, finest / 2, "scale of span " + std::to_string(span));
  }
  return verdict;
}

}  // namespace headroom::test
