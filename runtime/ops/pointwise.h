// Row-wise operations between the dense layers: specs and the kernels' signatures.
//
// Every kernel works on rows [T, width] of f32 with stated row strides (in floats), may run on any
// sub-range of rows from any thread, and cannot fail. Unless said otherwise out may equal x.
#pragma once

#include <cstdint>

namespace headroom::ops {

// RMSNorm (arXiv 1910.07467 eq. 4): out = x / sqrt(mean(x^2) + eps) * weight
// LayerNorm (arXiv 1607.06450 eq. 4): out = (x - mean) / sqrt(var + eps) * weight + bias
// weight, bias: f32 [width]; bias may be null, is added by both norms. Sums in f32 or better.
using NormKernel = void (*)(const float* x, uint32_t x_stride, float* out, uint32_t out_stride,
                            uint32_t rows, uint32_t width, const float* weight, const float* bias,
                            float epsilon);

enum class RopeLayout : uint8_t { kHalfSplit, kInterleaved };
// Rotary embedding (arXiv 2104.09864 eq. 34) in place on one head vector: for each pair i < dims /
// 2
//   (a, b) -> (a cos - b sin, b cos + a sin) with angle = position * inverse_frequency[i]
// pair i is (i, i + dims / 2) for kHalfSplit and (2i, 2i + 1) for kInterleaved.
// cos_sin: f32 [dims] = cos[dims / 2] then sin[dims / 2], attention factor included.
using RopeKernel = void (*)(float* x, uint32_t dims, RopeLayout layout, const float* cos_sin);
// Fills cos_sin[dims] for one position; angles in double so that positions up to 2^31 stay exact.
void RopeAngles(int32_t position, const float* inverse_frequencies, uint32_t dims,
                float attention_factor, float* cos_sin);
// cos_sin[dims] of the rotation from the angles `from` on to the angles `to`; the attention factors
// are multiplied. No aliasing.
void RopeDifference(const float* to, const float* from, uint32_t dims, float* cos_sin);

enum class Activation : uint8_t {
  kSilu,
  kGeluErf,
  kGeluTanh,
  kRelu,
  kQuickGelu,
  kSigmoid,
  kTanh,
  kSoftplus,     // log(1 + exp x), exact to rounding for every x
  kExp,          // infinity above 88.7
  kEluPlus1,     // x + 1 above 0, else exp x (arXiv 2006.16236 eq. 7)
  kReluSquared,  // max(x, 0)^2
};
inline constexpr int kActivations = 11;
// out[i] = act(gate[i]) * up[i]; up may be null: plain activation.
using ActivationKernel = void (*)(const float* gate, const float* up, float* out, uint32_t width);

// out[i] = a[i] + b[i]
using AddKernel = void (*)(const float* a, const float* b, float* out, uint32_t width);
// out[i] = a[i] * b[i]
using MultiplyKernel = void (*)(const float* a, const float* b, float* out, uint32_t width);
// out[i] = x[i] * factor[i] + addend[i]; addend may be null: 0. out may be any of them.
using MultiplyAddKernel = void (*)(const float* x, const float* factor, const float* addend,
                                   float* out, uint32_t width);
// Of each of `heads` vectors of `width`: out = dot(a, b) * c. out may be any of them.
using HeadProductKernel = void (*)(const float* a, const float* b, const float* c, float* out,
                                   uint32_t heads, uint32_t width);
// One row of a causal depthwise convolution: out[i] = bias[i] + sum_j weight[j * width + i] *
// rows[j][i] over `taps` rows, the newest last; bias may be null: 0. out may be no row.
inline constexpr uint32_t kMostTaps = 8;
using ConvolveKernel = void (*)(const float* const* rows, uint32_t taps, const float* weight,
                                const float* bias, float* out, uint32_t width);
// out[i] = x[i] * factor
using ScaleKernel = void (*)(const float* x, float factor, float* out, uint32_t width);
// out[i] = cap * tanh(x[i] / cap)
using SoftcapKernel = void (*)(const float* x, float cap, float* out, uint32_t width);

// x = U^T x in place: out[j] = sum_i x[i] * basis[i * width + j]
using BasisKernel = void (*)(float* x, const float* basis, uint32_t width);
inline constexpr uint32_t kMostBasisWidth = 512;

// One backend's set.
struct PointwiseKernels {
  NormKernel rms_norm;
  NormKernel layer_norm;
  RopeKernel rope;
  ActivationKernel activation[kActivations];  // by Activation
  AddKernel add;
  MultiplyKernel multiply;
  MultiplyAddKernel multiply_add;
  HeadProductKernel head_product;
  ConvolveKernel convolve;
  ScaleKernel scale;
  SoftcapKernel softcap;
  BasisKernel to_basis;
};
const PointwiseKernels& PortablePointwise();

}  // namespace headroom::ops
