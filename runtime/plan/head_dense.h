// The scratch of a matrix for each head: what one thread holds while it runs one head.
#pragma once

#include <cstdint>

#include "plan/region.h"

namespace headroom::plan {

// Rows of a chunk go through a head's matrix at most so many at a time.
inline constexpr uint32_t kHeadRows = 128;

//   gathered   [rows, columns] the head's vectors side by side; converted, the same as the matrix
//              takes them; output [rows, rows of the matrix]
struct HeadScratch {
  uint32_t rows = 0;
  Region gathered, converted, output;
  uint64_t bytes = 0;
};
// For `tokens` rows at once, of which a single one is read and written where it lies.
HeadScratch LayOutHeadDense(uint32_t columns, uint32_t matrix_rows, uint32_t tokens, uint8_t kind,
                            uint64_t (*input_bytes)(uint8_t kind, uint32_t rows, uint32_t columns));

}  // namespace headroom::plan
