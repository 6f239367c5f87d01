// Where cached keys and values lie: the only code that knows a cache layout.
//
// The unit is the lane: the rows of one KV head of one layer, contiguous. In memory a group of
// lanes of one kind is
//   its lanes, each as LaneLayout says, then [positions int32[capacity], ring lanes only]
// A lane keeps position p in row p, the first exact_rows of them in arrays of their own. A ring
// lane keeps the first `sinks` positions in rows p and every later one in row sinks + (p - sinks)
// mod (capacity - sinks). A voted lane has its rows in order of position; when a chunk finds no
// room, the rows with the fewest votes go. Visibility is always decided from positions, never from
// row order (spec window-sparse 0.5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "store/lane.h"
#include "tensor/lane_view.h"

namespace headroom::store {

// Where one row of one array goes; data is null where the lane has no such array.
struct RowSlot {
  RowCodec codec = RowCodec::kF16;
  uint32_t width = 0;  // numbers of it that are kept
  std::byte* data = nullptr;
  uint16_t* meta = nullptr;
};
struct RowPlace {
  RowSlot key, tail, value;
};

// The KV heads that a view is made of; those without an array do not count.
struct LaneHeads {
  uint32_t key = 0, tail = 0, value = 0;
};

// How rows are read and change their form; lent by the caller, because arithmetic on rows lives in
// attention/.
struct RowRecoder {
  void (*decode)(RowCodec codec, const std::byte* data, const uint16_t* meta, uint32_t width,
                 float* row) = nullptr;
  // By RowCodec.
  void (*const* encode)(const float* row, uint32_t width, std::byte* data,
                        uint16_t* meta) = nullptr;
  // Rotates a row or rotates it back.
  void (*rotate)(float* rows, uint32_t count, uint32_t stride, uint32_t width) = nullptr;
};

inline constexpr uint32_t kMostSegments = 3;

// What a lane with a mean or votes knows besides its rows.
struct LaneState {
  uint32_t rows = 0;          // voted: rows in use behind the exact ones
  uint32_t append_begin = 0;  // voted: position of the chunk that is being written,
  uint32_t append_row = 0;    // and the row of its first token behind the exact ones
  uint32_t thinned_at = 0;    // tokens there were when rows last left
  uint32_t gone = 0;          // rows that the mean stands for
  uint32_t voting = 0;        // votes of the present window are being counted
};

// All layers of one session over memory lent by its arena. Not thread-safe for changes; reading
// views and writing distinct rows from several threads is fine.
class KvStore {
 public:
  // `memory` holds the sum of LayerBytes, 64-byte aligned, and outlives the store.
  KvStore(std::vector<LayerSpec> layers, std::span<std::byte> memory);
  // For lanes from which rows leave: how to read rows, and ThinScratchBytes of scratch that is free
  // when BeginAppend is called, 64-byte aligned.
  void Lend(const RowRecoder& recoder, std::span<std::byte> scratch) {
    recoder_ = recoder;
    scratch_ = scratch;
  }
  KvStore() = default;

  size_t layer_count() const { return layers_.size(); }
  const LayerSpec& layer(size_t index) const { return layers_[index]; }
  // The lane of a KV head, also where the layer uses another's.
  const LaneSpec& LaneOf(size_t layer, uint32_t kv_head) const {
    return GroupOf(layer, kv_head).spec;
  }

  // Says that positions [position, position + count) are about to be written in every layer. Rows
  // that they replace stop being visible here, before any kernel runs: those of a ring go into its
  // mean if it has one, and voted lanes without room are thinned.
  void BeginAppend(uint32_t position, uint32_t count);

  // Votes of a head's rows behind the exact ones, for kernels to add to, if queries of the chunk
  // just appended should vote; else null. `queries`: how many of its newest. Votes of an earlier
  // window are cleared by the first call of a later one.
  float* BeginVote(size_t layer, uint32_t kv_head, uint32_t chunk_tokens, uint32_t* queries);
  RowPlace Place(size_t layer, uint32_t kv_head, uint32_t position) const;

  // The rows of these heads as a kernel reads them when positions [0, tokens) have been appended:
  // the exact rows, the mean of those that left, and last the others, each if there are any.
  // Returns how many segments it filled; no row is in two of them, so their results are merged. The
  // heads' lanes are of one kind.
  uint32_t View(size_t layer, const LaneHeads& heads, uint32_t tokens,
                LaneView segments[kMostSegments]) const;

  // Whether positions can be cut back from `tokens` to `position`: a ring must still hold the
  // window, and voted lanes must not have been thinned since.
  bool CanRewind(uint32_t tokens, uint32_t position) const;
  void Rewind(uint32_t tokens, uint32_t position);

  // Copies what [0, tokens) left in a store of the same specs.
  void CopyFrom(const KvStore& other, uint32_t tokens);

  // The state a session at `tokens` still needs, as a sequence of byte spans: all positions of a
  // lane without a window, sinks and the last `left` positions of one with. The order depends only
  // on heads, widths, codecs and windows, never on capacities: what a session file holds. `visit`
  // returns false to stop.
  bool ForEachSpan(uint32_t tokens, bool (*visit)(void* context, std::span<std::byte> bytes),
                   void* context) const;
  uint64_t SpanBytes(uint32_t tokens) const;
  // The states of lanes, which ForEachSpan goes by. kCorrupt (no lanes have them at `tokens`) and
  // kMismatch (these lanes have no room for them): nothing changes. Once, they can be taken back.
  std::span<const LaneState> states() const { return states_; }
  Status SetStates(std::span<const LaneState> states, uint32_t tokens);
  void TakeBackStates() { states_.swap(states_before_); }
  // After the spans of `tokens` positions were overwritten from a file: makes them visible.
  void AdoptSpans(uint32_t tokens);

  // Rebuilds the store in the same memory with smaller capacities and codecs of fewer bytes; every
  // position in [0, tokens) survives. Layers have the groups they had, and CanShrink holds for
  // each; `scratch` holds ShrinkScratchBytes of the present ones, 64-byte aligned. Allocates
  // nothing.
  void ShrinkTo(std::span<const LayerSpec> layers, uint32_t tokens, const RowRecoder& recoder,
                std::span<std::byte> scratch);

 private:
  // Lanes of one kind, laid out.
  struct Group {
    LaneSpec spec;
    LaneLayout layout;
    uint64_t positions = 0, lanes = 0;  // offsets into memory_
    uint32_t first_head = 0, count = 0;
    uint32_t first_state = 0;  // of its lanes, where they have one
    // A window: positions before this one (sinks excepted) were never written here, because the
    // state came from a file that holds windows only.
    uint32_t kept_from = 0;
  };
  void Build(std::vector<LayerSpec> layers);
  // Placed at *end, which moves behind it.
  Group MakeGroup(const LaneGroup& from, uint32_t first_head, uint64_t* end) const;
  LaneState& StateOf(const Group& group, uint32_t kv_head) {
    return states_[group.first_state + kv_head - group.first_head];
  }
  const LaneState& StateOf(const Group& group, uint32_t kv_head) const {
    return states_[group.first_state + kv_head - group.first_head];
  }
  void MovePositions(const Group& from, const Group& to, uint32_t tokens);
  // thinning.cc
  void FoldRows(const Group& group, uint32_t position, uint32_t count);
  void MakeRoom(const Group& group, uint32_t position, uint32_t count);
  void Thin(const Group& group, uint32_t kv_head);
  const std::vector<Group>& GroupsOf(size_t layer) const;
  const Group& GroupOf(size_t layer, uint32_t kv_head) const;
  std::byte* Lane(const Group& group, uint32_t kv_head) const;
  int32_t* Positions(const Group& group) const;
  // Of a row behind the exact ones.
  RowPlace PlaceRow(const Group& group, uint32_t kv_head, uint32_t row) const;
  bool VisitLane(const Group& group, uint32_t head, uint32_t tokens,
                 bool (*visit)(void*, std::span<std::byte>), void* context) const;
  void ClearPositions();
  class LaneMove;
  struct Shrinking {
    uint32_t tokens;
    const RowRecoder& recoder;
    std::span<std::byte> scratch;
  };
  void ShrinkLane(const Group& from, const Group& to, uint32_t head, const Shrinking& how);

  std::vector<LayerSpec> layers_;
  std::vector<std::vector<Group>> groups_;  // by layer
  std::vector<LaneState> states_, states_before_;
  std::span<std::byte> memory_;
  RowRecoder recoder_;
  std::span<std::byte> scratch_;
};

}  // namespace headroom::store
