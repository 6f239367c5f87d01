// LaneView: the cached rows of one KV head, as store/ shows them to the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace headroom {

// Rows of one KV head of one layer. Row r's key elements start at keys + r * RowDataBytes(codec,
// Dk); for kI8Token key_meta[2r] is its f16 scale and key_meta[2r + 1] its f16 minimum. Values
// alike. positions == nullptr means row r holds position r (dense). Otherwise positions[r] is the
// position kept in row r, or -1 for an empty row. Bases are 64-byte aligned; rows are not padded.
struct LaneView {
  RowCodec codec = RowCodec::kF16;
  uint32_t key_width = 0;    // Dk
  uint32_t value_width = 0;  // Dv
  uint32_t rows = 0;         // rows to consider, [0, rows)
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  const uint16_t* key_meta = nullptr;
  const uint16_t* value_meta = nullptr;
  const int32_t* positions = nullptr;
};

}  // namespace headroom
