#include "convert/stored_error.h"

#include <cmath>
#include <cstring>

#include "base/half.h"

namespace headroom::convert {
namespace {

template <typename T>
T At(std::span<const std::byte> bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// The scale of elements [index * group, ...), where a group is a block or a row.
float ScaleAt(const TensorDescription& tensor, std::span<const std::byte> scales, size_t index) {
  if (tensor.block == 0) return At<float>(scales, index);
  const uint16_t bits = At<uint16_t>(scales, index);
  return tensor.dtype == DType::kI8 ? HalfToFloat(bits) : BfloatToFloat(bits);
}

float CodeAt(DType dtype, std::span<const std::byte> data, size_t i) {
  if (dtype == DType::kI8) return static_cast<float>(At<int8_t>(data, i));
  const int byte = At<uint8_t>(data, i / 2);
  return static_cast<float>((i % 2 ? byte >> 4 : byte & 15) - 8);
}

}  // namespace

StoredError StoredError::Of(const TensorDescription& tensor, std::span<const float> values,
                            std::span<const std::byte> data, std::span<const std::byte> scales) {
  StoredError total;
  if (tensor.dtype == DType::kF32) return total;  // the floats themselves
  const size_t columns = tensor.extents.size() > 1 ? tensor.extents[1] : 1;
  const size_t group = scales.empty() ? values.size() : tensor.block ? tensor.block : columns;
  for (size_t begin = 0; begin < values.size(); begin += group) {
    const float scale = scales.empty() ? 1.0f : ScaleAt(tensor, scales, begin / group);
    double differences = 0.0, squares = 0.0;
    for (size_t i = begin; i < begin + group; ++i) {
      const float stored = tensor.dtype == DType::kF16 ? HalfToFloat(At<uint16_t>(data, i))
                                                       : CodeAt(tensor.dtype, data, i) * scale;
      const double difference = static_cast<double>(stored) - static_cast<double>(values[i]);
      differences += difference * difference;
      squares += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
    total.Add({differences, squares});
  }
  return total;
}

void StoredError::Add(const StoredError& other) {
  differences += other.differences;
  squares += other.squares;
}

float StoredError::Relative() const {
  return squares > 0.0 ? static_cast<float>(std::sqrt(differences / squares)) : 0.0f;
}

}  // namespace headroom::convert
