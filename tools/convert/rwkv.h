// RWKV-5, -6 and -7: checkpoints with the authors' tensor names and no configuration, whose sizes
// their tensors tell, and GGUF files of them.
#pragma once

#include "base/status.h"
#include "convert/config.h"
#include "convert/graph.h"
#include "convert/shape.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

bool IsRwkv(const Checkpoint& checkpoint);

// The sizes as a configuration, and the checkpoint's vectors as vectors: the authors keep some as
// [1, 1, C] and some as [H, D]. Errors: kCorrupt, kUnsupported (RWKV-4 and what came between).
Result<Json> DescribeRwkv(Checkpoint& checkpoint);

// Whether a configuration is one of DescribeRwkv, or of a preset in its words.
bool IsRwkv(const Config& config);
// As ReadShape.
Result<ModelShape> ReadRwkvShape(Config& config, uint32_t context);
// As BuildGraphPlan.
GraphPlan BuildRwkvGraph(const ModelShape& shape, const WeightChoice& choice);

}  // namespace headroom::convert
