// RWKV-5, -6 and -7: checkpoints with the authors' tensor names and no configuration, whose sizes
// their tensors tell, and GGUF files of them.
#pragma once

#include "base/status.h"
#include "convert/config.h"
#include "convert/gguf.h"
#include "convert/graph.h"
#include "convert/shape.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

bool IsRwkv(const Checkpoint& checkpoint);

// The sizes as a configuration, over what is `known` already, and the checkpoint's vectors as
// vectors: the authors keep some as [1, 1, C] and some as [H, D]. Errors: kCorrupt, kUnsupported
// (RWKV-4 and what came between).
Result<Json> DescribeRwkv(Checkpoint& checkpoint, Json known = Json::object());

// Versions 6 and 7 as llama.cpp writes them.
bool IsRwkv(const GgufFile& gguf);
// Gives the file's tensors the authors' names; returns what its keys say, for DescribeRwkv. `what`
// names the file. Errors: kCorrupt, kUnsupported (names the key).
Result<Json> RenameRwkv(GgufFile& gguf, const std::string& what);

// Whether a configuration is one of DescribeRwkv, or of a preset in its words.
bool IsRwkv(const Config& config);
// As ReadShape.
Result<ModelShape> ReadRwkvShape(Config& config, uint32_t context);
// As BuildGraphPlan.
GraphPlan BuildRwkvGraph(const ModelShape& shape, const WeightChoice& choice);

}  // namespace headroom::convert
