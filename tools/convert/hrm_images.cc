#include "convert/hrm_images.h"

namespace headroom::convert {
namespace {

using model::ImageOp;
using model::ImageOpKind;
using model::WindowSpec;

constexpr int32_t kRowAxis = 1, kChannelAxis = 3;

// Absent where it says what an absent list stands for.
std::vector<uint32_t> PairOf(const uint32_t* pair, uint32_t absent) {
  if (pair[0] == absent && pair[1] == absent) return {};
  return {pair[0], pair[1]};
}

template <typename Op>
void AddPads(const WindowSpec& window, Op& out) {
  out.pad_begin = PairOf(window.pad, 0);
  out.pad_end = PairOf(window.pad + 2, 0);
}

fb::ActivationKind ToSchema(model::Limit limit) {
  switch (limit) {
    case model::Limit::kNone:
      return fb::ActivationKind::None;
    case model::Limit::kRelu:
      return fb::ActivationKind::Relu;
    case model::Limit::kRelu6:
      return fb::ActivationKind::Relu6;
  }
  return fb::ActivationKind::None;
}

// All rows of a tensor.
std::unique_ptr<fb::WeightT> WholeWeight(const ModelDescription& model, const ImageOp& op) {
  auto out = std::make_unique<fb::WeightT>();
  out->tensor = op.weight;
  out->rows = model.tensors[static_cast<size_t>(op.weight)].extents[0];
  out->bias = op.bias;
  return out;
}

fb::ConvolutionOpT ConvolutionOf(const ModelDescription& model, const ImageOp& op) {
  fb::ConvolutionOpT out;
  out.weight = WholeWeight(model, op);
  out.kernel = {op.window.kernel[0], op.window.kernel[1]};
  out.stride = PairOf(op.window.stride, 1);
  out.dilation = PairOf(op.window.dilation, 1);
  AddPads(op.window, out);
  out.groups = op.groups;
  out.activation = ToSchema(op.limit);
  return out;
}

fb::NormOpT NormOf(const ImageOp& op) {
  fb::NormOpT out;
  out.norm = std::make_unique<fb::NormT>();
  out.norm->kind = op.groups == 0 ? fb::NormKind::Layer : fb::NormKind::Group;
  if (op.groups != 0) out.norm->groups = op.groups;
  out.norm->weight = op.weight;
  out.norm->bias = op.bias;
  out.norm->epsilon = op.epsilon;
  return out;
}

fb::PoolOpT PoolOf(const ImageOp& op) {
  fb::PoolOpT out;
  out.kind = op.pool == model::PoolKind::kMax ? fb::PoolKind::Max : fb::PoolKind::Average;
  out.kernel = PairOf(op.window.kernel, 0);
  out.stride = PairOf(op.window.stride, 1);
  AddPads(op.window, out);
  out.adaptive = op.window.adaptive;
  return out;
}

fb::ResizeOpT ResizeOf(const ImageOp& op) {
  fb::ResizeOpT out;
  out.kind = op.bilinear ? fb::ResizeKind::Bilinear : fb::ResizeKind::Nearest;
  out.height = op.size[0];
  out.width = op.size[1];
  out.factor = op.factor;
  out.align_corners = op.align_corners;
  return out;
}

fb::SliceOpT SliceOf(const ImageOp& op, int32_t axis) {
  fb::SliceOpT out;
  out.axis = axis;
  out.begin = op.begin;
  out.end = op.end;
  return out;
}

fb::SelfAttentionOpT AttentionOf(const model::SelfAttentionSpec& spec) {
  fb::SelfAttentionOpT out;
  out.heads = spec.heads;
  out.query_width = spec.query_width;
  out.value_width = spec.value_width;
  out.scale = spec.scale;
  out.activation = spec.relu ? fb::ActivationKind::Relu : fb::ActivationKind::None;
  return out;
}

void SetAttributes(const ModelDescription& model, const ImageOp& op, fb::OpAttributesUnion& out) {
  switch (op.kind) {
    case ImageOpKind::kConvolution:
      return out.Set(ConvolutionOf(model, op));
    case ImageOpKind::kNorm:
      return out.Set(NormOf(op));
    case ImageOpKind::kActivation: {
      fb::ActivationOpT attributes;
      attributes.activation = convert::ToSchema(static_cast<model::Activation>(op.activation));
      return out.Set(std::move(attributes));
    }
    case ImageOpKind::kAdd:
      return out.Set(fb::AddOpT());
    case ImageOpKind::kMultiply:
      return out.Set(fb::MultiplyOpT());
    case ImageOpKind::kPool:
      return out.Set(PoolOf(op));
    case ImageOpKind::kResize:
      return out.Set(ResizeOf(op));
    case ImageOpKind::kSlice:
      return out.Set(SliceOf(op, kChannelAxis));
    case ImageOpKind::kRows:
      return out.Set(SliceOf(op, kRowAxis));
    case ImageOpKind::kConcat: {
      fb::ConcatOpT attributes;
      attributes.axis = kChannelAxis;
      return out.Set(std::move(attributes));
    }
    case ImageOpKind::kFlatten: {
      fb::ReshapeOpT attributes;
      attributes.dims = {
          {fb::DimSymbol::B, 1},
          {fb::DimSymbol::Spatial, 1},
          {fb::DimSymbol::Constant, 1},
          {fb::DimSymbol::Constant, model.image.values[static_cast<size_t>(op.output)].channels}};
      return out.Set(std::move(attributes));
    }
    case ImageOpKind::kSelfAttention:
      return out.Set(AttentionOf(op.attention));
    case ImageOpKind::kPositionEmbedding: {
      fb::PositionEmbeddingOpT attributes;
      attributes.weight = WholeWeight(model, op);
      attributes.prefix = op.begin;
      return out.Set(std::move(attributes));
    }
    case ImageOpKind::kConvert:
      return out.Set(fb::ConvertOpT());
  }
}

std::unique_ptr<fb::ValueT> ToSchema(const model::ImageValue& value) {
  auto out = std::make_unique<fb::ValueT>();
  out->dtype = convert::ToSchema(value.dtype);
  out->dims = {{fb::DimSymbol::B, 1},
               {fb::DimSymbol::Spatial, 1},
               {fb::DimSymbol::Spatial, 1},
               {fb::DimSymbol::Constant, value.channels}};
  out->scale = value.scale;
  out->zero_point = static_cast<int8_t>(value.zero_point);
  return out;
}

// The enumerations of the file and of image.h have the same numbers.
std::unique_ptr<fb::PreprocessT> ToSchema(const model::PreprocessSpec& spec) {
  auto out = std::make_unique<fb::PreprocessT>();
  out->resize = static_cast<fb::ResizeRule>(spec.resize);
  out->filter = static_cast<fb::ResizeFilter>(spec.filter);
  out->resize_height = spec.resize_height;
  out->resize_width = spec.resize_width;
  out->crop_height = spec.crop_height;
  out->crop_width = spec.crop_width;
  out->rounding = static_cast<fb::CropRounding>(spec.rounding);
  out->bgr = spec.bgr;
  out->scale = spec.scale;
  out->mean.assign(std::begin(spec.mean), std::end(spec.mean));
  out->deviation.assign(std::begin(spec.deviation), std::end(spec.deviation));
  return out;
}

}  // namespace

void AddImages(const ModelDescription& description, fb::ModelT& graph) {
  const ImageDescription& image = description.image;
  for (const model::ImageValue& value : image.values) graph.values.push_back(ToSchema(value));
  for (const ImageOpDescription& from : image.ops) {
    auto op = std::make_unique<fb::OpT>();
    op->name = from.name;
    SetAttributes(description, from.op, op->attributes);
    op->inputs = from.op.inputs;
    op->outputs = {from.op.output};
    graph.ops.push_back(std::move(op));
  }
  graph.logits = image.logits;
  graph.vision = std::make_unique<fb::VisionT>();
  graph.vision->preprocess = ToSchema(image.preprocess);
  graph.vision->labels = image.labels;
  graph.vision->features = image.features;
}

}  // namespace headroom::convert
