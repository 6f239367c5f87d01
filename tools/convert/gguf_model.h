// What the metadata of a GGUF file says about a model, in the words of config.json and of a recipe,
// so that shape, graph and writer need not know where a checkpoint came from.
#pragma once

#include <string>

#include "base/status.h"
#include "convert/gguf.h"
#include "convert/json_file.h"
#include "convert/recipe.h"

namespace headroom::convert {

struct GgufModel {
  // The architecture's row with the names GGUF gives its tensors and with what is stored otherwise:
  // 1 + w norms and transposed matrices are ready made, and the families that llama.cpp rotates by
  // neighbours have the rows of their queries and keys in that order.
  Recipe recipe;
  Json config;  // for ReadShape with this recipe
};

// Every key of the architecture is either understood or refused by its name; what llama.cpp fixes
// for an architecture without a key (windows, layers without rotation, activations) is filled in.
// Takes the tensors that hold rotary factors out of the table. `what` names the file. Errors:
// kUnsupported (names architecture or key), kCorrupt.
Result<GgufModel> DescribeGguf(GgufFile& gguf, const std::string& what);

// Values of general.architecture that have a recipe.
std::vector<std::string> GgufArchitectureNames();

}  // namespace headroom::convert
