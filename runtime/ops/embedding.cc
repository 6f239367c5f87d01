#include "ops/embedding.h"

#include "base/half.h"

namespace headroom::ops {
namespace {

// The row's first element of a table whose elements are `T`.
template <typename T>
const T* RowOf(const TensorView& table, uint32_t id) {
  return reinterpret_cast<const T*>(table.data) + uint64_t{id} * table.columns();
}

void RowI8(const TensorView& table, uint32_t id, float factor, float* out) {
  const float scale = reinterpret_cast<const float*>(table.scales)[id] * factor;
  const int8_t* codes = RowOf<int8_t>(table, id);
  for (uint32_t c = 0; c < table.columns(); ++c) out[c] = static_cast<float>(codes[c]) * scale;
}

void RowI4(const TensorView& table, uint32_t id, float factor, float* out) {
  const uint32_t columns = table.columns();
  const uint32_t block = table.block == 0 ? columns : table.block;
  const uint64_t row_bytes = (uint64_t{columns} + 1) / 2;
  const uint64_t blocks = (columns + block - 1) / block;
  const uint8_t* nibbles = reinterpret_cast<const uint8_t*>(table.data) + id * row_bytes;
  for (uint32_t b = 0, c = 0; c < columns; ++b) {
    const float scale =
        factor *
        (table.block == 0
             ? reinterpret_cast<const float*>(table.scales)[id]
             : BfloatToFloat(reinterpret_cast<const uint16_t*>(table.scales)[id * blocks + b]));
    for (uint32_t i = 0; i < block && c < columns; ++i, ++c) {
      const int32_t code = nibbles[c / 2] >> (c % 2 * 4) & 15;  // low nibble = even column
      out[c] = static_cast<float>(code - 8) * scale;
    }
  }
}

}  // namespace

void EmbeddingRow(const TensorView& table, uint32_t id, float factor, float* out) {
  const uint32_t columns = table.columns();
  switch (table.dtype) {
    case DType::kF32:
      for (uint32_t c = 0; c < columns; ++c) out[c] = RowOf<float>(table, id)[c] * factor;
      return;
    case DType::kF16:
      for (uint32_t c = 0; c < columns; ++c) {
        out[c] = HalfToFloat(RowOf<uint16_t>(table, id)[c]) * factor;
      }
      return;
    case DType::kBF16:
      for (uint32_t c = 0; c < columns; ++c) {
        out[c] = BfloatToFloat(RowOf<uint16_t>(table, id)[c]) * factor;
      }
      return;
    case DType::kI8:
      return RowI8(table, id, factor, out);
    case DType::kI4:
      return RowI4(table, id, factor, out);
    case DType::kI32:
      return;  // never a weight type: refused when the model is verified
  }
}

}  // namespace headroom::ops
