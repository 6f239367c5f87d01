// How far stored elements are from the floats they were made of.
#pragma once

#include <cstddef>
#include <span>

#include "convert/hrm_writer.h"

namespace headroom::convert {

struct StoredError {
  double differences = 0.0, squares = 0.0;  // sums of squares

  // Whole rows: the floats, and the elements and scales that the file has for them (layouts:
  // tensor/dtype.h).
  static StoredError Of(const TensorDescription& tensor, std::span<const float> values,
                        std::span<const std::byte> data, std::span<const std::byte> scales);

  void Add(const StoredError& other);

  // sqrt(differences / squares); 0 when all is zero.
  float Relative() const;
};

}  // namespace headroom::convert
