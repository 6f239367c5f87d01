// How far stored elements are from the floats they were made of.
#pragma once

#include <cstddef>
#include <span>

#include "convert/hrm_writer.h"

namespace headroom::convert {

class StoredError {
 public:
  explicit StoredError(const TensorDescription& tensor) : tensor_(tensor) {}

  // Whole rows: the floats, and the elements and scales that the file has for them (layouts:
  // tensor/dtype.h).
  void Add(std::span<const float> values, std::span<const std::byte> data,
           std::span<const std::byte> scales);

  // sqrt(sum of squared differences / sum of squares); 0 when all is zero.
  float Relative() const;

 private:
  const TensorDescription& tensor_;
  double differences_ = 0.0, squares_ = 0.0;
};

}  // namespace headroom::convert
