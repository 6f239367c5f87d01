// One dense layer in XNNPACK's terms: what it must look like, and its operator. Private to this
// folder.
#pragma once

#include <xnnpack.h>

#include <cstddef>
#include <cstdint>

#include "backends/xnnpack/dense.h"

namespace headroom::xnnpack {

// How the weights are kept and multiplied.
enum class LayerForm : uint8_t {
  kF32,                // fully_connected_nc_f32
  kF16InPlace,         // dense_in_place.h: no operator, no packed copy
  kInt8,               // qd8_f32_qc8w
  kInt4Channel,        // qd8_f32_qc4w, one f32 scale a row
  kInt4Block,          // qd8_f32_qb4w, one bf16 scale a block
  kInt8BlockInPlace,   // dense_in_place.h, one f16 scale a block
  kConvolutionF32,     // convolution2d_nhwc_f32
  kConvolutionF16,     // the same, widened
  kConvolutionInt8,    // convolution2d_nhwc_qs8_qc8w
  kConvolutionHalves,  // convolution2d_nhwc_f16
  kPanelsF32,          // convolution_panels.h
  kPanelsF16,          // the same, widened
};

// Read from the model file by every step: no operator, no packed copy.
inline bool InPlace(LayerForm form) {
  return form == LayerForm::kF16InPlace || form == LayerForm::kInt8BlockInPlace;
}

// Run by Convolution: no operator here, packed in one piece.
inline bool IsConvolution(LayerForm form) { return form >= LayerForm::kConvolutionF32; }
inline bool InPanels(LayerForm form) { return form >= LayerForm::kPanelsF32; }

// Some rows of a weight matrix, as plain pointers.
struct LayerSlice {
  LayerForm form = LayerForm::kF32;
  uint32_t rows = 0;     // N
  uint32_t columns = 0;  // K
  uint32_t block = 0;    // forms in blocks only
  const std::byte* weights = nullptr;
  const std::byte* scales = nullptr;  // null for float forms
  const float* bias = nullptr;
  const ConvolutionSpec* convolution = nullptr;

  uint64_t RowBytes() const;
  uint64_t RowScaleBytes() const;
};

// The whole layer, or the first of its parts, checked: types, extents, bytes present, alignment.
// Reads no weight. Errors: kUnsupported, kInvalidArgument; the message names the tensor.
Result<LayerSlice> SliceOf(const DenseWeights& layer);

// Rows [row, row + rows) of `slice`.
LayerSlice SubSlice(const LayerSlice& slice, uint32_t row, uint32_t rows);

// kCorrupt when a scale is not a normal number, or one for a whole row is negative: XNNPACK refuses
// them.
Status CheckScales(const LayerSlice& slice, const char* name);

inline InputKind InputKindOfForm(LayerForm form) {
  return form == LayerForm::kF32 || InPlace(form) ? InputKind::kF32 : InputKind::kQd8;
}

// A converted qd8 input: int8 codes [T, K] with spare bytes behind them, then at this offset one
// {int32 zero point, float scale} per row and kSpareQuantization more. value = (code - zero) *
// scale. XNNPACK documents 10 spare entries, but its widest kernels handle 14 rows at a time and
// read the parameters of all of them when only one row is wanted.
inline constexpr uint32_t kSpareQuantization = 16;
static_assert(kSpareQuantization >= XNN_EXTRA_QUANTIZATION_PARAMS);
uint64_t QuantizationOffset(uint32_t rows, uint32_t columns);

// XNNPACK's three calls, chosen by form. Not for forms in place.
xnn_status CreateOperator(const LayerSlice& slice, xnn_weights_cache_provider* provider,
                          xnn_operator_t* out);
xnn_status ReshapeOperator(LayerForm form, xnn_operator_t op, size_t rows, pthreadpool* pool);
xnn_status SetupOperator(LayerForm form, xnn_operator_t op, const std::byte* input,
                         const xnn_quantization_params* quantization, float* out);

Status StatusFromXnn(xnn_status status, const char* what, const char* name);

// XNNPACK's one-time initialisation; safe to repeat and from any thread.
Status InitializeXnnpack();

}  // namespace headroom::xnnpack
