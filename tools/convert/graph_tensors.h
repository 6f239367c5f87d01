// The tensors of a graph plan: which format each gets, and which rows of the checkpoint it holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/graph.h"

namespace headroom::convert {

// Rows of a matrix of the checkpoint.
struct MatrixSource {
  std::string_view name;  // without ".weight"
  uint64_t source_rows;
  uint64_t begin, rows;
  Turn turn = {};
  float scale = 1.0f, bias_scale = 1.0f;  // multiply its numbers and those of its bias
};

// Adds tensors to a plan. Everything is borrowed and outlives the planner.
class TensorPlanner {
 public:
  TensorPlanner(const ModelShape& shape, const WeightChoice& choice, GraphPlan& plan)
      : shape_(shape), choice_(choice), plan_(plan) {}

  const ModelShape& shape() const { return shape_; }
  const Recipe& recipe() const { return *shape_.recipe; }
  const TensorNames& names() const { return shape_.recipe->names; }
  ModelDescription& description() { return plan_.description; }
  const WeightChoice& choice() const { return choice_; }

  int32_t AddTensor(TensorDescription tensor, TensorPlan plan);
  int32_t AddVector(const std::string& name, TensorRole role, std::vector<RowPart> parts,
                    float add = 0.0f);
  // A matrix of the sources' rows one below the other, with their biases when `bias`. `prefix`
  // stands before their names.
  model::WeightRef AddMatrix(const std::string& name, const std::string& prefix, uint32_t columns,
                             const std::vector<MatrixSource>& sources, bool bias);
  model::WeightRef AddMatrix(const std::string& name, const std::string& prefix, uint32_t columns,
                             const std::vector<MatrixSource>& sources, bool bias,
                             WeightFormat format, std::optional<uint32_t> block = std::nullopt);
  // A matrix of these parts.
  model::WeightRef AddParts(const std::string& name, uint32_t columns, std::vector<RowPart> parts,
                            WeightFormat format, std::optional<uint32_t> block = std::nullopt);
  model::NormSpec AddNorm(const std::string& name, const std::string& source, uint32_t width,
                          bool bias);
  // A norm whose weights are all 1.
  model::NormSpec AddUnitNorm(const std::string& name, uint32_t width);
  // The product, number by number, of vectors of the checkpoint.
  int32_t AddProduct(const std::string& name, const std::vector<std::string>& factors,
                     uint32_t width);
  // These numbers themselves.
  int32_t AddFixed(const std::string& name, std::vector<float> numbers);
  // By the index in ModelShape::ropes.
  std::vector<model::RopeSpec> AddRopes();

  WeightFormat VocabularyFormat() const;
  WeightFormat HeadFormat() const;
  bool HeadIsEmbedding() const;
  std::optional<uint32_t> TableBlock(bool head) const;
  WeightFormat DecisionFormat(const std::string& source) const;

 private:
  TensorDescription Stored(const std::string& name, uint32_t rows, uint32_t columns,
                           WeightFormat format, uint32_t wanted);
  uint32_t BlockOf(WeightFormat format) const;
  WeightFormat Kept(const std::vector<RowPart>& parts) const;
  void Note(const TensorDescription& tensor, uint32_t wanted);

  const ModelShape& shape_;
  const WeightChoice& choice_;
  GraphPlan& plan_;
};

}  // namespace headroom::convert
