// From a shape to what the file will say: tensors, values, operations, attention plans - and for
// each tensor where its numbers come from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/convert.h"
#include "convert/hrm_writer.h"
#include "convert/shape.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// What heads of `width` neighbouring rows, or columns, are multiplied by: of each the vectors x
// become U^T x.
struct Turn {
  const float* bases = nullptr;  // U of every basis, [width, width] by rows; null: nothing is done
  uint32_t width = 0;
  uint32_t group = 1;  // neighbouring heads of one basis
  bool columns = false;
};

// Rows begin, begin + step, ... (`rows` of them) of a source tensor of [source_rows, columns] (a
// vector: [source_rows]), which lies in the checkpoint as [columns, source_rows] when transposed.
// Of several such matrices one behind the other, [matrices, ...], it is number `matrix`.
struct RowPart {
  std::string source;  // name in the checkpoint
  uint64_t source_rows = 0;
  uint64_t begin = 0;
  uint64_t rows = 0;
  bool transposed = false;
  uint64_t step = 1;
  uint64_t matrices = 0;  // 0: the source has no such extent
  uint64_t matrix = 0;
  bool mxfp4 = false;  // source + "_blocks" and source + "_scales", see safetensors.h
  // Of a transposed source with more rows there than the tensor has columns: how many, and which is
  // the first. 0: it has as many.
  uint64_t source_columns = 0, column_begin = 0;
  Turn turn = {};
  bool unit_axis = false;  // the checkpoint has an extent of 1 in front of the last
  uint32_t repeat = 1;     // of a vector: so many rows of the tensor are each of its numbers
  float scale = 1.0f;      // multiplies every element
};

enum class TensorRole : uint8_t { kMatrix, kNorm, kBias, kFixed };

// How to make tensor i of ModelDescription::tensors.
struct TensorPlan {
  TensorRole role = TensorRole::kMatrix;
  std::vector<RowPart> parts;       // one below the other
  float add = 0.0f;                 // added to every element of `parts`
  std::vector<float> fixed;         // kFixed: the numbers themselves
  std::vector<RowPart> times = {};  // vectors of one length: multiply the numbers of `parts`
  float (*map)(float) = nullptr;    // what each number becomes, before `add`
  std::vector<RowPart> plus = {};   // as `times`: added, before those multiply
};

struct GraphPlan {
  ModelDescription description;     // without tokenizer and names
  std::vector<TensorPlan> tensors;  // parallel to description.tensors
  std::vector<std::string> notes;   // tensors that got another format than asked for, in words
};

struct WeightChoice {
  WeightFormat format = WeightFormat::kInt4;
  std::optional<uint32_t> block;           // unset: 32 for int4, a row for int8
  std::optional<WeightFormat> head;        // unset: int8 in an int4 file, else `format`
  const Checkpoint* checkpoint = nullptr;  // kKeep: whose types are kept
  std::span<const LayerBases> bases = {};  // see Options
};

// Never fails: the shape has been checked, and where it comes from a file nobody has checked it
// fits its checkpoint (checkpoint_fit.h), which is what keeps the plan small.
GraphPlan BuildGraphPlan(const ModelShape& shape, const WeightChoice& choice);

}  // namespace headroom::convert
