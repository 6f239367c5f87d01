#include "plan/offsets.h"

#include <algorithm>
#include <numeric>

#include "base/math.h"

namespace headroom::plan {
namespace {

uint64_t BytesOf(const Buffer& buffer, uint32_t chunk) {
  const uint32_t rows = buffer.tail ? 1 : std::min(chunk, buffer.most_rows);
  return RoundUp(uint64_t{buffer.width} * rows * sizeof(float), 64);
}

template <typename Life>
bool LiveTogether(const Life& a, const Life& b) {
  return a.first_step <= b.last_step && b.first_step <= a.last_step;
}

int32_t Root(const std::vector<Buffer>& buffers, int32_t id) {
  while (id != kNone && buffers[id].alias_of != kNone) id = buffers[id].alias_of;
  return id;
}

// How far two buffers reach as seen by each other: all rows, one row, or not at all.
class Extents {
 public:
  Extents(const std::vector<Buffer>& buffers, uint32_t chunk, int32_t kept)
      : buffers_(buffers), chunk_(chunk), kept_(Root(buffers, kept)) {}

  uint64_t Bytes(int32_t id) const { return BytesOf(buffers_[id], chunk_); }
  // Rows of `id` that must not share memory with `other`.
  uint64_t BytesBeside(int32_t id, int32_t other) const {
    if (LiveTogether(buffers_[id], buffers_[other])) return Bytes(id);
    return id == kept_ || other == kept_ ? BytesOf(buffers_[id], 1) : 0;
  }

 private:
  const std::vector<Buffer>& buffers_;
  uint32_t chunk_;
  int32_t kept_;
};

// Of things that are all whole while they live.
class WholeExtents {
 public:
  explicit WholeExtents(const std::vector<Lifetime>& lifetimes) : lifetimes_(lifetimes) {}
  uint64_t Bytes(int32_t id) const { return RoundUp(lifetimes_[id].bytes, 64); }
  uint64_t BytesBeside(int32_t id, int32_t other) const {
    return LiveTogether(lifetimes_[id], lifetimes_[other]) ? Bytes(id) : 0;
  }

 private:
  const std::vector<Lifetime>& lifetimes_;
};

// The lowest offset at which `id` meets none of `placed`, which lie in order of offset.
template <typename Extents>
uint64_t LowestGap(const Extents& extents, const std::vector<uint64_t>& offsets,
                   const std::vector<int32_t>& placed, int32_t id) {
  uint64_t offset = 0;
  // Extents depend on the pair, so moving up past one may meet another that was clear before.
  for (bool moved = true; moved;) {
    moved = false;
    for (int32_t other : placed) {
      const uint64_t end = offsets[other] + extents.BytesBeside(other, id);
      if (end <= offset || offset + extents.BytesBeside(id, other) <= offsets[other]) continue;
      offset = end;
      moved = true;
    }
  }
  return offset;
}

// The largest choose first. `placed_with_others`: has no place of its own.
template <typename Extents, typename PlacedWithOthers>
Placement Place(size_t count, const Extents& extents, const PlacedWithOthers& placed_with_others) {
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return extents.Bytes(a) > extents.Bytes(b); });
  Placement placement;
  placement.offsets.assign(count, 0);
  std::vector<int32_t> placed;  // by offset
  for (int32_t id : order) {
    if (placed_with_others(id)) continue;
    const uint64_t offset = LowestGap(extents, placement.offsets, placed, id);
    placement.offsets[id] = offset;
    placement.total_bytes = std::max(placement.total_bytes, offset + extents.Bytes(id));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), id,
                                   [&](int32_t a, int32_t b) {
                                     return placement.offsets[a] < placement.offsets[b];
                                   }),
                  id);
  }
  return placement;
}

}  // namespace

Placement PlaceBuffers(const std::vector<Buffer>& buffers, uint32_t chunk, int32_t kept) {
  const Extents extents(buffers, chunk, kept);
  Placement placement = Place(buffers.size(), extents, [&](int32_t id) {
    return buffers[id].alias_of != kNone || buffers[id].first_step == kNone;
  });
  for (size_t id = 0; id < buffers.size(); ++id) {
    if (buffers[id].alias_of != kNone) {
      placement.offsets[id] = placement.offsets[buffers[id].alias_of];
    }
  }
  return placement;
}

Placement PlaceLifetimes(const std::vector<Lifetime>& lifetimes) {
  return Place(lifetimes.size(), WholeExtents(lifetimes),
               [&](int32_t id) { return lifetimes[id].first_step == kNone; });
}

}  // namespace headroom::plan
