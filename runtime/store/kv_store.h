// Where cached keys and values lie: the only code that knows a cache layout.
//
// The unit is the lane: the rows of one KV head of one layer, contiguous. In memory a group of
// lanes of one kind is
//   [positions int32[capacity], ring lanes only] then its lanes, each as LaneLayout says
// A lane keeps position p in row p, the first exact_rows of them in arrays of their own. A ring
// lane keeps the first `sinks` positions in rows p and every later one in row sinks + (p - sinks)
// mod (capacity - sinks); visibility is always decided from positions, never from row order (spec
// window-sparse 0.5).
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

// How rows change their codec; lent by the caller, because arithmetic on rows lives in attention/.
struct RowRecoder {
  void (*decode)(RowCodec codec, const std::byte* data, const uint16_t* meta, uint32_t width,
                 float* row) = nullptr;
  // By RowCodec.
  void (*const* encode)(const float* row, uint32_t width, std::byte* data,
                        uint16_t* meta) = nullptr;
};

inline constexpr uint32_t kMostSegments = 2;

// All layers of one session over memory lent by its arena. Not thread-safe for changes; reading
// views and writing distinct rows from several threads is fine.
class KvStore {
 public:
  // `memory` holds the sum of LayerBytes, 64-byte aligned, and outlives the store.
  KvStore(std::vector<LayerSpec> layers, std::span<std::byte> memory);
  KvStore() = default;

  size_t layer_count() const { return layers_.size(); }
  const LayerSpec& layer(size_t index) const { return layers_[index]; }
  // The lane of a KV head, also where the layer uses another's.
  const LaneSpec& LaneOf(size_t layer, uint32_t kv_head) const {
    return GroupOf(layer, kv_head).spec;
  }

  // Says that positions [position, position + count) are about to be written in every layer. Rows
  // of a ring that they replace stop being visible here, before any kernel runs.
  void BeginAppend(uint32_t position, uint32_t count);
  RowPlace Place(size_t layer, uint32_t kv_head, uint32_t position) const;

  // The rows of these heads as a kernel reads them when positions [0, tokens) have been appended:
  // the exact rows and the others, each if there are any. Returns how many segments it filled; no
  // row is in two of them, so their results are merged. The heads' lanes are of one kind.
  uint32_t View(size_t layer, const LaneHeads& heads, uint32_t tokens,
                LaneView segments[kMostSegments]) const;

  // Whether positions can be cut back from `tokens` to `position`: a ring must still hold the
  // window.
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
    // A window: positions before this one (sinks excepted) were never written here, because the
    // state came from a file that holds windows only.
    uint32_t kept_from = 0;
  };
  void Build(std::vector<LayerSpec> layers);
  // Placed at *end, which moves behind it.
  static Group MakeGroup(const LaneGroup& from, uint32_t first_head, uint64_t* end);
  const std::vector<Group>& GroupsOf(size_t layer) const;
  const Group& GroupOf(size_t layer, uint32_t kv_head) const;
  std::byte* Lane(const Group& group, uint32_t kv_head) const;
  int32_t* Positions(const Group& group) const;
  bool VisitLane(const Group& group, std::byte* lane, uint32_t tokens,
                 bool (*visit)(void*, std::span<std::byte>), void* context) const;
  void ClearPositions();
  struct LaneMove;
  struct Shrinking {
    uint32_t tokens;
    const RowRecoder& recoder;
    std::span<std::byte> scratch;
  };
  void ShrinkLane(const Group& from, const Group& to, uint32_t head, const Shrinking& how) const;
  static void MoveRows(const LaneMove& move);
  static void RecodeRows(const LaneMove& move);

  std::vector<LayerSpec> layers_;
  std::vector<std::vector<Group>> groups_;  // by layer
  std::span<std::byte> memory_;
};

}  // namespace headroom::store
