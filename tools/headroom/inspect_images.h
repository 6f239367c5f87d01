// The graph of a vision model in words.
#pragma once

#include "headroom/report.h"
#include "model/model.h"

namespace headroom::cli {

// Null for a model that takes no pictures.
Json ImageGraphJson(const model::Model& model);
// "pictures  224 x 224 ..." and what else is to be known at once.
void PrintImageSummary(const model::Model& model);
// One line an operation.
void PrintImageOps(const model::Model& model);

}  // namespace headroom::cli
