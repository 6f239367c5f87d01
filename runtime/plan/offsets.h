// Where buffers lie: those alive at the same time must not overlap, the others may.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/lower.h"

namespace headroom::plan {

struct Placement {
  std::vector<uint64_t> offsets;  // by buffer, bytes, 64-byte aligned
  uint64_t total_bytes = 0;
};

// Greedy by size (the largest buffers choose first, each takes the lowest gap that is free during
// its whole life), for chunks of `chunk` rows.
//
// `kept` (or kNone) also never meets the first row of any other buffer, whenever that lives: a run
// of one row leaves what the run before left in it alone until its own first step. That costs
// nothing while some buffer of a chunk has room behind its first row.
Placement PlaceBuffers(const std::vector<Buffer>& buffers, uint32_t chunk, int32_t kept = kNone);

// Something that needs so many bytes from one step to another, both inclusive.
struct Lifetime {
  uint64_t bytes = 0;
  int32_t first_step = kNone, last_step = kNone;
};
Placement PlaceLifetimes(const std::vector<Lifetime>& lifetimes);

}  // namespace headroom::plan
