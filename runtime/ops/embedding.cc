#include "ops/embedding.h"

#include "base/half.h"

namespace headroom::ops {
namespace {

// The row's first element of a table whose elements are `T`.
template <typename T>
const T* RowOf(const TensorView& table, uint32_t id) {
  return reinterpret_cast<const T*>(table.data) + uint64_t{id} * table.columns();
}

// Of block `b` of row `id`; the whole row is one block when the table has none.
float ScaleOf(const TensorView& table, uint32_t id, uint32_t b) {
  if (table.block == 0) return reinterpret_cast<const float*>(table.scales)[id];
  const uint64_t blocks = table.columns() / table.block;
  const uint16_t bits = reinterpret_cast<const uint16_t*>(table.scales)[id * blocks + b];
  return table.dtype == DType::kI8 ? HalfToFloat(bits) : BfloatToFloat(bits);
}

// code(c): the integer in column c.
template <typename Code>
void QuantisedRow(const TensorView& table, uint32_t id, float factor, float* out, Code code) {
  const uint32_t columns = table.columns();
  const uint32_t block = table.block == 0 ? columns : table.block;
  for (uint32_t c = 0; c < columns;) {
    const float scale = ScaleOf(table, id, c / block) * factor;
    for (const uint32_t end = c + block; c < end; ++c) out[c] = static_cast<float>(code(c)) * scale;
  }
}

void RowI8(const TensorView& table, uint32_t id, float factor, float* out) {
  const int8_t* codes = RowOf<int8_t>(table, id);
  QuantisedRow(table, id, factor, out, [codes](uint32_t c) { return codes[c]; });
}

void RowI4(const TensorView& table, uint32_t id, float factor, float* out) {
  const auto* nibbles =
      reinterpret_cast<const uint8_t*>(table.data) + id * (uint64_t{table.columns()} / 2);
  QuantisedRow(table, id, factor, out, [nibbles](uint32_t c) {
    return (nibbles[c / 2] >> (c % 2 * 4) & 15) - 8;  // low nibble = even column
  });
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
