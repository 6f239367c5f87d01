// A model file in words.
#pragma once

#include <string>

#include "headroom/report.h"

namespace headroom::cli {

// Both throw Failure when the file cannot be opened.
Json InspectJson(const std::string& path);
void PrintInspection(const std::string& path, bool tensors, bool ops);

}  // namespace headroom::cli
