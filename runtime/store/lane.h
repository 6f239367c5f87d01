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

// Which rows of a lane stay when not all do: those with the most votes, the attention weight that
// queries gave them.
struct VoteSpec {
  uint32_t rows = 0;        // that are kept when room is made, besides the exact ones; 0: no votes
  uint32_t observe = 0;     // newest queries that vote, and whose own rows stay
  bool accumulate = false;  // votes of all queries add up; otherwise the latest window's count
  uint32_t pool = 1;        // neighbouring rows share their votes, an odd number of them
  bool pool_max = false;    // by the largest, else by the mean
  bool operator==(const VoteSpec&) const = default;
};

// A lane keeps the rows of one KV head: keys, the second part of keys, values, each where the head
// has them. Its first `exact_rows` positions lie in f16 beside the others. At most one of `ring`
// and `vote.rows` is set: positions come and go then; otherwise a position keeps its row.
struct LaneSpec {
  LaneArray key, tail, value;
  uint32_t exact_rows = 0;
  uint32_t capacity = 0;  // rows besides the exact ones
  bool rotated = false;   // keys without their second part, and values, are stored rotated
  bool ring = false;
  bool mean = false;           // of a ring: one more row stands for all that left it
  uint32_t sinks = 0;          // first positions that never leave
  uint32_t left = kUnlimited;  // positions a query needs before itself
  // Queries meet the sinks as if nothing had left between: from position min(p, sinks + left).
  bool relative = false;
  VoteSpec vote;

  bool voted() const { return vote.rows != 0; }
};

// Neighbouring KV heads with lanes of one kind. A ring group has its rows' positions behind its
// lanes.
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

// `wanted` with the rows it takes to keep `context` positions, or only those of its ring or of its
// votes when they are fewer. A ring has sinks + roundup(left + chunk, 16), so that every query of a
// chunk still finds its whole window after the chunk has been written; votes are counted when a
// chunk has been written, so there is room for one besides the rows that stay.
LaneSpec PlanLane(LaneSpec wanted, uint32_t context, uint32_t chunk);

// Where the arrays of a lane lie, from its begin, 64-byte aligned; `bytes` in all. The small arrays
// stand behind the others.
struct LaneLayout {
  explicit LaneLayout(const LaneSpec& spec);
  uint64_t key = 0, tail = 0, value = 0;
  uint64_t key_meta = 0, tail_meta = 0, value_meta = 0;
  uint64_t exact_key = 0, exact_tail = 0, exact_value = 0;  // f16
  uint64_t positions = 0, votes = 0;                        // int32, f32; of voted lanes
  uint64_t mean_key = 0, mean_tail = 0, mean_value = 0, mean_bias = 0;  // f32; of lanes with a mean
  uint64_t bytes = 0;
};

uint64_t GroupBytes(const LaneGroup& group);
uint64_t LayerBytes(const LayerSpec& spec);
// What one more row of context adds (0 for a ring).
uint64_t LayerBytesPerToken(const LayerSpec& spec);
// What a step reads of full lanes: those that several layers share, once for each.
uint64_t ReadBytes(std::span<const LayerSpec> layers);
// Rows of the layer's longest lane, exact ones included.
uint32_t LongestLane(const LayerSpec& spec);

// Whether lanes can be rebuilt as `to` in their own memory by KvStore::ShrinkTo. Not always: a
// narrow row or a short ring takes more bytes in int8 than in f16, because of its scales.
bool CanShrink(const LaneGroup& from, const LaneGroup& to);
// Scratch that letting rows go needs.
uint64_t ThinScratchBytes(std::span<const LayerSpec> layers);
// Scratch that ShrinkTo may need for layers like these, whatever it makes of them.
uint64_t ShrinkScratchBytes(std::span<const LayerSpec> layers);

}  // namespace headroom::store
