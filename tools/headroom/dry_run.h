// What a conversion would make, and what would fit where, without converting.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/convert.h"
#include "headroom/report.h"

namespace headroom::cli {

// Prints, or returns in `json` where that is not null: what the file would hold, and for each
// budget and type of cache the largest context that fits; no budgets stands for 256 MiB and its
// doubles until the trained context fits. Nothing is left behind. The status is the conversion's;
// throws Failure when the result could not be opened.
Status DryRun(convert::Options options, std::vector<uint64_t> budgets, Json* json);

}  // namespace headroom::cli
