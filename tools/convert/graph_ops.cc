#include "convert/graph_ops.h"

#include <algorithm>

namespace headroom::convert {

using model::OpKind;

int32_t OpWriter::AddValue(uint32_t width) {
  description_.values.push_back({width});
  return static_cast<int32_t>(description_.values.size() - 1);
}

int32_t OpWriter::Add(const std::string& name, model::Op op, uint32_t width,
                      std::initializer_list<int32_t> inputs) {
  std::copy(inputs.begin(), inputs.end(), op.inputs);
  op.output = AddValue(width);
  description_.ops.push_back({op, name});
  return op.output;
}

int32_t OpWriter::Norm(const std::string& name, const model::NormSpec& norm, int32_t x) {
  model::Op op;
  op.kind = OpKind::kNorm;
  op.norm = norm;
  return Add(name, op, width(x), {x});
}

int32_t OpWriter::Project(const std::string& name, const model::WeightRef& weight, int32_t x) {
  model::Op op;
  op.kind = OpKind::kProjection;
  op.weight = weight;
  return Add(name, op, weight.rows, {x});
}

int32_t OpWriter::Activate(const std::string& name, model::Activation activation, int32_t x) {
  model::Op op;
  op.kind = OpKind::kActivation;
  op.activation = activation;
  return Add(name, op, width(x), {x});
}

int32_t OpWriter::ActivateGated(const std::string& name, model::Activation activation, int32_t x) {
  model::Op op;
  op.kind = OpKind::kGatedActivation;
  op.activation = activation;
  return Add(name, op, width(x) / 2, {x});
}

int32_t OpWriter::Sum(const std::string& name, int32_t x, int32_t y) {
  model::Op op;
  op.kind = OpKind::kAdd;
  return Add(name, op, width(x), {x, y});
}

int32_t OpWriter::Scale(const std::string& name, float scale, int32_t x) {
  if (scale == 1.0f) return x;
  model::Op op;
  op.kind = OpKind::kScale;
  op.scale = scale;
  return Add(name, op, width(x), {x});
}

int32_t OpWriter::Multiply(const std::string& name, int32_t x, int32_t factor) {
  model::Op op;
  op.kind = OpKind::kMultiply;
  return Add(name, op, width(x), {x, factor});
}

}  // namespace headroom::convert
