// A model file in words.
#pragma once

#include <string>

#include "headroom/report.h"

namespace headroom::cli {

// Both throw Failure when the file cannot be opened. `outline`: the file has no weights, so that
// its digest is nobody's.
Json InspectJson(const std::string& path, bool outline = false);
void PrintInspection(const std::string& path, bool tensors, bool ops, bool outline = false);

}  // namespace headroom::cli
