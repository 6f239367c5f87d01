// Dense layer in double precision:  out[t, n] = sum_k x[t, k] w[n, k] + b[n].
//
// Independent of runtime/: plain loops over weights in their stored form, decoded from the format's
// definition, and the definition of the activations' dynamic int8 quantisation.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace headroom::oracle {

enum class WeightFormat { kF32, kF16, kInt8, kInt4 };

// A matrix [N, K] as a model file stores it.
//   kInt8: int8.  kInt4: low nibble = even k, value + 8.  Block 0: f32 scale per row, else one
//   scale per block, [N, K / block]: f16 for kInt8, bf16 for kInt4.
struct StoredMatrix {
  WeightFormat format = WeightFormat::kF32;
  uint32_t rows = 0, columns = 0, block = 0;
  const void* data = nullptr;
  const void* scales = nullptr;
};

template <typename T>
T LoadAt(const void* base, uint64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(base) + index * sizeof(T), sizeof(T));
  return value;
}

// IEEE binary16 from its fields.
inline double DecodeF16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return exponent == 0 ? sign * std::ldexp(fraction, -24)
                       : sign * std::ldexp(1024 + fraction, exponent - 25);
}

// bfloat16: the upper half of a binary32.
inline double DecodeBF16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

inline int StoredCode(const StoredMatrix& m, uint64_t n, uint64_t k) {
  if (m.format == WeightFormat::kInt8) return LoadAt<int8_t>(m.data, n * m.columns + k);
  const uint8_t pair = LoadAt<uint8_t>(m.data, n * (m.columns / 2) + k / 2);
  return (k % 2 == 0 ? pair & 15 : pair >> 4) - 8;
}

inline double StoredScale(const StoredMatrix& m, uint64_t n, uint64_t k) {
  if (m.block == 0) return LoadAt<float>(m.scales, n);
  const auto bits = LoadAt<uint16_t>(m.scales, n * (m.columns / m.block) + k / m.block);
  return m.format == WeightFormat::kInt8 ? DecodeF16(bits) : DecodeBF16(bits);
}

inline double StoredWeight(const StoredMatrix& m, uint64_t n, uint64_t k) {
  switch (m.format) {
    case WeightFormat::kF32:
      return LoadAt<float>(m.data, n * m.columns + k);
    case WeightFormat::kF16:
      return DecodeF16(LoadAt<uint16_t>(m.data, n * m.columns + k));
    case WeightFormat::kInt8:
    case WeightFormat::kInt4:
      return StoredCode(m, n, k) * StoredScale(m, n, k);
  }
  return NAN;
}

// One row of activations in asymmetric int8: value = (code - zero) * scale.
struct QuantizedRow {
  std::vector<int8_t> codes;
  int zero = 0;
  double scale = 1;
};

// The definition: the 255 steps between -128 and 127 span [min(0, min x), max(0, max x)], so that 0
// is a code exactly; the zero point is taken from the end that loses less, rounded to nearest.
inline QuantizedRow QuantizeRow(const float* x, uint32_t columns) {
  double low = 0, high = 0;
  for (uint32_t k = 0; k < columns; ++k) {
    low = std::min(low, static_cast<double>(x[k]));
    high = std::max(high, static_cast<double>(x[k]));
  }
  QuantizedRow row;
  row.scale = low == high ? 1.0 : (high - low) / 255.0;
  const double from_low = -128 - low / row.scale, from_high = 127 - high / row.scale;
  const double low_error = -128 + low / row.scale, high_error = 127 + high / row.scale;
  const double zero = low_error + high_error > 0 ? from_low : from_high;
  row.zero = static_cast<int>(std::nearbyint(std::clamp(zero, -128.0, 127.0)));
  for (uint32_t k = 0; k < columns; ++k) {
    const double code = std::nearbyint(x[k] / row.scale) + row.zero;
    row.codes.push_back(static_cast<int8_t>(std::clamp(code, -128.0, 127.0)));
  }
  return row;
}

// Row n of the matrix, decoded.
inline std::vector<double> StoredRow(const StoredMatrix& m, uint64_t n) {
  std::vector<double> row(m.columns);
  for (uint32_t k = 0; k < m.columns; ++k) row[k] = StoredWeight(m, n, k);
  return row;
}

// One output and the size of the terms it is a sum of, by which rounding errors are measured.
struct Projected {
  double value = 0;
  double magnitude = 0;  // sum of |terms|; for quantised input, of |code w| and |zero w| apart
};

inline Projected Project(const std::vector<double>& weights, const float* x, double bias) {
  Projected out{bias, std::fabs(bias)};
  for (size_t k = 0; k < weights.size(); ++k) {
    const double term = x[k] * weights[k];
    out.value += term;
    out.magnitude += std::fabs(term);
  }
  return out;
}

inline Projected Project(const std::vector<double>& weights, const QuantizedRow& x, double bias) {
  Projected out{bias, std::fabs(bias)};
  for (size_t k = 0; k < weights.size(); ++k) {
    const double weight = weights[k] * x.scale;
    out.value += (x.codes[k] - x.zero) * weight;
    out.magnitude += (std::abs(int{x.codes[k]}) + std::abs(x.zero)) * std::fabs(weight);
  }
  return out;
}

}  // namespace headroom::oracle
