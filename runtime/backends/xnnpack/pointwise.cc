// Row-wise operations between the dense layers, in Highway.
#include "ops/pointwise.h"

#include <algorithm>
#include <cmath>

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/pointwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

using ops::Activation;
using ops::RopeLayout;

// Calls fn(d, load, store) for every vector of a row: whole vectors, then a masked tail.
template <class Fn>
HWY_INLINE void ForVectors(uint32_t width, const Fn& fn) {
  const DF df;
  uint32_t d = 0;
  for (; d + kLanes <= width; d += kLanes) {
    fn(
        d, [&](const float* p) HWY_ATTR { return hn::LoadU(df, p + d); },
        [&](VF v, float* p) HWY_ATTR { hn::StoreU(v, df, p + d); });
  }
  if (d < width) {
    fn(
        d, [&](const float* p) HWY_ATTR { return hn::LoadN(df, p + d, width - d); },
        [&](VF v, float* p) HWY_ATTR { hn::StoreN(v, df, p + d, width - d); });
  }
}

// Sum of term(x[i]) over a row; four chains, so that the adds overlap and rounding errors stay
// small.
template <class Fn>
HWY_INLINE float SumTerms(const float* x, uint32_t width, const Fn& term) {
  const DF df;
  VF sums[4] = {hn::Zero(df), hn::Zero(df), hn::Zero(df), hn::Zero(df)};
  uint32_t d = 0;
  for (; d + 4 * kLanes <= width; d += 4 * kLanes) {
    HR_UNROLL
    for (int i = 0; i < 4; ++i) sums[i] = term(hn::LoadU(df, x + d + i * kLanes), sums[i]);
  }
  for (; d + kLanes <= width; d += kLanes) sums[0] = term(hn::LoadU(df, x + d), sums[0]);
  float sum = hn::ReduceSum(df, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
  if (d < width) {
    const VF last = term(hn::LoadN(df, x + d, width - d), hn::Zero(df));
    sum += hn::ReduceSum(df, hn::IfThenElseZero(hn::FirstN(df, width - d), last));
  }
  return sum;
}

// out = (x - mean) * scale * weight + bias
HWY_INLINE void ScaleRow(const float* x, float* out, uint32_t width, float mean, float scale,
                         const float* weight, const float* bias) {
  const DF df;
  const VF shift = hn::Set(df, mean), factor = hn::Set(df, scale);
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store) HWY_ATTR {
    const VF normal = hn::Mul(hn::Sub(load(x), shift), factor);
    const VF y = bias == nullptr ? hn::Mul(normal, load(weight))
                                 : hn::MulAdd(normal, load(weight), load(bias));
    store(y, out);
  });
}

void RmsNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride, uint32_t rows,
             uint32_t width, const float* weight, const float* bias, float epsilon) {
  const float count = static_cast<float>(width);
  for (uint32_t r = 0; r < rows; ++r, x += x_stride, out += out_stride) {
    const float squares =
        SumTerms(x, width, [](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
    ScaleRow(x, out, width, 0.0f, 1.0f / std::sqrt(squares / count + epsilon), weight, bias);
  }
}

void LayerNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride, uint32_t rows,
               uint32_t width, const float* weight, const float* bias, float epsilon) {
  const DF df;
  const float count = static_cast<float>(width);
  for (uint32_t r = 0; r < rows; ++r, x += x_stride, out += out_stride) {
    const float sum = SumTerms(x, width, [](VF v, VF s) HWY_ATTR { return hn::Add(v, s); });
    const VF mean = hn::Set(df, sum / count);
    const float squares = SumTerms(x, width, [mean](VF v, VF s) HWY_ATTR {
      const VF centred = hn::Sub(v, mean);
      return hn::MulAdd(centred, centred, s);
    });
    ScaleRow(x, out, width, sum / count, 1.0f / std::sqrt(squares / count + epsilon), weight, bias);
  }
}

HWY_INLINE void RopeHalfSplit(float* x, uint32_t pairs, const float* cos_sin) {
  ForVectors(pairs, [&](uint32_t, const auto& load, const auto& store) HWY_ATTR {
    const VF a = load(x), b = load(x + pairs), c = load(cos_sin), s = load(cos_sin + pairs);
    store(hn::NegMulAdd(b, s, hn::Mul(a, c)), x);
    store(hn::MulAdd(a, s, hn::Mul(b, c)), x + pairs);
  });
}

HWY_INLINE void RopeInterleaved(float* x, uint32_t pairs, const float* cos_sin) {
  const DF df;
  uint32_t i = 0;
  for (; i + kLanes <= pairs; i += kLanes) {
    VF a, b;
    hn::LoadInterleaved2(df, x + 2 * i, a, b);
    const VF c = hn::LoadU(df, cos_sin + i), s = hn::LoadU(df, cos_sin + pairs + i);
    const VF first = hn::NegMulAdd(b, s, hn::Mul(a, c));
    hn::StoreInterleaved2(first, hn::MulAdd(a, s, hn::Mul(b, c)), df, x + 2 * i);
  }
  for (; i < pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1], c = cos_sin[i], s = cos_sin[pairs + i];
    x[2 * i] = a * c - b * s;
    x[2 * i + 1] = b * c + a * s;
  }
}

void Rope(float* x, uint32_t dims, RopeLayout layout, const float* cos_sin) {
  const auto rotate = layout == RopeLayout::kHalfSplit ? RopeHalfSplit : RopeInterleaved;
  rotate(x, dims / 2, cos_sin);
}

// x / (1 + exp(-z)). exp is capped where its inverse already vanishes against any x.
HWY_INLINE VF TimesSigmoid(VF x, VF z) {
  const DF df;
  const VF one = hn::Set(df, 1.0f);
  return hn::Div(x, hn::Add(one, hn::Exp(df, hn::Min(hn::Set(df, 88.0f), hn::Neg(z)))));
}

// e^x over all of f32: Highway's own is for numbers up to 128 ln 2, and takes NaN for very small.
HWY_INLINE VF FullExp(VF x) {
  const DF df;
  const VF most = hn::Set(df, 104.0f);  // long infinite
  const VF y = hn::Exp(df, hn::IfThenElse(hn::Gt(x, most), most, x));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

template <Activation kKind>
HWY_INLINE VF Act(VF x) {
  const DF df;
  if constexpr (kKind == Activation::kSilu) {
    return TimesSigmoid(x, x);
  } else if constexpr (kKind == Activation::kGeluTanh) {
    // 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const VF cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(df, 0.044715f), hn::Set(df, 1.0f));
    return TimesSigmoid(x, hn::Mul(hn::Mul(x, hn::Set(df, 1.5957691216057308f)), cubic));
  } else if constexpr (kKind == Activation::kGeluErf) {
    // x * Phi(x), the smaller tail of Phi computed directly so that it keeps its digits
    const VF half_tail = hn::Mul(
        hn::Set(df, 0.5f), ErfcPositive(hn::Mul(hn::Abs(x), hn::Set(df, 0.70710678118654752f))));
    const VF phi =
        hn::IfThenElse(hn::Lt(x, hn::Zero(df)), half_tail, hn::Sub(hn::Set(df, 1.0f), half_tail));
    return hn::Mul(x, phi);
  } else if constexpr (kKind == Activation::kQuickGelu) {
    return TimesSigmoid(x, hn::Mul(x, hn::Set(df, 1.702f)));
  } else if constexpr (kKind == Activation::kSigmoid) {
    return TimesSigmoid(hn::Set(df, 1.0f), x);
  } else if constexpr (kKind == Activation::kTanh) {
    return hn::Tanh(df, x);
  } else if constexpr (kKind == Activation::kSoftplus) {
    const VF small = hn::Exp(df, hn::Neg(hn::Abs(x)));
    const VF positive = hn::IfThenElse(hn::Lt(x, hn::Zero(df)), hn::Zero(df), x);  // NaN stays
    return hn::Add(positive, hn::Log1p(df, small));
  } else if constexpr (kKind == Activation::kExp) {
    return FullExp(x);
  } else if constexpr (kKind == Activation::kEluPlus1) {
    const VF above = hn::Add(x, hn::Set(df, 1.0f));
    return hn::IfThenElse(hn::Gt(x, hn::Zero(df)), above, FullExp(x));
  } else if constexpr (kKind == Activation::kReluSquared) {
    const VF positive = hn::Max(hn::Zero(df), x);
    return hn::Mul(positive, positive);
  } else {
    return hn::Max(hn::Zero(df), x);
  }
}

template <Activation kKind>
void Activate(const float* gate, const float* up, float* out, uint32_t width) {
  if (up == nullptr) {
    ForVectors(width, [&](uint32_t, const auto& load, const auto& store)
                          HWY_ATTR { store(Act<kKind>(load(gate)), out); });
    return;
  }
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store)
                        HWY_ATTR { store(hn::Mul(Act<kKind>(load(gate)), load(up)), out); });
}

void Add(const float* a, const float* b, float* out, uint32_t width) {
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store)
                        HWY_ATTR { store(hn::Add(load(a), load(b)), out); });
}

void Multiply(const float* a, const float* b, float* out, uint32_t width) {
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store)
                        HWY_ATTR { store(hn::Mul(load(a), load(b)), out); });
}

void MultiplyAdd(const float* x, const float* factor, const float* addend, float* out,
                 uint32_t width) {
  if (addend == nullptr) return Multiply(x, factor, out, width);
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store)
                        HWY_ATTR { store(hn::MulAdd(load(x), load(factor), load(addend)), out); });
}

void Scale(const float* x, float factor, float* out, uint32_t width) {
  const DF df;
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store)
                        HWY_ATTR { store(hn::Mul(load(x), hn::Set(df, factor)), out); });
}

HWY_INLINE float Dot(const float* a, const float* b, uint32_t width) {
  const DF df;
  VF sum = hn::Zero(df);
  ForVectors(width, [&](uint32_t, const auto& load, const auto&)
                        HWY_ATTR { sum = hn::MulAdd(load(a), load(b), sum); });
  return hn::ReduceSum(df, sum);
}

void HeadProduct(const float* a, const float* b, const float* c, float* out, uint32_t heads,
                 uint32_t width) {
  for (uint32_t h = 0; h < heads; ++h, a += width, b += width, c += width, out += width) {
    Scale(c, Dot(a, b, width), out, width);
  }
}

void Convolve(const float* const* rows, uint32_t taps, const float* weight, const float* bias,
              float* out, uint32_t width) {
  const DF df;
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store) HWY_ATTR {
    VF sum = bias == nullptr ? hn::Zero(df) : load(bias);
    for (uint32_t j = 0; j < taps; ++j) {
      sum = hn::MulAdd(load(weight + uint64_t{j} * width), load(rows[j]), sum);
    }
    store(sum, out);
  });
}

void Softcap(const float* x, float cap, float* out, uint32_t width) {
  const DF df;
  const VF inverse = hn::Set(df, 1.0f / cap);
  ForVectors(width, [&](uint32_t, const auto& load, const auto& store) HWY_ATTR {
    store(hn::Mul(hn::Set(df, cap), hn::Tanh(df, hn::Mul(load(x), inverse))), out);
  });
}

// out[j] of `kVectors` vectors from column j on.
template <int kVectors>
HWY_INLINE void BasisColumns(const float* x, const float* basis, uint32_t width, uint32_t j,
                             float* out) {
  const DF df;
  VF sums[kVectors];
  HR_UNROLL
  for (int v = 0; v < kVectors; ++v) sums[v] = hn::Zero(df);
  for (uint32_t i = 0; i < width; ++i) {
    const VF factor = hn::Set(df, x[i]);
    const float* row = basis + uint64_t{i} * width + j;
    HR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[v] = hn::MulAdd(factor, hn::LoadU(df, row + v * kLanes), sums[v]);
    }
  }
  HR_UNROLL
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], df, out + j + v * kLanes);
}

void ToBasis(float* x, const float* basis, uint32_t width) {
  const DF df;
  float out[ops::kMostBasisWidth];
  uint32_t j = 0;
  for (; j + 4 * kLanes <= width; j += 4 * kLanes) BasisColumns<4>(x, basis, width, j, out);
  for (; j + kLanes <= width; j += kLanes) BasisColumns<1>(x, basis, width, j, out);
  if (j < width) {
    VF sum = hn::Zero(df);
    for (uint32_t i = 0; i < width; ++i) {
      const float* row = basis + uint64_t{i} * width + j;
      sum = hn::MulAdd(hn::Set(df, x[i]), hn::LoadN(df, row, width - j), sum);
    }
    hn::StoreN(sum, df, out + j, width - j);
  }
  std::copy_n(out, width, x);
}

void FillPointwise(Kernels& kernels) {
  kernels.pointwise = {
      RmsNorm,
      LayerNorm,
      Rope,
      {Activate<Activation::kSilu>, Activate<Activation::kGeluErf>, Activate<Activation::kGeluTanh>,
       Activate<Activation::kRelu>, Activate<Activation::kQuickGelu>,
       Activate<Activation::kSigmoid>, Activate<Activation::kTanh>, Activate<Activation::kSoftplus>,
       Activate<Activation::kExp>, Activate<Activation::kEluPlus1>,
       Activate<Activation::kReluSquared>},
      Add,
      Multiply,
      MultiplyAdd,
      HeadProduct,
      Convolve,
      Scale,
      Softcap,
      ToBasis};
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {

HWY_EXPORT(FillPointwise);
void FillPointwiseKernels(Kernels& kernels) { HWY_DYNAMIC_DISPATCH(FillPointwise)(kernels); }

}  // namespace headroom::xnnpack
#endif
