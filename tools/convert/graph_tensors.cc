#include "convert/graph_tensors.h"

#include <algorithm>

#include "convert/checkpoint_fit.h"

namespace headroom::convert {

using model::NormSpec;
using model::WeightRef;

int32_t TensorPlanner::AddTensor(TensorDescription tensor, TensorPlan plan) {
  description().tensors.push_back(std::move(tensor));
  plan_.tensors.push_back(std::move(plan));
  return static_cast<int32_t>(plan_.tensors.size() - 1);
}

int32_t TensorPlanner::AddVector(const std::string& name, TensorRole role,
                                 std::vector<RowPart> parts, float add) {
  uint64_t rows = 0;
  for (const RowPart& part : parts) rows += part.rows;
  return AddTensor({name, DType::kF32, 0, {static_cast<uint32_t>(rows)}},
                   {role, std::move(parts), add, {}});
}

// A vocabulary matrix stays at int8 in an int4 file unless the user says otherwise: its rows are
// looked up and scored one by one, and it is where four bits cost the most quality.
WeightFormat TensorPlanner::VocabularyFormat() const {
  return choice_.format == WeightFormat::kInt4 ? WeightFormat::kInt8 : choice_.format;
}

WeightFormat TensorPlanner::HeadFormat() const { return choice_.head.value_or(VocabularyFormat()); }

bool TensorPlanner::HeadIsEmbedding() const {
  return shape_.tied && HeadFormat() == VocabularyFormat();
}

// Of a table that rows are looked up in. Beside int4 matrices it takes blocks, which lose less;
// as a head it would be slower by them.
std::optional<uint32_t> TensorPlanner::TableBlock(bool head) const {
  if (choice_.format == WeightFormat::kInt4 && !head) return 32;
  return std::nullopt;
}

// The storage of a matrix of K columns.
TensorDescription TensorPlanner::Stored(const std::string& name, uint32_t rows, uint32_t columns,
                                        WeightFormat format, uint32_t wanted) {
  TensorDescription tensor{name, DType::kF32, 0, {rows, columns}};
  switch (format) {
    case WeightFormat::kF32:
      return tensor;
    case WeightFormat::kF16:
      tensor.dtype = DType::kF16;
      return tensor;
    case WeightFormat::kInt8:
      tensor.dtype = DType::kI8;
      break;
    case WeightFormat::kInt4:
      tensor.dtype = columns % 2 != 0 ? DType::kI8 : DType::kI4;
      break;
    case WeightFormat::kKeep:
      break;  // Kept() made another format of it
  }
  uint32_t block = wanted;
  while (block != 0 && columns % block != 0) block = block > 32 ? block / 2 : 0;
  tensor.block = static_cast<uint16_t>(block);
  const bool odd_int4 = format == WeightFormat::kInt4 && tensor.dtype != DType::kI4;
  if (odd_int4 || block != wanted) Note(tensor, wanted);
  return tensor;
}

uint32_t TensorPlanner::BlockOf(WeightFormat format) const {
  if (format == WeightFormat::kInt4) return choice_.block.value_or(32);
  if (choice_.format == WeightFormat::kKeep) return 32;  // that of the sources' own blocks
  return choice_.format == WeightFormat::kInt8 ? choice_.block.value_or(0) : 0;
}

// The form that keeps what the parts hold, the finest of them where they differ.
WeightFormat TensorPlanner::Kept(const std::vector<RowPart>& parts) const {
  static const std::pair<std::string_view, WeightFormat> kForms[] = {{"F32", WeightFormat::kF32},
                                                                     {"F16", WeightFormat::kF16},
                                                                     {"BF16", WeightFormat::kF16},
                                                                     {"Q4_0", WeightFormat::kInt4}};
  WeightFormat finest = WeightFormat::kInt4;
  for (const RowPart& part : parts) {
    const SourceTensor* source = FindTensor(*choice_.checkpoint, recipe(), part.source);
    if (!source && !part.mxfp4) continue;  // found missing later, by its name
    WeightFormat form = WeightFormat::kInt8;
    for (const auto& [type, kept] : kForms) {
      if (source && source->type->name == type) form = kept;
    }
    finest = std::min(finest, form);
  }
  return finest;
}

void TensorPlanner::Note(const TensorDescription& tensor, uint32_t wanted) {
  const std::string block =
      tensor.block ? " in blocks of " + std::to_string(tensor.block) : " per row";
  plan_.notes.push_back(tensor.name + " is stored as " + DTypeName(tensor.dtype) + block +
                        ": its " + std::to_string(tensor.extents[1]) +
                        " columns are no multiple of the block of " + std::to_string(wanted));
}

NormSpec TensorPlanner::AddNorm(const std::string& name, const std::string& source, uint32_t width,
                                bool bias) {
  NormSpec norm;
  norm.kind = recipe().norm;
  norm.epsilon = shape_.epsilon;
  norm.weight = AddVector(name, TensorRole::kNorm, {{source + ".weight", width, 0, width}},
                          recipe().norm_plus_one ? 1.0f : 0.0f);
  if (bias) {
    norm.bias = AddVector(name + ".bias", TensorRole::kBias, {{source + ".bias", width, 0, width}});
  }
  return norm;
}

std::vector<model::RopeSpec> TensorPlanner::AddRopes() {
  std::vector<model::RopeSpec> ropes;
  for (size_t i = 0; i < shape_.ropes.size(); ++i) {
    RopeFrequencies rope = ComputeRope(shape_.ropes[i]);
    model::RopeSpec spec;
    spec.dims = static_cast<uint32_t>(2 * rope.inverse_frequencies.size());
    spec.layout = shape_.ropes[i].interleaved ? model::RopeLayout::kInterleaved
                                              : model::RopeLayout::kHalfSplit;
    spec.attention_factor = rope.attention_factor;
    if (spec.dims > 0) {
      TensorPlan plan;
      plan.role = TensorRole::kFixed;
      plan.fixed = std::move(rope.inverse_frequencies);
      spec.inverse_frequencies = AddTensor(
          {"rope." + std::to_string(i) + ".inverse_frequencies", DType::kF32, 0, {spec.dims / 2}},
          std::move(plan));
    }
    ropes.push_back(spec);
  }
  return ropes;
}

// A matrix of the sources' rows one below the other, with their biases when `bias`.
WeightRef TensorPlanner::AddMatrix(const std::string& name, const std::string& prefix,
                                   uint32_t columns, const std::vector<MatrixSource>& sources,
                                   bool bias) {
  return AddMatrix(name, prefix, columns, sources, bias, choice_.format);
}

WeightRef TensorPlanner::AddMatrix(const std::string& name, const std::string& prefix,
                                   uint32_t columns, const std::vector<MatrixSource>& sources,
                                   bool bias, WeightFormat format, std::optional<uint32_t> block) {
  TensorPlan plan;
  std::vector<RowPart> bias_parts;
  WeightRef weight;
  const bool transposed = recipe().layers_transposed && !prefix.empty();
  for (const MatrixSource& source : sources) {
    const std::string from = prefix + std::string(source.name);
    plan.parts.push_back(
        {from + ".weight", source.source_rows, source.begin, source.rows, transposed});
    plan.parts.back().turn = source.turn;
    plan.parts.back().scale = source.scale;
    if (!bias) continue;
    bias_parts.push_back({from + ".bias", source.source_rows, source.begin, source.rows});
    if (!source.turn.columns) bias_parts.back().turn = source.turn;
    bias_parts.back().scale = source.bias_scale;
  }
  weight = AddParts(name, columns, std::move(plan.parts), format, block);
  if (bias) weight.bias = AddVector(name + ".bias", TensorRole::kBias, std::move(bias_parts));
  return weight;
}

// What decides about others is kept better than the rest: its few rows are floats.
WeightFormat TensorPlanner::DecisionFormat(const std::string& source) const {
  WeightFormat format = choice_.format;
  if (format == WeightFormat::kKeep) {
    RowPart part;
    part.source = source + ".weight";
    format = Kept({part});
  }
  return std::min(format, WeightFormat::kF16);
}

WeightRef TensorPlanner::AddParts(const std::string& name, uint32_t columns,
                                  std::vector<RowPart> parts, WeightFormat format,
                                  std::optional<uint32_t> block) {
  WeightRef weight;
  for (const RowPart& part : parts) weight.rows += static_cast<uint32_t>(part.rows);
  if (format == WeightFormat::kKeep) format = Kept(parts);
  weight.tensor =
      AddTensor(Stored(name, weight.rows, columns, format, block.value_or(BlockOf(format))),
                {TensorRole::kMatrix, std::move(parts), 0.0f, {}});
  return weight;
}

NormSpec TensorPlanner::AddUnitNorm(const std::string& name, uint32_t width) {
  NormSpec norm;
  norm.kind = recipe().norm;
  norm.epsilon = shape_.epsilon;
  norm.weight = AddFixed(name, std::vector<float>(width, 1.0f));
  return norm;
}

int32_t TensorPlanner::AddFixed(const std::string& name, std::vector<float> numbers) {
  const auto count = static_cast<uint32_t>(numbers.size());
  return AddTensor({name, DType::kF32, 0, {count}},
                   {TensorRole::kFixed, {}, 0.0f, std::move(numbers)});
}

int32_t TensorPlanner::AddProduct(const std::string& name, const std::vector<std::string>& factors,
                                  uint32_t width) {
  TensorPlan plan;
  plan.role = TensorRole::kNorm;
  plan.parts = {{factors.front(), width, 0, width}};
  for (size_t i = 1; i < factors.size(); ++i) plan.times.push_back({factors[i], width, 0, width});
  return AddTensor({name, DType::kF32, 0, {width}}, std::move(plan));
}

}  // namespace headroom::convert
