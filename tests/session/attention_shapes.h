// Models of attention alone, made by hand: one or two attentions between an embedding and a head.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/tiny_model.h"
#include "session/golden.h"

namespace headroom::test {

inline constexpr uint32_t kShapeChannels = 24, kShapeWords = 32;
inline const std::vector<int32_t> kShapeTokens = {3,  17, 31, 4,  9, 3,  22, 30,
                                                  11, 5,  6,  28, 1, 17, 2};

// What a session may differ by from the forward pass in double, of the largest logit.
inline constexpr double kShapeTolerance = 1e-5;

class AttentionShapes {
 public:
  AttentionShapes() : d(TinyDescription()) {
    d.tensors.clear();
    d.values = {{0}};
    d.ops.clear();
    d.attentions.clear();
    d.metadata.vocabulary = kShapeWords;
    model::Op op;
    op.kind = model::OpKind::kEmbedding;
    op.weight = Matrix(kShapeWords, kShapeChannels);
    AddOp(op, 0, kShapeChannels);
  }
  int32_t Tensor(std::vector<uint32_t> extents, const char* kind = "t") {
    d.tensors.push_back({kind + std::to_string(d.tensors.size()), DType::kF32, 0, extents});
    return static_cast<int32_t>(d.tensors.size()) - 1;
  }
  model::WeightRef Matrix(uint32_t rows, uint32_t columns) {
    model::WeightRef weight;
    weight.tensor = Tensor({rows, columns});
    weight.rows = rows;
    return weight;
  }
  model::NormSpec Norm(uint32_t width) {
    model::NormSpec norm;
    norm.weight = Tensor({width});
    norm.epsilon = 1e-3f;
    return norm;
  }
  model::RopeSpec Rope(uint32_t dims, uint32_t offset, model::RopeLayout layout,
                       float factor = 1.0f) {
    return {dims, offset, layout, Tensor({dims / 2}, "frequencies"), factor};
  }
  model::StreamSpec Stream(uint32_t heads, uint32_t width) {
    return {heads, width, Matrix(heads * width, kShapeChannels), {}, {}};
  }
  void AddOp(model::Op op, int32_t input, uint32_t width) {
    op.inputs[0] = input;
    d.values.push_back({width});
    op.output = static_cast<int32_t>(d.values.size()) - 1;
    d.ops.push_back({op, "op"});
  }
  void Attend(model::AttentionSpec spec) {
    model::Op op;
    op.kind = model::OpKind::kAttention;
    op.attention = static_cast<int32_t>(d.attentions.size());
    d.attentions.push_back(std::move(spec));
    AddOp(op, static_cast<int32_t>(d.values.size()) - 1, kShapeChannels);
  }
  convert::ModelDescription Done() {
    model::Op op;
    op.kind = model::OpKind::kProjection;
    op.weight = Matrix(kShapeWords, kShapeChannels);
    AddOp(op, static_cast<int32_t>(d.values.size()) - 1, kShapeWords);
    d.logits = static_cast<int32_t>(d.values.size()) - 1;
    return d;
  }
  convert::ModelDescription d;
};

// A normed latent for all beside a rotated key for each of two KV heads; low-rank queries without a
// norm, with factors; neighbouring heads share their matrices.
inline model::AttentionSpec LatentByGroups(AttentionShapes& s) {
  model::AttentionSpec spec;
  spec.query_heads = 4;
  spec.scale = 0.9f;
  spec.query.kind = model::QueryKind::kLowRank;
  spec.query.width = 10;
  spec.query.down = s.Matrix(14, kShapeChannels);
  spec.query.weight = s.Matrix(40, 14);
  spec.query.factors = s.Tensor({10});
  spec.query.rope = s.Rope(4, 6, model::RopeLayout::kInterleaved);
  spec.query.matrix = {s.Matrix(2 * 18, 6), 2, 18};
  spec.key = s.Stream(1, 18);
  spec.key.norm = s.Norm(18);
  spec.tail = s.Stream(2, 4);
  spec.tail.rope = spec.query.rope;
  spec.tail.rope.offset = 0;
  spec.value.width = 18;
  spec.value_matrix = {s.Matrix(2 * 5, 18), 2, 5};
  spec.views = {{0, 0, 0}, {0, 1, 0}};
  spec.head_map = {0, 0, 1, 1};
  spec.output = s.Matrix(kShapeChannels, 20);
  return spec;
}

inline std::shared_ptr<session::Engine> EngineOn(const AlignedBytes& file) {
  auto model = model::Model::OpenMemory(file.data(), file.size(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  return session::Engine::Create(model.Take(), {}).Take();
}

inline convert::ModelDescription OneLatent() {
  AttentionShapes s;
  s.Attend(LatentByGroups(s));
  return s.Done();
}

}  // namespace headroom::test
