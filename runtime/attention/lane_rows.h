// What the portable kernels of this folder share: one row of a lane, and its logit.
#pragma once

#include <cmath>
#include <limits>

#include "attention/softmax_mix.h"

namespace headroom::attention {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

inline int32_t PositionOf(const LaneView& lane, uint32_t row) {
  return lane.positions == nullptr ? lane.first_position + static_cast<int32_t>(row)
                                   : lane.positions[row];
}

inline bool Sees(const MixSpec& spec, int32_t query_position, int32_t row_position) {
  if (row_position < 0 || row_position > query_position) return false;
  const uint32_t distance = static_cast<uint32_t>(query_position - row_position);
  return distance <= spec.left || static_cast<uint32_t>(row_position) < spec.sinks;
}

inline void DecodeLaneRow(const RowArray& array, uint32_t row, float* out) {
  const uint64_t meta = RowMetaBytes(array.codec, array.width) / sizeof(uint16_t);
  DecodeRow(array.codec, array.data + uint64_t{row} * RowDataBytes(array.codec, array.width),
            array.meta == nullptr ? nullptr : array.meta + row * meta, array.width, out);
}

// Both parts of a row's key, [Dk].
inline void DecodeKey(const LaneView& lane, uint32_t row, float* key) {
  DecodeLaneRow(lane.keys, row, key);
  if (lane.key_tail.width > 0) DecodeLaneRow(lane.key_tail, row, key + lane.keys.width);
}

// cap(scale * q . k) + bias of the row.
inline float Logit(const LaneView& lane, const MixSpec& spec, const float* q, const float* key,
                   uint32_t row) {
  float dot = 0.0f;
  for (uint32_t d = 0; d < lane.key_width(); ++d) dot += q[d] * key[d];
  float logit = spec.scale * dot;
  if (spec.softcap > 0.0f) logit = spec.softcap * std::tanh(logit / spec.softcap);
  return lane.bias == nullptr ? logit : logit + lane.bias[row];
}

}  // namespace headroom::attention
