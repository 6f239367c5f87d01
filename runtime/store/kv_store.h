// Where cached keys and values lie: the only code that knows a cache layout.
//
// The unit is the lane: the rows of one KV head of one layer, contiguous. In memory a layer is
//   [positions int32[capacity], ring layers only] then G lanes of
//   [keys capacity x Dk] [values capacity x Dv] [key meta capacity] [value meta capacity]
// each array 64-byte aligned. A dense layer keeps every position p in row p. A ring layer keeps the
// first `sinks` positions in rows p and every later one in row sinks + (p - sinks) mod (capacity -
// sinks); visibility is always decided from positions, never from row order (spec window-sparse
// 0.5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "tensor/dims.h"
#include "tensor/lane_view.h"

namespace headroom::store {

struct LayerSpec {
  uint32_t kv_heads = 0;
  uint32_t key_width = 0;
  uint32_t value_width = 0;
  RowCodec codec = RowCodec::kF16;
  uint32_t capacity = 0;  // rows per lane
  bool ring = false;
  uint32_t sinks = 0;          // first positions that never leave
  uint32_t left = kUnlimited;  // positions a query needs before itself
};

// A layer that keeps `context` positions, or only the ring its window needs when that is smaller:
// sinks + roundup(left + chunk, 16) rows, so that every query of a chunk still finds its whole
// window after the chunk has been written.
LayerSpec PlanLayer(uint32_t kv_heads, uint32_t key_width, uint32_t value_width, RowCodec codec,
                    uint32_t left, uint32_t sinks, uint32_t context, uint32_t chunk);

uint64_t LayerBytes(const LayerSpec& spec);
// What one more row of context adds (0 for a ring).
uint64_t LayerBytesPerToken(const LayerSpec& spec);

// Whether a layer can be rebuilt as `to` in its own memory by ShrinkTo. Not always: a narrow row or
// a short ring takes more bytes in int8 than in f16, because of its scales.
bool CanShrink(const LayerSpec& from, const LayerSpec& to);
// Scratch that ShrinkTo may need for layers like these, whatever it makes of them.
uint64_t ShrinkScratchBytes(std::span<const LayerSpec> layers);

// Where one row of one lane goes.
struct RowPlace {
  std::byte* key;
  uint16_t* key_meta;
  std::byte* value;
  uint16_t* value_meta;
};

// How rows change their codec; lent by the caller, because arithmetic on rows lives in attention/.
struct RowRecoder {
  void (*decode)(RowCodec codec, const std::byte* data, const uint16_t* meta, uint32_t width,
                 float* row) = nullptr;
  void (*encode)(const float* row, uint32_t width, std::byte* data, uint16_t* meta) = nullptr;
};

// All layers of one session over memory lent by its arena. Not thread-safe for changes; reading
// views and writing distinct rows from several threads is fine.
class KvStore {
 public:
  // `memory` holds the sum of LayerBytes, 64-byte aligned, and outlives the store.
  KvStore(std::vector<LayerSpec> layers, std::span<std::byte> memory);
  KvStore() = default;

  size_t layer_count() const { return layers_.size(); }
  const LayerSpec& layer(size_t index) const { return layers_[index]; }

  // Says that positions [position, position + count) are about to be written in every layer. Rows
  // of a ring that they replace stop being visible here, before any kernel runs.
  void BeginAppend(uint32_t position, uint32_t count);
  RowPlace Place(size_t layer, uint32_t kv_head, uint32_t position);

  // The lane as a kernel reads it when positions [0, tokens) have been appended.
  LaneView View(size_t layer, uint32_t kv_head, uint32_t tokens) const;

  // Whether positions can be cut back from `tokens` to `position`: a ring must still hold the
  // window.
  bool CanRewind(uint32_t tokens, uint32_t position) const;
  void Rewind(uint32_t tokens, uint32_t position);

  // Copies what [0, tokens) left in a store of the same specs.
  void CopyFrom(const KvStore& other, uint32_t tokens);

  // The state a session at `tokens` still needs, as a sequence of byte spans: all positions of a
  // layer without a window, sinks and the last `left` positions of one with. The order depends only
  // on heads, widths, codecs and windows, never on capacities: what a session file holds. `visit`
  // returns false to stop.
  bool ForEachSpan(uint32_t tokens, bool (*visit)(void* context, std::span<std::byte> bytes),
                   void* context) const;
  uint64_t SpanBytes(uint32_t tokens) const;
  // After the spans of `tokens` positions were overwritten from a file: makes them visible.
  void AdoptSpans(uint32_t tokens);

  // Rebuilds the store in the same memory with smaller capacities and codecs of fewer bytes; every
  // position in [0, tokens) survives. CanShrink holds for every layer; `scratch` holds
  // ShrinkScratchBytes of the present ones, 64-byte aligned. Allocates nothing.
  void ShrinkTo(std::span<const LayerSpec> layers, uint32_t tokens, const RowRecoder& recoder,
                std::span<std::byte> scratch);

 private:
  struct Layout {
    uint64_t positions = 0, lanes = 0;  // offsets into memory_
    uint64_t lane_bytes = 0;
    uint64_t values = 0, key_meta = 0, value_meta = 0;  // offsets within a lane
  };
  static Layout LayoutOf(const LayerSpec& spec, uint64_t begin);
  static uint32_t RowOf(const LayerSpec& spec, uint32_t position);
  std::byte* Lane(size_t layer, uint32_t kv_head) const;
  int32_t* Positions(size_t layer) const;
  void Build(std::vector<LayerSpec> layers);
  void ClearPositions();
  struct LaneMove;
  static void MoveRows(const LaneMove& move);
  static void RecodeRows(const LaneMove& move);

  std::vector<LayerSpec> layers_;
  std::vector<Layout> layouts_;
  // Windowed layers: positions before this one (sinks excepted) were never written here, because
  // the state came from a file that holds windows only.
  std::vector<uint32_t> kept_from_;
  std::span<std::byte> memory_;
};

}  // namespace headroom::store
