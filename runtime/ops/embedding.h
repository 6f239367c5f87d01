// Row look-up in an embedding table of any weight type.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace headroom::ops {

// out[C] = table[id, :] * factor, dequantised to f32. `id` < table.rows() (checked by the session).
void EmbeddingRow(const TensorView& table, uint32_t id, float factor, float* out);

}  // namespace headroom::ops
