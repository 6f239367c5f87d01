// LaneView: the cached rows that a set of query heads reads, as store/ shows them to the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace headroom {

// Rows of `width` elements. Row r's elements start at data + r * RowDataBytes(codec, width), its
// scales at meta + r * RowMetaBytes(codec, width) / 2. Bases are 64-byte aligned; rows are not
// padded.
struct RowArray {
  RowCodec codec = RowCodec::kF16;
  uint32_t width = 0;
  const std::byte* data = nullptr;
  const uint16_t* meta = nullptr;
};

// A row's key is its row of `keys` followed by its row of `key_tail`; its value is its row of
// `values`. values.data == nullptr: the value is the first values.width elements of the row of
// `keys` (a latent). positions == nullptr: row r holds position first_position + r. Otherwise
// positions[r] is the position kept in row r, or -1 for an empty row.
struct LaneView {
  RowArray keys;      // [rows, Dk - tail]
  RowArray key_tail;  // [rows, tail]; width 0: keys have no second part
  RowArray values;    // [rows, Dv]
  uint32_t rows = 0;  // rows to consider, [0, rows)
  int32_t first_position = 0;
  const int32_t* positions = nullptr;
  const float* bias = nullptr;  // [rows], added to a row's logit after scale and cap; null: none

  uint32_t key_width() const { return keys.width + key_tail.width; }  // Dk, of queries too
  uint32_t value_width() const { return values.width; }               // Dv
};

}  // namespace headroom
