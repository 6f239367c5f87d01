#include "store/lane.h"

#include <algorithm>

#include "base/math.h"

namespace headroom::store {
namespace {

constexpr uint64_t kAlign = 64;

uint64_t Aligned(uint64_t rows, uint64_t row_bytes) { return RoundUp(rows * row_bytes, kAlign); }

uint64_t DataBytes(const LaneArray& array) { return RowDataBytes(array.codec, array.width); }
uint64_t MetaBytes(const LaneArray& array) { return RowMetaBytes(array.codec, array.width); }

// Of the codec that takes most.
uint64_t MostMetaBytes(uint32_t width) {
  uint64_t bytes = 0;
  for (int codec = 0; codec < kRowCodecs; ++codec) {
    bytes = std::max<uint64_t>(bytes, RowMetaBytes(static_cast<RowCodec>(codec), width));
  }
  return bytes;
}

}  // namespace

uint32_t LayerSpec::lanes() const {
  uint32_t count = 0;
  for (const LaneGroup& group : groups) count += group.lanes;
  return count;
}

const LaneSpec& LayerSpec::lane(uint32_t kv_head) const {
  size_t i = 0;
  while (kv_head >= groups[i].lanes) kv_head -= groups[i++].lanes;
  return groups[i].spec;
}

LaneSpec PlanLane(LaneSpec wanted, uint32_t context, uint32_t chunk) {
  wanted.exact_rows = std::min(wanted.exact_rows, context);
  wanted.capacity = context - wanted.exact_rows;
  wanted.ring = false;
  if (wanted.left == kUnlimited) return wanted;
  const uint64_t sinks = std::max(wanted.sinks, wanted.exact_rows) - wanted.exact_rows;
  const uint64_t rows = sinks + RoundUp(uint64_t{wanted.left} + chunk, 16);
  if (rows >= wanted.capacity) return wanted;
  wanted.capacity = static_cast<uint32_t>(rows);
  wanted.ring = true;
  return wanted;
}

LaneLayout::LaneLayout(const LaneSpec& spec) {
  auto place = [this](uint64_t* offset, uint64_t rows, uint64_t row_bytes) {
    *offset = bytes;
    bytes += Aligned(rows, row_bytes);
  };
  place(&key, spec.capacity, DataBytes(spec.key));
  place(&tail, spec.capacity, DataBytes(spec.tail));
  place(&value, spec.capacity, DataBytes(spec.value));
  place(&key_meta, spec.capacity, MetaBytes(spec.key));
  place(&tail_meta, spec.capacity, MetaBytes(spec.tail));
  place(&value_meta, spec.capacity, MetaBytes(spec.value));
  place(&exact_key, spec.exact_rows, RowDataBytes(RowCodec::kF16, spec.key.width));
  place(&exact_tail, spec.exact_rows, RowDataBytes(RowCodec::kF16, spec.tail.width));
  place(&exact_value, spec.exact_rows, RowDataBytes(RowCodec::kF16, spec.value.width));
}

uint64_t GroupBytes(const LaneGroup& group) {
  const uint64_t positions =
      group.spec.ring ? Aligned(group.spec.capacity, sizeof(int32_t)) : uint64_t{0};
  return positions + group.lanes * LaneLayout(group.spec).bytes;
}

uint64_t LayerBytes(const LayerSpec& spec) {
  uint64_t bytes = 0;
  for (const LaneGroup& group : spec.groups) bytes = SaturatingAdd(bytes, GroupBytes(group));
  return bytes;
}

uint64_t LayerBytesPerToken(const LayerSpec& spec) {
  uint64_t bytes = 0;
  for (const LaneGroup& group : spec.groups) {
    if (group.spec.ring) continue;
    for (const LaneArray& array : {group.spec.key, group.spec.tail, group.spec.value}) {
      bytes += group.lanes * (DataBytes(array) + MetaBytes(array));
    }
  }
  return bytes;
}

uint32_t LongestLane(const LayerSpec& spec) {
  uint32_t rows = 0;
  for (const LaneGroup& group : spec.groups) {
    rows = std::max(rows, group.spec.exact_rows + group.spec.capacity);
  }
  return rows;
}

bool CanShrink(const LaneSpec& from, const LaneSpec& to) {
  const bool same_rows = from.exact_rows == to.exact_rows || from.exact_rows == 0;
  return same_rows && LaneLayout(to).bytes <= LaneLayout(from).bytes && from.ring == to.ring &&
         (!from.ring || (from.capacity == to.capacity && from.exact_rows == to.exact_rows));
}

uint64_t ShrinkScratchBytes(std::span<const LayerSpec> layers) {
  uint64_t bytes = 0;
  for (const LayerSpec& layer : layers) {
    for (const LaneGroup& group : layer.groups) {
      uint64_t lane = 0;
      for (const LaneArray& array : {group.spec.key, group.spec.tail, group.spec.value}) {
        const uint64_t rows = group.spec.capacity + group.spec.exact_rows;
        lane += Aligned(rows, MostMetaBytes(array.width)) +
                Aligned(kMaxExactRows, RowDataBytes(RowCodec::kF16, array.width)) +
                Aligned(1, array.width * sizeof(float));
      }
      bytes = std::max(bytes, lane);
    }
  }
  return bytes;
}

}  // namespace headroom::store
