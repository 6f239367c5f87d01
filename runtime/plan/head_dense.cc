#include "plan/head_dense.h"

#include <algorithm>

namespace headroom::plan {

HeadScratch LayOutHeadDense(uint32_t columns, uint32_t matrix_rows, uint32_t tokens, uint8_t kind,
                            uint64_t (*input_bytes)(uint8_t kind, uint32_t rows,
                                                    uint32_t columns)) {
  HeadScratch scratch;
  scratch.rows = std::min(tokens, kHeadRows);
  const uint64_t copied = scratch.rows > 1 ? scratch.rows : 0;
  const RegionPlacer place(&scratch.bytes);
  place(&scratch.gathered, copied * columns * sizeof(float) + kSpareInputBytes);
  place(&scratch.converted, input_bytes(kind, scratch.rows, columns));
  place(&scratch.output, copied * matrix_rows * sizeof(float));
  return scratch;
}

}  // namespace headroom::plan
