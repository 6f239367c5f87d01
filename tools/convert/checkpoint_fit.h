// Whether a checkpoint can be the one of a shape, asked before anything that grows with the shape
// is made: a configuration of a few hundred bytes may claim thousands of layers, heads and experts.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "convert/shape.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Matrices that a plan takes apart by head or by expert: so many pieces of all layers together.
// Published models have up to 23,000 experts.
inline constexpr uint64_t kMaxPieces = 1u << 18;

// The tensor, with or without the prefix that some files of the recipe leave out; nullptr: neither.
const SourceTensor* FindTensor(const Checkpoint& checkpoint, const Recipe& recipe,
                               const std::string& name);

// Every layer and every expert that is a tensor of its own must be there; experts and heads of
// stacked and fused tensors must be as many as their extents say. Chooses the layout of experts:
// the first of the recipe's names that the checkpoint has. Errors: kCorrupt names the tensor that
// is missing or of another shape; kUnsupported: more than kMaxPieces.
Status FitToCheckpoint(const Checkpoint& checkpoint, ModelShape& shape);

}  // namespace headroom::convert
