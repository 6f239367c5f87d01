#include "ops/pointwise.h"

#include <algorithm>
#include <cmath>

namespace headroom::ops {
namespace {

void RmsNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride, uint32_t rows,
             uint32_t width, const float* weight, const float* bias, float epsilon) {
  for (uint32_t r = 0; r < rows; ++r, x += x_stride, out += out_stride) {
    double sum = 0.0;
    for (uint32_t c = 0; c < width; ++c) sum += double{x[c]} * x[c];
    const float scale = static_cast<float>(1.0 / std::sqrt(sum / width + epsilon));
    for (uint32_t c = 0; c < width; ++c) {
      out[c] = x[c] * scale * weight[c] + (bias == nullptr ? 0.0f : bias[c]);
    }
  }
}

void LayerNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride, uint32_t rows,
               uint32_t width, const float* weight, const float* bias, float epsilon) {
  for (uint32_t r = 0; r < rows; ++r, x += x_stride, out += out_stride) {
    double sum = 0.0, squares = 0.0;
    for (uint32_t c = 0; c < width; ++c) sum += x[c];
    const double mean = sum / width;
    for (uint32_t c = 0; c < width; ++c) squares += (x[c] - mean) * (x[c] - mean);
    const double scale = 1.0 / std::sqrt(squares / width + epsilon);
    for (uint32_t c = 0; c < width; ++c) {
      const float normal = static_cast<float>((x[c] - mean) * scale);
      out[c] = normal * weight[c] + (bias == nullptr ? 0.0f : bias[c]);
    }
  }
}

void Rope(float* x, uint32_t dims, RopeLayout layout, const float* cos_sin) {
  const uint32_t pairs = dims / 2;
  const bool half_split = layout == RopeLayout::kHalfSplit;
  for (uint32_t i = 0; i < pairs; ++i) {
    float& first = x[half_split ? i : 2 * i];
    float& second = x[half_split ? i + pairs : 2 * i + 1];
    const float a = first, b = second, c = cos_sin[i], s = cos_sin[pairs + i];
    first = a * c - b * s;
    second = b * c + a * s;
  }
}

constexpr float kSqrtHalf = 0.70710678118654752f;
constexpr float kSqrtTwoOverPi = 0.79788456080286536f;

float Act(Activation kind, float x) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kGeluErf:
      return 0.5f * x * std::erfc(-x * kSqrtHalf);
    case Activation::kGeluTanh:
      // 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)), which does not cancel for negative x
      return x / (1.0f + std::exp(-2.0f * kSqrtTwoOverPi * (x + 0.044715f * x * x * x)));
    case Activation::kRelu:
      return x > 0.0f ? x : 0.0f;
    case Activation::kQuickGelu:
      return x / (1.0f + std::exp(-1.702f * x));
    case Activation::kSigmoid:
      return 1.0f / (1.0f + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSoftplus:
      return std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x)));
    case Activation::kExp:
      return std::exp(x);
    case Activation::kEluPlus1:
      return x > 0.0f ? x + 1.0f : std::exp(x);
    case Activation::kReluSquared:
      return x > 0.0f ? x * x : 0.0f;
  }
  return x;
}

template <Activation kKind>
void Activate(const float* gate, const float* up, float* out, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) {
    out[i] = Act(kKind, gate[i]) * (up == nullptr ? 1.0f : up[i]);
  }
}

void Add(const float* a, const float* b, float* out, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) out[i] = a[i] + b[i];
}

void Multiply(const float* a, const float* b, float* out, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) out[i] = a[i] * b[i];
}

void MultiplyAdd(const float* x, const float* factor, const float* addend, float* out,
                 uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) {
    out[i] = x[i] * factor[i] + (addend == nullptr ? 0.0f : addend[i]);
  }
}

void HeadProduct(const float* a, const float* b, const float* c, float* out, uint32_t heads,
                 uint32_t width) {
  for (uint32_t h = 0; h < heads; ++h, a += width, b += width, c += width, out += width) {
    double dot = 0.0;
    for (uint32_t i = 0; i < width; ++i) dot += double{a[i]} * b[i];
    for (uint32_t i = 0; i < width; ++i) out[i] = static_cast<float>(dot) * c[i];
  }
}

void Convolve(const float* const* rows, uint32_t taps, const float* weight, const float* bias,
              float* out, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) {
    float sum = bias == nullptr ? 0.0f : bias[i];
    for (uint32_t j = 0; j < taps; ++j) sum += weight[uint64_t{j} * width + i] * rows[j][i];
    out[i] = sum;
  }
}

void Scale(const float* x, float factor, float* out, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) out[i] = x[i] * factor;
}

void Softcap(const float* x, float cap, float* out, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) out[i] = cap * std::tanh(x[i] / cap);
}

void ToBasis(float* x, const float* basis, uint32_t width) {
  float out[kMostBasisWidth] = {};
  for (uint32_t i = 0; i < width; ++i) {
    for (uint32_t j = 0; j < width; ++j) out[j] += x[i] * basis[uint64_t{i} * width + j];
  }
  std::copy_n(out, width, x);
}

constexpr PointwiseKernels kPortable = {
    RmsNorm,
    LayerNorm,
    Rope,
    {Activate<Activation::kSilu>, Activate<Activation::kGeluErf>, Activate<Activation::kGeluTanh>,
     Activate<Activation::kRelu>, Activate<Activation::kQuickGelu>, Activate<Activation::kSigmoid>,
     Activate<Activation::kTanh>, Activate<Activation::kSoftplus>, Activate<Activation::kExp>,
     Activate<Activation::kEluPlus1>, Activate<Activation::kReluSquared>},
    Add,
    Multiply,
    MultiplyAdd,
    HeadProduct,
    Convolve,
    Scale,
    Softcap,
    ToBasis};

}  // namespace

void RopeAngles(int32_t position, const float* inverse_frequencies, uint32_t dims,
                float attention_factor, float* cos_sin) {
  const uint32_t pairs = dims / 2;
  for (uint32_t i = 0; i < pairs; ++i) {
    const double angle = double{inverse_frequencies[i]} * position;
    cos_sin[i] = static_cast<float>(std::cos(angle) * attention_factor);
    cos_sin[pairs + i] = static_cast<float>(std::sin(angle) * attention_factor);
  }
}

void RopeDifference(const float* to, const float* from, uint32_t dims, float* cos_sin) {
  const uint32_t pairs = dims / 2;
  for (uint32_t i = 0; i < pairs; ++i) {
    cos_sin[i] = to[i] * from[i] + to[pairs + i] * from[pairs + i];
    cos_sin[pairs + i] = to[pairs + i] * from[i] - to[i] * from[pairs + i];
  }
}

const PointwiseKernels& PortablePointwise() { return kPortable; }

}  // namespace headroom::ops
