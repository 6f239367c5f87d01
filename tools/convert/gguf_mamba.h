// State space models in GGUF files: Mamba and Mamba-2, as llama.cpp's converter writes them.
#pragma once

#include "base/status.h"
#include "convert/gguf.h"
#include "convert/gguf_keys.h"
#include "convert/gguf_model.h"

namespace headroom::convert {

// What DescribeGguf does, for an architecture whose `recipe` has a state in every layer. Takes
// the axes of one off the tensors' extents or puts them there, as the recipe has them.
Result<GgufModel> DescribeGgufMamba(const Recipe& recipe, GgufFile& gguf, GgufKeys& keys);

}  // namespace headroom::convert
