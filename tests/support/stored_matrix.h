// A tensor of the product as the oracle reads it.
#pragma once

#include "oracle/projection.h"
#include "tensor/tensor_view.h"

namespace headroom::test {

inline oracle::StoredMatrix StoredMatrixOf(const TensorView& tensor) {
  oracle::StoredMatrix m;
  m.format = tensor.dtype == DType::kF32   ? oracle::WeightFormat::kF32
             : tensor.dtype == DType::kF16 ? oracle::WeightFormat::kF16
             : tensor.dtype == DType::kI8  ? oracle::WeightFormat::kInt8
                                           : oracle::WeightFormat::kInt4;
  m.rows = tensor.rows();
  m.columns = tensor.columns();
  m.block = tensor.block;
  m.data = tensor.data;
  m.scales = tensor.scales;
  return m;
}

}  // namespace headroom::test
