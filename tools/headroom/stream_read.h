// How fast this machine reads memory: the limit of one-token steps, which read every weight once.
#pragma once

#include <cstdint>

namespace headroom::cli {

// Bytes per second that `threads` threads together read from a buffer of `bytes` (at most 512 MiB
// is allocated, and given back). The median of several passes after one to warm up. A buffer as
// large as what a step reads also finds the caches in the state the step finds them.
double MeasureStreamRead(uint64_t bytes, uint32_t threads);

}  // namespace headroom::cli
