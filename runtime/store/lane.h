// Lanes in numbers: what is kept of one KV head, for how long, in how many bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/dims.h"
#include "tensor/dtype.h"

namespace headroom::store {

struct LaneArray {
  RowCodec codec = RowCodec::kF16;
  uint32_t width = 0;  // 0: the lane has no such array
};

// A lane keeps the rows of one KV head: keys, the second part of keys, values, each where the head
// has them. Its first `exact_rows` positions lie in f16 beside the others.
struct LaneSpec {
  LaneArray key, tail, value;
  uint32_t exact_rows = 0;
  uint32_t capacity = 0;       // rows besides the exact ones
  bool ring = false;           // positions come and go; otherwise position p keeps its row
  uint32_t sinks = 0;          // first positions that never leave
  uint32_t left = kUnlimited;  // positions a query needs before itself
};

// Neighbouring KV heads with lanes of one kind.
struct LaneGroup {
  uint32_t lanes = 0;
  LaneSpec spec;
};

// The lanes of one layer, in order of its KV heads; or none of its own: those of `source`.
struct LayerSpec {
  std::vector<LaneGroup> groups;
  int32_t source = -1;

  uint32_t lanes() const;
  const LaneSpec& lane(uint32_t kv_head) const;
};

inline constexpr uint32_t kMaxExactRows = 64;

// `wanted` with the rows it takes to keep `context` positions, or only the ring its window needs
// when that is smaller: sinks + roundup(left + chunk, 16), so that every query of a chunk still
// finds its whole window after the chunk has been written.
LaneSpec PlanLane(LaneSpec wanted, uint32_t context, uint32_t chunk);

// Where the arrays of a lane lie, from its begin, 64-byte aligned; `bytes` in all. The small arrays
// stand behind the others.
struct LaneLayout {
  explicit LaneLayout(const LaneSpec& spec);
  uint64_t key = 0, tail = 0, value = 0;
  uint64_t key_meta = 0, tail_meta = 0, value_meta = 0;
  uint64_t exact_key = 0, exact_tail = 0, exact_value = 0;  // f16
  uint64_t bytes = 0;
};

uint64_t GroupBytes(const LaneGroup& group);
uint64_t LayerBytes(const LayerSpec& spec);
// What one more row of context adds (0 for a ring).
uint64_t LayerBytesPerToken(const LayerSpec& spec);
// Rows of the layer's longest lane, exact ones included.
uint32_t LongestLane(const LayerSpec& spec);

// Whether a lane can be rebuilt as `to` in its own memory by KvStore::ShrinkTo. Not always: a
// narrow row or a short ring takes more bytes in int8 than in f16, because of its scales.
bool CanShrink(const LaneSpec& from, const LaneSpec& to);
// Scratch that ShrinkTo may need for layers like these, whatever it makes of them.
uint64_t ShrinkScratchBytes(std::span<const LayerSpec> layers);

}  // namespace headroom::store
