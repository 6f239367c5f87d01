// Operations on pictures beside convolutions: the kernels' signatures.
//
// Positions are pixels, or tokens that pixels have become. Every kernel works on [positions,
// channels] with stated strides (in elements, from one position to the next), may run on any part
// from any thread, and cannot fail. Unless said otherwise out may equal x.
#pragma once

#include <cstdint>

#include "base/math.h"

namespace headroom::ops {

// Group norm (arXiv 1803.08494 eq. 1, 2) of one picture: of each of `groups` equal parts of the
// channels, mean and variance over all positions together;
// out = (x - mean) / sqrt(var + epsilon) * weight + bias. weight, bias: f32 [channels].
using GroupNormKernel = void (*)(const float* x, uint32_t x_stride, float* out, uint32_t out_stride,
                                 uint32_t positions, uint32_t channels, uint32_t groups,
                                 const float* weight, const float* bias, float epsilon);

// out[c] = largest or mean x[c] over pixels [row_begin, row_end) x [column_begin, column_end) of a
// picture `columns` wide; at least one pixel. out is none of them.
struct PoolWindow {
  uint32_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;
};
using PoolKernel = void (*)(const float* x, uint32_t x_stride, uint32_t columns,
                            const PoolWindow& window, uint32_t channels, float* out);

// The same mean of codes, see below: numbers are (code - zero) * scale.ratio.
struct CodeScale {
  float ratio = 1.0f;
  int32_t zero = 0;
};
using PoolCodesKernel = void (*)(const int8_t* x, uint32_t x_stride, uint32_t columns,
                                 const PoolWindow& window, uint32_t channels, CodeScale scale,
                                 float* out);

// out[c] = sum over i < 4 of weights[i] * from[i][c]
using BlendKernel = void (*)(const float* const from[4], const float weights[4], float* out,
                             uint32_t channels);

// Attention of every position of one picture with every other. A row of qkv holds the queries of
// all heads, then their keys, then their values.
struct SelfAttention {
  const float* qkv = nullptr;
  uint32_t stride = 0;
  uint32_t positions = 0;  // T
  uint32_t heads = 1, query_width = 0, value_width = 0;
  float scale = 1.0f;
  bool relu = false;
  float* out = nullptr;  // row t: heads * value_width numbers
  uint32_t out_stride = 0;
};
inline constexpr uint32_t kAttentionTile = 8;  // queries of one task
inline constexpr uint32_t kPositionBlock = 16;
constexpr uint32_t PaddedPositions(uint64_t positions) {
  return static_cast<uint32_t>(RoundUp(positions, kPositionBlock));
}
// Scratch: the keys of each head turned round, [query_width, PaddedPositions] each, then
// [kAttentionTile, PaddedPositions] for each thread.
constexpr uint64_t SelfAttentionScratchBytes(uint32_t heads, uint32_t query_width,
                                             uint64_t positions, uint32_t threads) {
  const uint64_t rows = uint64_t{heads} * query_width + uint64_t{kAttentionTile} * threads;
  return rows * PaddedPositions(positions) * sizeof(float);
}
// Fills turned[query_width, PaddedPositions] with the keys of a head, 0 behind the last.
using TurnKeysKernel = void (*)(const SelfAttention& attention, uint32_t head, float* turned);
// out of queries [begin, end) of a head, at most kAttentionTile of them:
// act(softmax(scale * q k^T) v).
using SelfAttentionKernel = void (*)(const SelfAttention& attention, uint32_t head,
                                     const float* turned, uint32_t begin, uint32_t end,
                                     float* scores);

// Codes of 8 bits: number = (code - zero) * scale. Every result is rounded to the nearest code, of
// two to the one an even number of codes from zero, and to the nearest that there is.
using QuantiseKernel = void (*)(const float* x, float scale, int32_t zero, int8_t* out,
                                uint32_t count);
using DequantiseKernel = void (*)(const int8_t* x, float scale, int32_t zero, float* out,
                                  uint32_t count);
// Below, a ratio is the scale of the input by that of the output, and a zero the input's.
// out = a + b
using AddCodesKernel = void (*)(const int8_t* a, CodeScale a_scale, const int8_t* b,
                                CodeScale b_scale, int32_t out_zero, int8_t* out, uint32_t count);
// out = x, or the larger of x and 0
using MoveCodesKernel = void (*)(const int8_t* x, CodeScale scale, int32_t out_zero, bool relu,
                                 int8_t* out, uint32_t count);
// out = x * factor, one factor a number
using ScaleCodesKernel = void (*)(const int8_t* x, CodeScale scale, const float* factors,
                                  int32_t out_zero, int8_t* out, uint32_t count);

// IEEE halves, as their 16-bit patterns: rounded to the nearest, of two to the even one, to
// infinity above the largest (base/half.h).
using ToHalvesKernel = void (*)(const float* x, uint16_t* out, uint32_t count);
using FromHalvesKernel = void (*)(const uint16_t* x, float* out, uint32_t count);

// One backend's set.
struct ImageKernels {
  GroupNormKernel group_norm;
  PoolKernel pool[2];  // by model::PoolKind: largest, mean
  PoolCodesKernel pool_codes;
  BlendKernel blend;
  TurnKeysKernel turn_keys;
  SelfAttentionKernel self_attention;
  QuantiseKernel quantise;
  DequantiseKernel dequantise;
  AddCodesKernel add_codes;
  MoveCodesKernel move_codes;
  ScaleCodesKernel scale_codes;
  ToHalvesKernel to_halves;
  FromHalvesKernel from_halves;
};
const ImageKernels& PortableImage();

}  // namespace headroom::ops
