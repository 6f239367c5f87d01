// Says graphs on pictures one operation at a time; each returns the value it makes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "convert/hrm_writer.h"

namespace headroom::test {

class ImageBuilder {
 public:
  int32_t Value(const model::ImageValue& value) {
    d.image.values.push_back(value);
    return static_cast<int32_t>(d.image.values.size()) - 1;
  }
  const model::ImageValue& value(int32_t i) const { return d.image.values[static_cast<size_t>(i)]; }
  int32_t Tensor(const char* what, DType dtype, std::vector<uint32_t> extents) {
    d.tensors.push_back({what + std::to_string(d.tensors.size()), dtype, 0, std::move(extents)});
    return static_cast<int32_t>(d.tensors.size()) - 1;
  }
  int32_t Add(model::ImageOp op, std::vector<int32_t> inputs, const model::ImageValue& out) {
    op.inputs = std::move(inputs);
    op.output = Value(out);
    d.image.ops.push_back({op, "op" + std::to_string(d.image.ops.size())});
    return op.output;
  }
  // As the first input.
  int32_t Same(const model::ImageOp& op, std::vector<int32_t> inputs) {
    const model::ImageValue out = value(inputs[0]);
    return Add(op, std::move(inputs), out);
  }
  static model::ImageOp Of(model::ImageOpKind kind) {
    model::ImageOp op;
    op.kind = kind;
    return op;
  }

  int32_t Convolve(int32_t x, model::ImageOp op, DType dtype, model::ImageValue out) {
    op.kind = model::ImageOpKind::kConvolution;
    const uint32_t taps = op.window.kernel[0] * op.window.kernel[1];
    op.weight = Tensor("w", dtype, {out.channels, taps * value(x).channels / op.groups});
    op.bias = Tensor("b", DType::kF32, {out.channels});
    return Add(op, {x}, out);
  }
  int32_t Project(int32_t x, uint32_t channels) { return Convolve(x, {}, DType::kF32, {channels}); }
  int32_t Norm(int32_t x, uint32_t groups) {
    model::ImageOp op = Of(model::ImageOpKind::kNorm);
    op.groups = groups;
    op.epsilon = 1e-6f;
    op.weight = Tensor("n", DType::kF32, {value(x).channels});
    op.bias = Tensor("nb", DType::kF32, {value(x).channels});
    return Same(op, {x});
  }
  int32_t Activate(int32_t x, model::Activation activation) {
    model::ImageOp op = Of(model::ImageOpKind::kActivation);
    op.activation = static_cast<uint8_t>(activation);
    return Same(op, {x});
  }
  int32_t Slice(int32_t x, uint32_t begin, uint32_t end) {
    model::ImageOp op = Of(model::ImageOpKind::kSlice);
    op.begin = begin;
    op.end = end;
    model::ImageValue out = value(x);
    out.channels = end - begin;
    return Add(op, {x}, out);
  }
  int32_t Concat(int32_t x, int32_t y) {
    model::ImageValue out = value(x);
    out.channels += value(y).channels;
    return Add(Of(model::ImageOpKind::kConcat), {x, y}, out);
  }
  int32_t Sum(int32_t x, int32_t y) { return Same(Of(model::ImageOpKind::kAdd), {x, y}); }
  int32_t Pool(int32_t x, model::PoolKind kind, const model::WindowSpec& window) {
    model::ImageOp op = Of(model::ImageOpKind::kPool);
    op.pool = kind;
    op.window = window;
    return Same(op, {x});
  }
  int32_t GlobalPool(int32_t x) { return Pool(x, model::PoolKind::kAverage, {{0, 0}}); }
  int32_t Resize(int32_t x, uint32_t height, uint32_t width, uint32_t factor, bool bilinear) {
    model::ImageOp op = Of(model::ImageOpKind::kResize);
    op.size[0] = height;
    op.size[1] = width;
    op.factor = factor;
    op.bilinear = bilinear;
    op.align_corners = bilinear && factor == 0;
    return Same(op, {x});
  }
  int32_t Attend(int32_t x, uint32_t heads, uint32_t query, uint32_t channels, bool relu) {
    model::ImageOp op = Of(model::ImageOpKind::kSelfAttention);
    op.attention = {heads, query, channels / heads, 0.5f, relu};
    return Add(op, {Project(x, op.attention.input_width())}, {channels});
  }

  convert::ModelDescription d;
};

}  // namespace headroom::test
