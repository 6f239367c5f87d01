// ViT (arXiv 2010.11929) and DeiT (arXiv 2012.12877) as Hugging Face transformers publishes them.
#pragma once

#include "convert/config.h"
#include "convert/image_graph.h"

namespace headroom::convert {

// Whether config.json names one of their classifiers.
bool IsVit(const Config& config);

// The configuration has the preprocessor's under "preprocessor". Errors: kUnsupported, kCorrupt;
// they name the key or the tensor.
Result<ImagePlan> PlanVit(Config& config, ImageSource& source, WeightFormat format);

}  // namespace headroom::convert
