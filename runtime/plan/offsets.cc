#include "plan/offsets.h"

#include <algorithm>
#include <numeric>

#include "base/math.h"

namespace headroom::plan {
namespace {

uint64_t BytesOf(const Buffer& buffer, uint32_t chunk) {
  return RoundUp(uint64_t{buffer.width} * (buffer.tail ? 1 : chunk) * sizeof(float), 64);
}

bool LiveTogether(const Buffer& a, const Buffer& b) {
  return a.first_step <= b.last_step && b.first_step <= a.last_step;
}

}  // namespace

Placement PlaceBuffers(const std::vector<Buffer>& buffers, uint32_t chunk) {
  std::vector<int32_t> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return BytesOf(buffers[a], chunk) > BytesOf(buffers[b], chunk);
  });
  Placement placement;
  placement.offsets.assign(buffers.size(), 0);
  std::vector<int32_t> placed;  // by offset
  for (int32_t id : order) {
    if (buffers[id].alias_of != kNone || buffers[id].first_step == kNone) continue;
    const uint64_t bytes = BytesOf(buffers[id], chunk);
    uint64_t offset = 0;
    for (int32_t other : placed) {
      if (!LiveTogether(buffers[id], buffers[other])) continue;
      if (offset + bytes <= placement.offsets[other]) break;
      offset = std::max(offset, placement.offsets[other] + BytesOf(buffers[other], chunk));
    }
    placement.offsets[id] = offset;
    placement.total_bytes = std::max(placement.total_bytes, offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), id,
                                   [&](int32_t a, int32_t b) {
                                     return placement.offsets[a] < placement.offsets[b];
                                   }),
                  id);
  }
  for (size_t id = 0; id < buffers.size(); ++id) {
    if (buffers[id].alias_of != kNone) {
      placement.offsets[id] = placement.offsets[buffers[id].alias_of];
    }
  }
  return placement;
}

}  // namespace headroom::plan
