#include "convert/image_graph.h"

namespace headroom::convert {

using model::ImageOp;
using model::ImageOpKind;

namespace {

constexpr uint32_t kColours = 3;

ImageOp Of(ImageOpKind kind) {
  ImageOp op;
  op.kind = kind;
  return op;
}

}  // namespace

ImageGraphWriter::ImageGraphWriter(WeightFormat format, ImagePlan& plan)
    : format_(format), plan_(plan) {
  image().values = {{kColours}};
}

int32_t ImageGraphWriter::Add(const std::string& name, ImageOp op, std::vector<int32_t> inputs,
                              uint32_t channels) {
  op.inputs = std::move(inputs);
  op.output = static_cast<int32_t>(image().values.size());
  image().values.push_back({channels});
  image().ops.push_back({std::move(op), name});
  return image().ops.back().op.output;
}

int32_t ImageGraphWriter::AddTensor(TensorDescription tensor, MakeNumbers make) {
  plan_.description.tensors.push_back(std::move(tensor));
  plan_.tensors.push_back(std::move(make));
  return static_cast<int32_t>(plan_.tensors.size() - 1);
}

int32_t ImageGraphWriter::Convolve(const std::string& name, const ImageLayer& layer,
                                   const Window& window, model::Limit limit, int32_t x) {
  const KernelShape& shape = layer.shape;
  ImageOp op = Of(ImageOpKind::kConvolution);
  const DType dtype = format_ == WeightFormat::kF16 ? DType::kF16 : DType::kF32;
  op.weight = AddTensor({name + ".weight",
                         dtype,
                         0,
                         {shape.out, static_cast<uint32_t>(shape.columns())},
                         layer.source_type},
                        layer.weight);
  op.bias = AddTensor({name + ".bias", DType::kF32, 0, {shape.out}}, layer.bias);
  op.window.kernel[0] = op.window.kernel[1] = shape.kernel;
  op.window.stride[0] = op.window.stride[1] = window.stride;
  std::fill(std::begin(op.window.pad), std::end(op.window.pad), window.pad);
  op.groups = window.groups;
  op.limit = limit;
  return Add(name, std::move(op), {x}, shape.out);
}

int32_t ImageGraphWriter::Norm(const std::string& name, const ImageNorm& norm, uint32_t groups,
                               float epsilon, int32_t x) {
  ImageOp op = Of(ImageOpKind::kNorm);
  op.weight = AddTensor({name + ".weight", DType::kF32, 0, {norm.width}}, norm.weight);
  op.bias = AddTensor({name + ".bias", DType::kF32, 0, {norm.width}}, norm.bias);
  op.groups = groups;
  op.epsilon = epsilon;
  return Add(name, std::move(op), {x}, channels(x));
}

int32_t ImageGraphWriter::Activate(const std::string& name, model::Activation activation,
                                   int32_t x) {
  ImageOp op = Of(ImageOpKind::kActivation);
  op.activation = static_cast<uint8_t>(activation);
  return Add(name, std::move(op), {x}, channels(x));
}

int32_t ImageGraphWriter::Sum(const std::string& name, int32_t x, int32_t y) {
  return Add(name, Of(ImageOpKind::kAdd), {x, y}, channels(x));
}

int32_t ImageGraphWriter::Multiply(const std::string& name, int32_t x, int32_t factor) {
  return Add(name, Of(ImageOpKind::kMultiply), {x, factor}, channels(x));
}

int32_t ImageGraphWriter::Mean(const std::string& name, int32_t x) {
  ImageOp op = Of(ImageOpKind::kPool);
  op.pool = model::PoolKind::kAverage;
  op.window.kernel[0] = op.window.kernel[1] = 0;
  return Add(name, std::move(op), {x}, channels(x));
}

int32_t ImageGraphWriter::Channels(const std::string& name, int32_t x, uint32_t begin,
                                   uint32_t end) {
  ImageOp op = Of(ImageOpKind::kSlice);
  op.begin = begin;
  op.end = end;
  return Add(name, std::move(op), {x}, end - begin);
}

int32_t ImageGraphWriter::Concat(const std::string& name, int32_t x, int32_t y) {
  return Add(name, Of(ImageOpKind::kConcat), {x, y}, channels(x) + channels(y));
}

int32_t ImageGraphWriter::Attend(const std::string& name, const model::SelfAttentionSpec& spec,
                                 int32_t x) {
  ImageOp op = Of(ImageOpKind::kSelfAttention);
  op.attention = spec;
  return Add(name, std::move(op), {x}, spec.output_width());
}

int32_t ImageGraphWriter::Flatten(const std::string& name, int32_t x) {
  return Add(name, Of(ImageOpKind::kFlatten), {x}, channels(x));
}

int32_t ImageGraphWriter::Row(const std::string& name, uint32_t row, int32_t x) {
  ImageOp op = Of(ImageOpKind::kRows);
  op.begin = row;
  op.end = row + 1;
  return Add(name, std::move(op), {x}, channels(x));
}

int32_t ImageGraphWriter::AddPositions(const std::string& name, MakeNumbers table, uint32_t rows,
                                       uint32_t prefix, int32_t x) {
  ImageOp op = Of(ImageOpKind::kPositionEmbedding);
  op.weight = AddTensor({name, DType::kF32, 0, {rows, channels(x)}}, std::move(table));
  op.begin = prefix;
  op.end = rows;
  return Add(name, std::move(op), {x}, channels(x));
}

}  // namespace headroom::convert
