// The part of the graph that vision models have: their values, operations and the table `vision`.
#pragma once

#include "convert/hrm_graph.h"

namespace headroom::convert {

// Adds description.image, which is not empty, in place of values and operations on tokens.
void AddImages(const ModelDescription& description, fb::ModelT& graph);

}  // namespace headroom::convert
