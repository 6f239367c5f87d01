// Layers of linear attention: the recurrence, and the operations before and behind it.
#pragma once

#include "convert/graph_attention.h"
#include "convert/graph_ops.h"

namespace headroom::convert {

// Adds the layer's tensors and operations; the value it makes of `x`.
int32_t PlanLinear(TensorPlanner& tensors, OpWriter& ops, const LayerPlace& place, int32_t x);

}  // namespace headroom::convert
