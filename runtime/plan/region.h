// Pieces of memory that a plan lays out.
#pragma once

#include <cstdint>

#include "base/math.h"

namespace headroom::plan {

struct Region {  // [offset, offset + bytes) of something
  uint64_t offset = 0, bytes = 0;
};

// Lays regions behind one another from *end on, each 64-byte aligned, and moves *end.
class RegionPlacer {
 public:
  explicit RegionPlacer(uint64_t* end) : end_(end) {}
  void operator()(Region* region, uint64_t bytes) const {
    *region = {*end_, bytes};
    *end_ = RoundUp(*end_ + bytes, 64);
  }

 private:
  uint64_t* end_;
};

// Backends may read, never write, so far past an input that is f32.
inline constexpr uint64_t kSpareInputBytes = 64;

}  // namespace headroom::plan
