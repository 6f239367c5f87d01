// TensorView: a name, a type, extents and bytes that somebody else owns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tensor/dtype.h"

namespace headroom {

// A weight as it lies in the mapped model file. Extents are [N, K] for matrices, [N] for vectors.
// Borrowed: valid while the model is open.
struct TensorView {
  std::string_view name;
  DType dtype = DType::kF32;
  uint8_t rank = 0;
  uint16_t block = 0;  // kI8, kI4 only: 0 = one scale per row
  std::array<uint32_t, 4> extents = {};
  const std::byte* data = nullptr;
  uint64_t data_bytes = 0;
  const std::byte* scales =
      nullptr;  // f32 [N]; [N, K / block] f16 (kI8) or bf16 (kI4); null for float types
  uint64_t scale_bytes = 0;

  uint32_t rows() const { return extents[0]; }
  uint32_t columns() const { return rank > 1 ? extents[1] : 1; }
  const float* f32() const { return reinterpret_cast<const float*>(data); }
};

}  // namespace headroom
