// The steps of converting a vision model.
#pragma once

#include "convert/config.h"
#include "convert/convert.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Whether the configuration is one of a vision model.
bool IsVision(const Config& config);

// As Convert, but for the seconds. `checkpoint` is empty for a preset.
Result<Summary> ConvertImages(const Options& options, Config& config, const Checkpoint& checkpoint);

}  // namespace headroom::convert
