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
  const uint32_t all = wanted.capacity = context - wanted.exact_rows;
  wanted.ring = false;
  if (wanted.voted()) {
    const uint64_t rows = RoundUp(uint64_t{wanted.vote.rows} + chunk, 16);
    if (rows >= all) {
      wanted.vote = {};
    } else {
      wanted.capacity = static_cast<uint32_t>(rows);
    }
  } else if (wanted.left != kUnlimited) {
    const uint64_t sinks = std::max(wanted.sinks, wanted.exact_rows) - wanted.exact_rows;
    const uint64_t rows = sinks + RoundUp(uint64_t{wanted.left} + chunk, 16);
    wanted.ring = rows < all;
    if (wanted.ring) wanted.capacity = static_cast<uint32_t>(rows);
  }
  if (wanted.mean && !wanted.ring) {  // nothing ever leaves
    wanted.mean = false;
    wanted.left = kUnlimited;
  }
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
  place(&positions, spec.voted() ? spec.capacity : 0, sizeof(int32_t));
  place(&votes, spec.voted() ? spec.capacity : 0, sizeof(float));
  const uint64_t means = spec.mean ? 1 : 0;
  place(&mean_key, means, RowDataBytes(RowCodec::kF32, spec.key.width));
  place(&mean_tail, means, RowDataBytes(RowCodec::kF32, spec.tail.width));
  place(&mean_value, means, RowDataBytes(RowCodec::kF32, spec.value.width));
  place(&mean_bias, means, sizeof(float));
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
    if (group.spec.ring || group.spec.voted()) continue;
    for (const LaneArray& array : {group.spec.key, group.spec.tail, group.spec.value}) {
      bytes += group.lanes * (DataBytes(array) + MetaBytes(array));
    }
  }
  return bytes;
}

uint64_t ReadBytes(std::span<const LayerSpec> layers) {
  uint64_t bytes = 0;
  for (const LayerSpec& layer : layers) {
    const bool own = layer.source < 0;
    bytes = SaturatingAdd(bytes, LayerBytes(own ? layer : layers[size_t(layer.source)]));
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

// A ring keeps its rows, votes may keep fewer of theirs, and what keeps all may become anything.
bool CanShrink(const LaneGroup& from, const LaneGroup& to) {
  const LaneSpec &a = from.spec, &b = to.spec;
  if (from.lanes != to.lanes || (a.exact_rows != b.exact_rows && a.exact_rows != 0)) return false;
  if (a.ring &&
      (!b.ring || a.capacity != b.capacity || a.exact_rows != b.exact_rows || a.mean != b.mean ||
       a.left != b.left || a.sinks != b.sinks || a.relative != b.relative)) {
    return false;
  }
  if (a.voted() && (!b.voted() || a.exact_rows != b.exact_rows)) return false;
  // Of a row the first numbers may stay, and none can come back.
  if (b.key.width > a.key.width || b.tail.width != a.tail.width || b.value.width > a.value.width) {
    return false;
  }
  if (DataBytes(b.key) > DataBytes(a.key) || DataBytes(b.tail) > DataBytes(a.tail) ||
      DataBytes(b.value) > DataBytes(a.value)) {
    return false;
  }
  // Arrays move down or stay.
  const LaneLayout before(a), after(b);
  return b.capacity <= a.capacity && after.tail <= before.tail && after.value <= before.value &&
         after.bytes <= before.bytes && GroupBytes(to) <= GroupBytes(from);
}

uint64_t ThinScratchBytes(std::span<const LayerSpec> layers) {
  uint64_t rows = 0, width = 0;
  for (const LayerSpec& layer : layers) {
    for (const LaneGroup& group : layer.groups) {
      if (group.spec.voted()) rows = std::max<uint64_t>(rows, group.spec.capacity);
      if (!group.spec.mean) continue;
      for (const LaneArray& array : {group.spec.key, group.spec.tail, group.spec.value}) {
        width = std::max<uint64_t>(width, array.width);
      }
    }
  }
  return std::max(Aligned(rows, sizeof(float)) + Aligned(rows, sizeof(uint32_t)),
                  Aligned(width, sizeof(float)));
}

uint64_t ShrinkScratchBytes(std::span<const LayerSpec> layers) {
  uint64_t bytes = 0;
  for (const LayerSpec& layer : layers) {
    for (const LaneGroup& group : layer.groups) {
      const uint64_t rows = group.spec.capacity + group.spec.exact_rows;
      uint64_t lane = Aligned(rows, sizeof(int32_t)) + Aligned(rows, sizeof(float));
      for (const LaneArray& array : {group.spec.key, group.spec.tail, group.spec.value}) {
        lane += Aligned(rows, MostMetaBytes(array.width)) +
                Aligned(kMaxExactRows, RowDataBytes(RowCodec::kF16, array.width)) +
                2 * Aligned(1, array.width * sizeof(float));
      }
      bytes = std::max(bytes, lane);
    }
  }
  return std::max(bytes, ThinScratchBytes(layers));
}

}  // namespace headroom::store
