#include "backends/xnnpack/dense_layer.h"

#include <cmath>
#include <limits>

#include "backends/xnnpack/convolution_layer.h"
#include "backends/xnnpack/convolution_panels.h"
#include "base/half.h"
#include "base/math.h"

namespace headroom::xnnpack {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint8_t kInt4ZeroPoint = 8;

// Longest name that still leaves room for the rest of a message.
constexpr int kNameChars = 96;

int NameChars(const TensorView& tensor) {
  return tensor.name.size() < kNameChars ? static_cast<int>(tensor.name.size()) : kNameChars;
}

Status Unsupported(const TensorView& tensor, const char* why, unsigned value, unsigned limit) {
  return Status::Make(StatusCode::kUnsupported, "%.*s (%s): %s (%u, %u)", NameChars(tensor),
                      tensor.name.data(), DTypeName(tensor.dtype), why, value, limit);
}

Status CheckBlock(const TensorView& tensor) {
  if (tensor.block != 32 && tensor.block != 64 && tensor.block != 128) {
    return Unsupported(tensor, "block is not 32, 64 or 128", tensor.block, 128);
  }
  if (tensor.columns() % tensor.block != 0) {
    return Unsupported(tensor, "columns are not a multiple of block", tensor.columns(),
                       tensor.block);
  }
  return {};
}

Result<LayerForm> FormOf(const TensorView& tensor) {
  const uint32_t columns = tensor.columns();
  switch (tensor.dtype) {
    case DType::kF32:
      return LayerForm::kF32;
    case DType::kF16:
      return LayerForm::kF16InPlace;
    case DType::kI8:
      if (tensor.block == 0) return LayerForm::kInt8;
      HR_RETURN_IF_ERROR(CheckBlock(tensor));
      return LayerForm::kInt8BlockInPlace;
    case DType::kI4:
      if (tensor.block == 0) {
        // A row of odd length would end in the middle of a byte.
        if (columns % 2 != 0) return Unsupported(tensor, "columns must be even", columns, 2);
        return LayerForm::kInt4Channel;
      }
      HR_RETURN_IF_ERROR(CheckBlock(tensor));
      return LayerForm::kInt4Block;
    default:
      return Unsupported(tensor, "no dense layer takes this type", columns, 0);
  }
}

Result<LayerForm> ConvolutionFormOf(const TensorView& tensor, const ConvolutionSpec& spec) {
  const uint64_t columns =
      uint64_t{spec.kernel[0]} * spec.kernel[1] * (spec.channels / spec.groups);
  if (tensor.columns() != columns) {
    return Unsupported(tensor, "columns are not taps times channels", tensor.columns(),
                       static_cast<unsigned>(columns));
  }
  if (spec.halves != 0) {
    if (tensor.dtype == DType::kF16) return LayerForm::kConvolutionHalves;
    return Unsupported(tensor, "only weights of f16 take halves", tensor.block, 0);
  }
  const bool panels = UsesPanels(spec);
  if (tensor.dtype == DType::kF32) {
    return panels ? LayerForm::kPanelsF32 : LayerForm::kConvolutionF32;
  }
  if (tensor.dtype == DType::kF16) {
    return panels ? LayerForm::kPanelsF16 : LayerForm::kConvolutionF16;
  }
  if (tensor.dtype == DType::kI8 && tensor.block == 0) return LayerForm::kConvolutionInt8;
  return Unsupported(tensor, "no convolution takes this type", tensor.block, 0);
}

bool InBlocks(LayerForm form) {
  return form == LayerForm::kInt4Block || form == LayerForm::kInt8BlockInPlace;
}

uint64_t ScaleAlignment(LayerForm form) { return InBlocks(form) ? 2 : 4; }

bool Aligned(const void* pointer, uint64_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

uint64_t WeightAlignment(LayerForm form) {
  switch (form) {
    case LayerForm::kF32:
    case LayerForm::kConvolutionF32:
    case LayerForm::kPanelsF32:
      return 4;
    case LayerForm::kF16InPlace:
    case LayerForm::kConvolutionF16:
    case LayerForm::kPanelsF16:
    case LayerForm::kConvolutionHalves:
      return 2;
    default:
      return 1;
  }
}

Status CheckStorage(const TensorView& tensor, const LayerSlice& all) {
  uint64_t data_bytes = 0;
  uint64_t scale_bytes = 0;
  if (!CheckedMul(all.RowBytes(), tensor.rows(), &data_bytes) ||
      !CheckedMul(all.RowScaleBytes(), tensor.rows(), &scale_bytes)) {
    return Status::Make(StatusCode::kInvalidArgument, "%.*s: its size overflows", NameChars(tensor),
                        tensor.name.data());
  }
  if (tensor.data == nullptr || tensor.data_bytes < data_bytes) {
    return Status::Make(StatusCode::kInvalidArgument, "%.*s: %llu bytes of %llu present",
                        NameChars(tensor), tensor.name.data(),
                        static_cast<unsigned long long>(tensor.data_bytes),
                        static_cast<unsigned long long>(data_bytes));
  }
  if (scale_bytes != 0 && (tensor.scales == nullptr || tensor.scale_bytes < scale_bytes)) {
    return Status::Make(StatusCode::kInvalidArgument, "%.*s: %llu bytes of scales of %llu present",
                        NameChars(tensor), tensor.name.data(),
                        static_cast<unsigned long long>(tensor.scale_bytes),
                        static_cast<unsigned long long>(scale_bytes));
  }
  if (!Aligned(tensor.data, WeightAlignment(all.form)) ||
      (scale_bytes != 0 && !Aligned(tensor.scales, ScaleAlignment(all.form)))) {
    return Unsupported(tensor, "weights or scales are not aligned to their type", 0, 0);
  }
  return {};
}

}  // namespace

uint64_t LayerSlice::RowBytes() const {
  switch (form) {
    case LayerForm::kF32:
    case LayerForm::kConvolutionF32:
    case LayerForm::kPanelsF32:
      return uint64_t{columns} * 4;
    case LayerForm::kF16InPlace:
    case LayerForm::kConvolutionF16:
    case LayerForm::kPanelsF16:
    case LayerForm::kConvolutionHalves:
      return uint64_t{columns} * 2;
    case LayerForm::kInt8:
    case LayerForm::kInt8BlockInPlace:
    case LayerForm::kConvolutionInt8:
      return columns;
    case LayerForm::kInt4Channel:
    case LayerForm::kInt4Block:
      return columns / 2;
  }
  return 0;
}

uint64_t LayerSlice::RowScaleBytes() const {
  switch (form) {
    case LayerForm::kF32:
    case LayerForm::kF16InPlace:
    case LayerForm::kConvolutionF32:
    case LayerForm::kConvolutionF16:
    case LayerForm::kPanelsF32:
    case LayerForm::kPanelsF16:
    case LayerForm::kConvolutionHalves:
      return 0;
    case LayerForm::kInt8:
    case LayerForm::kConvolutionInt8:
    case LayerForm::kInt4Channel:
      return 4;
    case LayerForm::kInt4Block:
    case LayerForm::kInt8BlockInPlace:
      return uint64_t{columns} / block * 2;
  }
  return 0;
}

Result<LayerSlice> SliceOf(const DenseWeights& layer) {
  const TensorView& tensor = layer.weight;
  if (tensor.rank != 2 || tensor.columns() == 0) {
    return Unsupported(tensor, "a dense layer's weight is a matrix", tensor.rank, 2);
  }
  const uint64_t rows = uint64_t{layer.rows} * layer.parts;
  if (rows == 0 || layer.row_begin + rows > tensor.rows()) {
    return Status::Make(StatusCode::kInvalidArgument, "%.*s: rows %u + %llu are not in [0, %u)",
                        NameChars(tensor), tensor.name.data(), layer.row_begin,
                        static_cast<unsigned long long>(rows), tensor.rows());
  }
  LayerSlice slice;
  if (layer.convolution != nullptr) {
    HR_ASSIGN_OR_RETURN(slice.form, ConvolutionFormOf(tensor, *layer.convolution));
    slice.convolution = layer.convolution;
  } else {
    HR_ASSIGN_OR_RETURN(slice.form, FormOf(tensor));
  }
  slice.columns = tensor.columns();
  slice.block = InBlocks(slice.form) ? tensor.block : 0;
  slice.rows = tensor.rows();
  HR_RETURN_IF_ERROR(CheckStorage(tensor, slice));
  if (!Aligned(layer.bias, alignof(float))) {
    return Unsupported(tensor, "the bias is not aligned to its type", 0, 0);
  }
  slice.weights = tensor.data;
  slice.scales = slice.RowScaleBytes() == 0 ? nullptr : tensor.scales;
  slice = SubSlice(slice, layer.row_begin, layer.rows);
  slice.bias = layer.bias;  // already that of these rows
  return slice;
}

LayerSlice SubSlice(const LayerSlice& slice, uint32_t row, uint32_t rows) {
  LayerSlice part = slice;
  part.rows = rows;
  part.weights += slice.RowBytes() * row;
  if (part.scales != nullptr) part.scales += slice.RowScaleBytes() * row;
  if (part.bias != nullptr) part.bias += row;
  return part;
}

Status CheckScales(const LayerSlice& slice, const char* name) {
  const bool blocks = slice.form == LayerForm::kInt4Block;
  const uint64_t per_row = blocks ? slice.columns / slice.block : 1;
  if (slice.scales == nullptr) return {};
  for (uint64_t i = 0; i < per_row * slice.rows; ++i) {
    const float scale = blocks ? BfloatToFloat(reinterpret_cast<const uint16_t*>(slice.scales)[i])
                               : reinterpret_cast<const float*>(slice.scales)[i];
    if (std::isnormal(scale) && (blocks || scale > 0.0f)) continue;
    return Status::Make(StatusCode::kCorrupt, "%s: scale %g is not a normal%s number", name,
                        static_cast<double>(scale), blocks ? "" : " positive");
  }
  return {};
}

uint64_t QuantizationOffset(uint32_t rows, uint32_t columns) {
  return RoundUp(uint64_t{rows} * columns + DenseSet::kSpareInputBytes, Arena::kAlignment);
}

xnn_status CreateOperator(const LayerSlice& slice, xnn_weights_cache_provider* provider,
                          xnn_operator_t* out) {
  const size_t columns = slice.columns;
  const size_t rows = slice.rows;
  const auto* channel_scales = reinterpret_cast<const float*>(slice.scales);
  switch (slice.form) {
    case LayerForm::kF32:
      return xnn_create_fully_connected_nc_f32(
          columns, rows, columns, rows, reinterpret_cast<const float*>(slice.weights), slice.bias,
          -kInfinity, kInfinity, /*flags=*/0, /*code_cache=*/nullptr, provider, out);
    case LayerForm::kInt8:
      return xnn_create_fully_connected_nc_qd8_f32_qc8w(
          columns, rows, columns, rows, channel_scales,
          reinterpret_cast<const int8_t*>(slice.weights), slice.bias, -kInfinity, kInfinity,
          /*flags=*/0, /*code_cache=*/nullptr, provider, out);
    case LayerForm::kInt4Channel:
      return xnn_create_fully_connected_nc_qd8_f32_qc4w(
          columns, rows, columns, rows, kInt4ZeroPoint, channel_scales, slice.weights, slice.bias,
          -kInfinity, kInfinity, /*flags=*/0, /*code_cache=*/nullptr, provider, out);
    case LayerForm::kInt4Block:
      return xnn_create_fully_connected_nc_qd8_f32_qb4w(
          columns, rows, columns, rows, slice.block, kInt4ZeroPoint,
          reinterpret_cast<const uint16_t*>(slice.scales), slice.weights, slice.bias, -kInfinity,
          kInfinity, /*flags=*/0, /*code_cache=*/nullptr, provider, out);
    case LayerForm::kConvolutionF32:
    case LayerForm::kConvolutionF16:
    case LayerForm::kConvolutionInt8:
    case LayerForm::kConvolutionHalves:
      return CreateConvolution(slice, {slice.weights, slice.bias, {}, {}},
                               slice.convolution->channels, rows, provider, out);
    default:
      break;
  }
  return xnn_status_unsupported_parameter;
}

xnn_status ReshapeOperator(LayerForm form, xnn_operator_t op, size_t rows, pthreadpool* pool) {
  switch (form) {
    case LayerForm::kF32:
      return xnn_reshape_fully_connected_nc_f32(op, rows, pool);
    case LayerForm::kInt8:
      return xnn_reshape_fully_connected_nc_qd8_f32_qc8w(op, rows, pool);
    case LayerForm::kInt4Channel:
      return xnn_reshape_fully_connected_nc_qd8_f32_qc4w(op, rows, pool);
    case LayerForm::kInt4Block:
      return xnn_reshape_fully_connected_nc_qd8_f32_qb4w(op, rows, pool);
    default:
      break;
  }
  return xnn_status_unsupported_parameter;
}

xnn_status SetupOperator(LayerForm form, xnn_operator_t op, const std::byte* input,
                         const xnn_quantization_params* quantization, float* out) {
  const auto* codes = reinterpret_cast<const int8_t*>(input);
  switch (form) {
    case LayerForm::kF32:
      return xnn_setup_fully_connected_nc_f32(op, reinterpret_cast<const float*>(input), out);
    case LayerForm::kInt8:
      return xnn_setup_fully_connected_nc_qd8_f32_qc8w(op, codes, out, quantization);
    case LayerForm::kInt4Channel:
      return xnn_setup_fully_connected_nc_qd8_f32_qc4w(op, codes, out, quantization);
    case LayerForm::kInt4Block:
      return xnn_setup_fully_connected_nc_qd8_f32_qb4w(op, codes, out, quantization);
    default:
      break;
  }
  return xnn_status_unsupported_parameter;
}

Status StatusFromXnn(xnn_status status, const char* what, const char* name) {
  switch (status) {
    case xnn_status_success:
      return {};
    case xnn_status_out_of_memory:
      return Status::Make(StatusCode::kOutOfMemory, "%s: XNNPACK cannot %s: out of memory", name,
                          what);
    case xnn_status_unsupported_hardware:
      return Status::Make(StatusCode::kUnsupported, "%s: XNNPACK cannot %s on this CPU", name,
                          what);
    default:
      return Status::Make(StatusCode::kInternal, "%s: XNNPACK cannot %s: status %d", name, what,
                          static_cast<int>(status));
  }
}

Status InitializeXnnpack() {
  return StatusFromXnn(xnn_initialize(/*allocator=*/nullptr), "initialise", "dense layers");
}

}  // namespace headroom::xnnpack
