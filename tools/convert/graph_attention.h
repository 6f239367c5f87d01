// The attention plans of a graph: for each layer which tensors make its queries, keys and values.
#pragma once

#include <string>
#include <vector>

#include "convert/graph_tensors.h"

namespace headroom::convert {

struct LayerPlace {
  std::string name;    // of the attention in the file
  std::string source;  // what the layer's names in the checkpoint begin with
  size_t layer = 0;
};

// With a gate, the attention has no output matrix of its own.
struct GatedAttention {
  model::AttentionSpec attention;
  model::WeightRef gate, output;
};

// Adds the layer's tensors. `ropes`: by the index in ModelShape::ropes.
GatedAttention PlanAttention(TensorPlanner& tensors, const std::vector<model::RopeSpec>& ropes,
                             const LayerPlace& place);

}  // namespace headroom::convert
