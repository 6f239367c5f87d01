// What each operation on pictures says, and that channels and element types agree with it.
#include <algorithm>
#include <cmath>

#include "model/load_image.h"

namespace headroom::model {
namespace {

constexpr int32_t kChannelAxis = 3, kRowAxis = 1;

// An operation being loaded, and the values around it.
struct Loading {
  const LoadContext& context;
  const Where& where;
  ImageOp* op;

  const ImageValue& value(int32_t index) const {
    return context.model.image.values[static_cast<size_t>(index)];
  }
  const ImageValue& in(size_t i = 0) const { return value(op->inputs[i]); }
  const ImageValue& out() const { return value(op->output); }

  Status CheckChannels(uint64_t in_channels, uint64_t out_channels) const {
    if (in().channels == in_channels && out().channels == out_channels) return {};
    return Corrupt(where, "maps %u to %u channels, it should map %llu to %llu", in().channels,
                   out().channels, Number(in_channels), Number(out_channels));
  }
  Status SameChannels() const { return CheckChannels(in().channels, in().channels); }
  Status AllF32() const {
    bool f32 = out().dtype == DType::kF32;
    for (const int32_t input : op->inputs) f32 = f32 && value(input).dtype == DType::kF32;
    return f32 ? Status{} : Unsupported(where, "f16 or int8 elements");
  }
  Status OneType() const {
    for (const int32_t input : op->inputs) {
      if (value(input).dtype != out().dtype) return Unsupported(where, "mixed element types");
    }
    return {};
  }
  // What is moved about without being looked at keeps its codes' meaning.
  Status OneScale() const {
    HR_RETURN_IF_ERROR(OneType());
    for (const int32_t input : op->inputs) {
      const ImageValue& from = value(input);
      if (from.scale == out().scale && from.zero_point == out().zero_point) continue;
      return Unsupported(where, "scale %g and zero point %d become %g and %d",
                         static_cast<double>(from.scale), from.zero_point,
                         static_cast<double>(out().scale), out().zero_point);
    }
    return {};
  }
};

// Absent lists stand for `absent` on both axes.
Status LoadPair(const Where& where, const char* what, const flatbuffers::Vector<uint32_t>* list,
                uint32_t absent, uint32_t least, uint32_t most, uint32_t* out) {
  out[0] = out[1] = absent;
  if (Count(list) == 0) return {};
  if (Count(list) != 2) return Unsupported(where, "%s of %u axes, not 2", what, Count(list));
  for (uint32_t i = 0; i < 2; ++i) {
    out[i] = list->Get(i);
    if (out[i] < least || out[i] > most) {
      return Corrupt(where, "%s %u is not %u..%u", what, out[i], least, most);
    }
  }
  return {};
}

template <typename Op>
Status LoadPads(const Where& where, const Op& from, WindowSpec* out) {
  uint32_t begin[2], end[2];
  HR_RETURN_IF_ERROR(LoadPair(where, "padding", from.pad_begin(), 0, 0, kMaxImageKernel, begin));
  HR_RETURN_IF_ERROR(LoadPair(where, "padding", from.pad_end(), 0, 0, kMaxImageKernel, end));
  const uint32_t pads[4] = {begin[0], begin[1], end[0], end[1]};
  std::copy(pads, pads + 4, out->pad);
  return {};
}

Status LoadLimit(const Where& where, fb::ActivationKind kind, Limit* out) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "activation", kind));
  switch (kind) {
    case fb::ActivationKind::None:
      *out = Limit::kNone;
      return {};
    case fb::ActivationKind::Relu:
      *out = Limit::kRelu;
      return {};
    case fb::ActivationKind::Relu6:
      *out = Limit::kRelu6;
      return {};
    default:
      return Unsupported(where, "%s inside of a convolution", fb::EnumNameActivationKind(kind));
  }
}

Status LoadKernel(const Loading& at, const fb::Weight* from, uint64_t columns) {
  WeightRef weight;
  HR_RETURN_IF_ERROR(LoadWeight(at.context, at.where, "weight", from, columns, &weight));
  const TensorView& tensor = at.context.model.tensors[static_cast<size_t>(weight.tensor)];
  if (weight.row_begin != 0 || weight.rows != tensor.rows()) {
    return Unsupported(at.where, "rows %u + %u of a weight of %u", weight.row_begin, weight.rows,
                       tensor.rows());
  }
  const bool codes = tensor.dtype == DType::kI8 && tensor.block == 0;
  if (!codes && tensor.dtype != DType::kF32 && tensor.dtype != DType::kF16) {
    return Unsupported(at.where, "a weight of %s%s", DTypeName(tensor.dtype),
                       tensor.block == 0 ? "" : " in blocks");
  }
  const bool fits = at.in().dtype == DType::kF32 ? !codes : at.in().dtype == tensor.dtype;
  if (!fits) {
    return Unsupported(at.where, "a weight of %s on %s elements", DTypeName(tensor.dtype),
                       DTypeName(at.in().dtype));
  }
  at.op->weight = weight.tensor;
  at.op->bias = weight.bias;
  return at.CheckChannels(at.in().channels, weight.rows);
}

Status LoadConvolution2d(const Loading& at, const fb::ConvolutionOp& from) {
  ImageOp& op = *at.op;
  op.kind = ImageOpKind::kConvolution;
  if (from.causal() || from.transposed()) return Unsupported(at.where, "causal or transposed");
  HR_RETURN_IF_ERROR(CheckKnown(at.where, "padding", from.pad_mode()));
  if (from.pad_mode() != fb::PadMode::Zero) {
    return Unsupported(at.where, "padding %s", fb::EnumNamePadMode(from.pad_mode()));
  }
  WindowSpec& window = op.window;
  constexpr uint32_t kMost = kMaxImageKernel;
  HR_RETURN_IF_ERROR(LoadPair(at.where, "kernel", from.kernel(), 0, 1, kMost, window.kernel));
  if (window.kernel[0] == 0) return Corrupt(at.where, "no kernel");
  HR_RETURN_IF_ERROR(LoadPair(at.where, "stride", from.stride(), 1, 1, kMost, window.stride));
  HR_RETURN_IF_ERROR(LoadPair(at.where, "dilation", from.dilation(), 1, 1, kMost, window.dilation));
  HR_RETURN_IF_ERROR(LoadPads(at.where, from, &window));
  op.groups = from.groups();
  const uint32_t channels = at.in().channels;
  if (op.groups == 0 || channels % op.groups != 0 || at.out().channels % op.groups != 0) {
    return Corrupt(at.where, "%u to %u channels in %u groups", channels, at.out().channels,
                   op.groups);
  }
  HR_RETURN_IF_ERROR(LoadLimit(at.where, from.activation(), &op.limit));
  HR_RETURN_IF_ERROR(at.OneType());
  return LoadKernel(at, from.weight(),
                    uint64_t{window.kernel[0]} * window.kernel[1] * (channels / op.groups));
}

Status LoadImageNorm(const Loading& at, const fb::NormOp& from) {
  ImageOp& op = *at.op;
  op.kind = ImageOpKind::kNorm;
  const fb::Norm* norm = from.norm();
  if (norm == nullptr) return Corrupt(at.where, "no norm");
  HR_RETURN_IF_ERROR(CheckKnown(at.where, "norm kind", norm->kind()));
  if (norm->kind() != fb::NormKind::Layer && norm->kind() != fb::NormKind::Group) {
    return Unsupported(at.where, "a %s norm of pictures", fb::EnumNameNormKind(norm->kind()));
  }
  const uint32_t channels = at.in().channels;
  op.groups = norm->kind() == fb::NormKind::Group ? norm->groups() : 0;
  if (norm->kind() == fb::NormKind::Group && (op.groups == 0 || channels % op.groups != 0)) {
    return Corrupt(at.where, "%u channels in %u groups", channels, op.groups);
  }
  op.weight = norm->weight();
  op.bias = norm->bias();
  HR_RETURN_IF_ERROR(CheckVector(at.context, at.where, "weight", op.weight, channels));
  HR_RETURN_IF_ERROR(CheckVector(at.context, at.where, "bias", op.bias, channels));
  op.epsilon = norm->epsilon();
  if (!(op.epsilon > 0.0f) || !(op.epsilon <= 1.0f)) {
    return Corrupt(at.where, "epsilon %g is not in (0, 1]", static_cast<double>(op.epsilon));
  }
  HR_RETURN_IF_ERROR(at.AllF32());
  return at.SameChannels();
}

Status LoadImageActivation(const Loading& at, const fb::ActivationOp& from) {
  at.op->kind = ImageOpKind::kActivation;
  Activation activation = Activation::kRelu;
  HR_RETURN_IF_ERROR(LoadActivation(at.where, from.activation(), &activation));
  at.op->activation = static_cast<uint8_t>(activation);
  const bool any = activation == Activation::kRelu || at.out().dtype == DType::kF16;
  HR_RETURN_IF_ERROR(any ? at.OneType() : at.AllF32());
  return at.SameChannels();
}

Status LoadPool(const Loading& at, const fb::PoolOp& from) {
  ImageOp& op = *at.op;
  op.kind = ImageOpKind::kPool;
  HR_RETURN_IF_ERROR(CheckKnown(at.where, "pool", from.kind()));
  if (from.kind() == fb::PoolKind::None) return Corrupt(at.where, "no kind");
  op.pool = from.kind() == fb::PoolKind::Max ? PoolKind::kMax : PoolKind::kAverage;
  op.window.adaptive = from.adaptive();
  const uint32_t least = from.adaptive() ? 0 : 1;
  const uint32_t most = from.adaptive() ? kMaxImageSide : kMaxImageKernel;
  HR_RETURN_IF_ERROR(LoadPair(at.where, "kernel", from.kernel(), 0, least, most, op.window.kernel));
  HR_RETURN_IF_ERROR(
      LoadPair(at.where, "stride", from.stride(), 1, 1, kMaxImageKernel, op.window.stride));
  HR_RETURN_IF_ERROR(LoadPads(at.where, from, &op.window));
  const uint32_t* pad = op.window.pad;
  const bool slides = !from.adaptive() && Count(from.kernel()) != 0;
  for (int axis = 0; axis < 2; ++axis) {
    const uint32_t limit = slides ? op.window.kernel[axis] : 1;
    if (pad[axis] < limit && pad[axis + 2] < limit) continue;
    return Corrupt(at.where, "padding %u and %u of a window of %u", pad[axis], pad[axis + 2],
                   limit);
  }
  // A mean of codes or halves is a number.
  const bool mean = op.pool == PoolKind::kAverage && at.out().dtype == DType::kF32;
  if (!mean) HR_RETURN_IF_ERROR(at.AllF32());
  return at.SameChannels();
}

Status LoadResize(const Loading& at, const fb::ResizeOp& from) {
  ImageOp& op = *at.op;
  op.kind = ImageOpKind::kResize;
  HR_RETURN_IF_ERROR(CheckKnown(at.where, "resize", from.kind()));
  if (from.kind() == fb::ResizeKind::None) return Corrupt(at.where, "no kind");
  op.bilinear = from.kind() == fb::ResizeKind::Bilinear;
  op.align_corners = from.align_corners();
  op.factor = from.factor();
  op.size[0] = from.height();
  op.size[1] = from.width();
  const bool sized = op.size[0] >= 1 && op.size[0] <= kMaxImageSide && op.size[1] >= 1 &&
                     op.size[1] <= kMaxImageSide && op.factor == 0;
  if (!sized && (op.factor == 0 || op.factor > kMaxImageKernel)) {
    return Corrupt(at.where, "to %u x %u or by %u", op.size[0], op.size[1], op.factor);
  }
  HR_RETURN_IF_ERROR(at.AllF32());
  return at.SameChannels();
}

Status LoadSlice(const Loading& at, const fb::SliceOp& from) {
  ImageOp& op = *at.op;
  op.begin = from.begin();
  op.end = from.end();
  if (op.begin >= op.end || from.step() != 1) {
    return Corrupt(at.where, "%u to %u in steps of %u", op.begin, op.end, from.step());
  }
  HR_RETURN_IF_ERROR(at.OneScale());
  if (from.axis() == kRowAxis) {
    op.kind = ImageOpKind::kRows;
    HR_RETURN_IF_ERROR(at.AllF32());
    return at.SameChannels();
  }
  if (from.axis() != kChannelAxis) return Unsupported(at.where, "a slice of axis %d", from.axis());
  op.kind = ImageOpKind::kSlice;
  if (op.end > at.in().channels) {
    return Corrupt(at.where, "channels up to %u of %u", op.end, at.in().channels);
  }
  return at.CheckChannels(at.in().channels, op.end - op.begin);
}

Status LoadConcat(const Loading& at, const fb::ConcatOp& from) {
  at.op->kind = ImageOpKind::kConcat;
  if (from.axis() != kChannelAxis) return Unsupported(at.where, "of axis %d", from.axis());
  HR_RETURN_IF_ERROR(at.OneScale());
  uint64_t channels = 0;
  for (const int32_t input : at.op->inputs) channels += at.value(input).channels;
  return at.CheckChannels(at.in().channels, channels);
}

// [B, H * W, 1, C]: the only other shape that the same bytes have without being moved.
Status LoadFlatten(const Loading& at, const fb::ReshapeOp& from) {
  at.op->kind = ImageOpKind::kFlatten;
  const auto* dims = from.dims();
  if (Count(dims) != 4 || dims->Get(0)->symbol() != fb::DimSymbol::B ||
      dims->Get(1)->symbol() != fb::DimSymbol::Spatial ||
      dims->Get(2)->symbol() != fb::DimSymbol::Constant || dims->Get(2)->size() != 1 ||
      dims->Get(3)->symbol() != fb::DimSymbol::Constant) {
    return Unsupported(at.where, "a shape other than [B, Spatial, 1, C]");
  }
  HR_RETURN_IF_ERROR(at.OneScale());
  return at.CheckChannels(dims->Get(3)->size(), dims->Get(3)->size());
}

Status LoadSelfAttention(const Loading& at, const fb::SelfAttentionOp& from) {
  ImageOp& op = *at.op;
  op.kind = ImageOpKind::kSelfAttention;
  const bool known = from.heads() >= 1 && from.heads() <= kMaxHeads && from.query_width() >= 1 &&
                     from.query_width() <= kMaxHeadWidth && from.value_width() >= 1 &&
                     from.value_width() <= kMaxHeadWidth;
  if (!known) {
    return Corrupt(at.where, "%u heads of %u and %u numbers", from.heads(), from.query_width(),
                   from.value_width());
  }
  HR_RETURN_IF_ERROR(CheckFactor(at.where, "scale", from.scale()));
  Limit limit = Limit::kNone;
  HR_RETURN_IF_ERROR(LoadLimit(at.where, from.activation(), &limit));
  if (limit == Limit::kRelu6) return Unsupported(at.where, "Relu6 behind attention");
  op.attention = {from.heads(), from.query_width(), from.value_width(), from.scale(),
                  limit == Limit::kRelu};
  const uint64_t in = uint64_t{from.heads()} * (2ull * from.query_width() + from.value_width());
  HR_RETURN_IF_ERROR(at.AllF32());
  return at.CheckChannels(in, uint64_t{from.heads()} * from.value_width());
}

Status LoadPositions(const Loading& at, const fb::PositionEmbeddingOp& from) {
  at.op->kind = ImageOpKind::kPositionEmbedding;
  WeightRef weight;
  HR_RETURN_IF_ERROR(
      LoadWeight(at.context, at.where, "table", from.weight(), at.in().channels, &weight));
  const TensorView& table = at.context.model.tensors[static_cast<size_t>(weight.tensor)];
  if (table.dtype != DType::kF32 || weight.bias != kNone || weight.row_begin != 0 ||
      weight.rows != table.rows()) {
    return Unsupported(at.where, "a table of %s, in part or with a bias", DTypeName(table.dtype));
  }
  if (from.prefix() >= weight.rows) {
    return Corrupt(at.where, "%u rows in front of a table of %u", from.prefix(), weight.rows);
  }
  at.op->weight = weight.tensor;
  at.op->begin = from.prefix();
  at.op->end = weight.rows;
  HR_RETURN_IF_ERROR(at.AllF32());
  return at.SameChannels();
}

Status LoadElementwise(const Loading& at, fb::OpAttributes kind) {
  switch (kind) {
    case fb::OpAttributes::AddOp:
      at.op->kind = ImageOpKind::kAdd;
      HR_RETURN_IF_ERROR(at.OneType());
      break;
    case fb::OpAttributes::MultiplyOp:
      // Factors are f32; what they multiply may be codes or halves.
      at.op->kind = ImageOpKind::kMultiply;
      if (at.in(1).dtype != DType::kF32 || at.in().dtype != at.out().dtype) {
        return Unsupported(at.where, "factors that are not f32, or results of another type");
      }
      break;
    case fb::OpAttributes::ConvertOp:
      at.op->kind = ImageOpKind::kConvert;
      if (at.in().dtype != at.out().dtype && at.in().dtype != DType::kF32 &&
          at.out().dtype != DType::kF32) {
        return Unsupported(at.where, "%s to %s", DTypeName(at.in().dtype),
                           DTypeName(at.out().dtype));
      }
      return at.SameChannels();
    default:
      return Unsupported(at.where, "operation %s on pictures", fb::EnumNameOpAttributes(kind));
  }
  if (at.in(1).channels != at.in().channels) {
    return Corrupt(at.where, "%u and %u channels", at.in().channels, at.in(1).channels);
  }
  return at.SameChannels();
}

}  // namespace

ImageArity ImageArityOf(fb::OpAttributes kind) {
  switch (kind) {
    case fb::OpAttributes::AddOp:
    case fb::OpAttributes::MultiplyOp:
      return {2, 2};
    case fb::OpAttributes::ConcatOp:
      return {1, kMaxConcat};
    default:
      return {};
  }
}

Status LoadImageAttributes(const LoadContext& context, const Where& where, const fb::Op& from,
                           ImageOp* op) {
  const Loading at{context, where, op};
  switch (from.attributes_type()) {
    case fb::OpAttributes::ConvolutionOp:
      return LoadConvolution2d(at, *from.attributes_as_ConvolutionOp());
    case fb::OpAttributes::NormOp:
      return LoadImageNorm(at, *from.attributes_as_NormOp());
    case fb::OpAttributes::ActivationOp:
      return LoadImageActivation(at, *from.attributes_as_ActivationOp());
    case fb::OpAttributes::PoolOp:
      return LoadPool(at, *from.attributes_as_PoolOp());
    case fb::OpAttributes::ResizeOp:
      return LoadResize(at, *from.attributes_as_ResizeOp());
    case fb::OpAttributes::SliceOp:
      return LoadSlice(at, *from.attributes_as_SliceOp());
    case fb::OpAttributes::ConcatOp:
      return LoadConcat(at, *from.attributes_as_ConcatOp());
    case fb::OpAttributes::ReshapeOp:
      return LoadFlatten(at, *from.attributes_as_ReshapeOp());
    case fb::OpAttributes::SelfAttentionOp:
      return LoadSelfAttention(at, *from.attributes_as_SelfAttentionOp());
    case fb::OpAttributes::PositionEmbeddingOp:
      return LoadPositions(at, *from.attributes_as_PositionEmbeddingOp());
    default:
      return LoadElementwise(at, from.attributes_type());
  }
}

}  // namespace headroom::model
