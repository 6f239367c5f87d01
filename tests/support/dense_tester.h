// Tester of dense layers: makes a matrix and activations for a DenseCase, runs a kernel between
// guards and compares with the double-precision oracle. Real backends and mutants go through the
// same DenseKernel.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "backends/xnnpack/dense.h"
#include "backends/xnnpack/dense_layer.h"
#include "base/half.h"
#include "oracle/projection.h"
#include "support/guarded_memory.h"
#include "support/stored_matrix.h"

namespace headroom::test {

using xnnpack::DenseWeights;

struct DenseCase {
  DType dtype = DType::kF32;
  uint32_t block = 0;
  uint32_t tensor_rows = 1;  // of the stored matrix
  uint32_t columns = 1;      // K
  uint32_t row_begin = 0;
  uint32_t rows = 1;    // N
  uint32_t tokens = 1;  // T
  bool bias = false;
  uint32_t seed = 1;
};

inline std::string Describe(const DenseCase& c) {
  return std::string(DTypeName(c.dtype)) + " block " + std::to_string(c.block) + " N " +
         std::to_string(c.rows) + " of " + std::to_string(c.tensor_rows) + " from " +
         std::to_string(c.row_begin) + " K " + std::to_string(c.columns) + " T " +
         std::to_string(c.tokens) + (c.bias ? " bias" : "") + " seed " + std::to_string(c.seed);
}

// The stored matrix and its bias, each ending at a forbidden page.
class DenseData {
 public:
  explicit DenseData(const DenseCase& c) : case_(c), random_(c.seed) {
    const uint64_t values = uint64_t{c.tensor_rows} * c.columns;
    weights_ = GuardedMemory(values * DTypeBits(c.dtype) / 8, 1);
    FillWeights(values);
    const uint64_t scales = c.block == 0 ? c.tensor_rows : values / c.block;
    if (c.dtype == DType::kI8 || c.dtype == DType::kI4) FillScales(scales);
    bias_ = GuardedMemory(c.rows * sizeof(float), sizeof(float));
    for (uint32_t n = 0; n < c.rows; ++n) bias_.as<float>()[n] = Normal() * 3.0f;
    name_ = "tensor " + Describe(c);
  }

  DenseWeights Layer() const {
    DenseWeights layer;
    TensorView& tensor = layer.weight;
    tensor.name = name_;
    tensor.dtype = case_.dtype;
    tensor.rank = 2;
    tensor.block = static_cast<uint16_t>(case_.block);
    tensor.extents = {case_.tensor_rows, case_.columns, 0, 0};
    tensor.data = weights_.data();
    tensor.data_bytes = weights_.bytes();
    tensor.scales = scales_.data();
    tensor.scale_bytes = scales_.bytes();
    layer.row_begin = case_.row_begin;
    layer.rows = case_.rows;
    layer.bias = case_.bias ? bias_.as<float>() : nullptr;
    return layer;
  }

  GuardedMemory& weights() { return weights_; }
  GuardedMemory& scales() { return scales_; }
  GuardedMemory& bias() { return bias_; }

 private:
  float Normal() { return normal_(random_); }

  void FillWeights(uint64_t values) {
    const float spread = 1.0f / std::sqrt(static_cast<float>(case_.columns));
    for (uint64_t i = 0; i < values; ++i) {
      switch (case_.dtype) {
        case DType::kF32:
          weights_.as<float>()[i] = Normal() * spread;
          break;
        case DType::kF16:
          weights_.as<uint16_t>()[i] = FloatToHalf(Normal() * spread);
          break;
        default:
          break;
      }
    }
    if (case_.dtype == DType::kI8 || case_.dtype == DType::kI4) {
      // All codes, the lowest included.
      for (size_t i = 0; i < weights_.bytes(); i += 4) {
        const uint32_t bits = static_cast<uint32_t>(random_());
        std::memcpy(weights_.data() + i, &bits, std::min<size_t>(4, weights_.bytes() - i));
      }
    }
  }

  void FillScales(uint64_t count) {
    const bool wide = case_.block == 0;
    scales_ = GuardedMemory(count * (wide ? 4 : 2), wide ? 4 : 2);
    std::uniform_real_distribution<float> exponent(-9.0f, -5.0f);
    for (uint64_t i = 0; i < count; ++i) {
      float scale = std::exp2(exponent(random_));
      if (!wide && random_() % 2 == 0) scale = -scale;
      if (wide) scales_.as<float>()[i] = scale;
      if (wide) continue;
      scales_.as<uint16_t>()[i] =
          case_.dtype == DType::kI8 ? FloatToHalf(scale) : FloatToBfloat(scale);
    }
  }

  DenseCase case_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  GuardedMemory weights_, scales_, bias_;
  std::string name_;
};

// int8 in blocks takes f32 activations.
inline bool TakesQuantizedInput(DType dtype, uint32_t block) {
  return dtype == DType::kI4 || (dtype == DType::kI8 && block == 0);
}

// x f32 [T, K] -> out f32 [T, N]. For integer weights also tells what it made of x, one row per
// token.
using DenseKernel = std::function<void(const DenseWeights& layer, const float* x, uint32_t tokens,
                                       float* out, std::vector<oracle::QuantizedRow>* quantized)>;

// The product's own: one layer packed into private memory.
inline DenseKernel XnnpackKernel(xnnpack::ThreadPool& pool) {
  return [&pool](const DenseWeights& layer, const float* x, uint32_t tokens, float* out,
                 std::vector<oracle::QuantizedRow>* quantized) {
    const uint32_t columns = layer.weight.columns();
    auto set = xnnpack::DenseSet::Create({&layer, 1}, {});
    if (!set.ok()) throw std::runtime_error(set.status().message());
    const auto kind = set.value()->input_kind(0);
    if (kind == xnnpack::InputKind::kF32) {
      const Status status =
          set.value()->Run(0, reinterpret_cast<const std::byte*>(x), tokens, out, pool);
      if (!status.ok()) throw std::runtime_error(status.message());
      return;
    }
    GuardedMemory input(xnnpack::DenseSet::InputBytes(kind, tokens, columns), 64);
    // What a kernel reads beyond the input must not reach the output.
    std::memset(input.data(), 0xff, input.bytes());
    set.value()->ConvertInput(kind, x, tokens, columns, input.data(), pool);
    const Status status = set.value()->Run(0, input.data(), tokens, out, pool);
    if (!status.ok()) throw std::runtime_error(status.message());
    const auto* parameters = reinterpret_cast<const xnn_quantization_params*>(
        input.data() + xnnpack::QuantizationOffset(tokens, columns));
    for (uint32_t t = 0; t < tokens; ++t) {
      const int8_t* codes = input.as<int8_t>() + size_t{t} * columns;
      quantized->push_back(
          {{codes, codes + columns}, parameters[t].zero_point, parameters[t].scale});
    }
  };
}

// Roundings a kernel may make, as a multiple of eps times the sum of |terms|. Integer products are
// exact up to the end of a row or block; float sums in any order err like a random walk.
inline double DenseRoundings(const DenseCase& c) {
  if (!TakesQuantizedInput(c.dtype, c.block))
    return 8 + 2 * std::sqrt(static_cast<double>(c.columns));
  return c.block == 0 ? 8 : 8 + c.columns / c.block;
}

// Activations of every character: plain, large, one-sided, all zero, one spike.
inline void FillActivations(const DenseCase& c, float* x) {
  std::mt19937 random(c.seed + 77);
  std::normal_distribution<float> normal;
  for (uint32_t t = 0; t < c.tokens; ++t) {
    for (uint32_t k = 0; k < c.columns; ++k) {
      float value = normal(random);
      if (t % 7 == 2) value *= 1000.0f;
      if (t % 7 == 3) value = std::fabs(value) + 0.5f;
      if (t % 7 == 4) value = -std::fabs(value) * 1e-3f;
      if (t % 7 == 5) value = 0.0f;
      if (t % 7 == 6 && k == t % c.columns) value = 300.0f;
      x[size_t{t} * c.columns + k] = value;
    }
  }
}

// Is `found` the quantisation of x, up to roundings of the exact half? Empty when it is.
inline std::string CheckQuantized(const float* x, const oracle::QuantizedRow& found) {
  const uint32_t columns = static_cast<uint32_t>(found.codes.size());
  const oracle::QuantizedRow exact = oracle::QuantizeRow(x, columns);
  if (!(std::fabs(found.scale - exact.scale) <= 4e-7 * exact.scale)) {
    return "scale " + std::to_string(found.scale) + ", expected " + std::to_string(exact.scale);
  }
  if (std::abs(found.zero - exact.zero) > 1) return "zero point " + std::to_string(found.zero);
  for (uint32_t k = 0; k < columns; ++k) {
    const double code = std::clamp(x[k] / exact.scale + found.zero, -128.0, 127.0);
    if (std::fabs(found.codes[k] - code) > 0.501) {
      return "code " + std::to_string(found.codes[k]) + " at k " + std::to_string(k) +
             ", expected " + std::to_string(code);
    }
  }
  return "";
}

struct DenseVerdict {
  std::string failure;     // empty: accepted
  double worst_ratio = 0;  // error / allowance
  uint64_t compared = 0;
};

inline DenseVerdict TestDense(const DenseCase& c, const DenseKernel& kernel) {
  constexpr size_t kGuard = 64;  // floats on either side of the output
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const DenseData data(c);
  const DenseWeights layer = data.Layer();
  // x ends where the contract says reading must end.
  GuardedMemory x(xnnpack::DenseSet::InputBytes(xnnpack::InputKind::kF32, c.tokens, c.columns), 64);
  FillActivations(c, x.as<float>());
  const std::vector<std::byte> x_before(x.data(), x.data() + x.bytes());
  std::vector<float> out(kGuard * 2 + size_t{c.tokens} * c.rows, kNaN);
  std::vector<oracle::QuantizedRow> quantized;
  kernel(layer, x.as<float>(), c.tokens, out.data() + kGuard, &quantized);

  DenseVerdict verdict;
  if (std::memcmp(x.data(), x_before.data(), x.bytes()) != 0) verdict.failure = "input changed";
  for (size_t i = 0; i < kGuard; ++i) {
    if (!std::isnan(out[i]) || !std::isnan(out[out.size() - 1 - i]))
      verdict.failure = "guard overwritten";
  }
  if (TakesQuantizedInput(c.dtype, c.block)) {
    if (quantized.size() != c.tokens) verdict.failure = "no quantised input";
    for (uint32_t t = 0; t < c.tokens && verdict.failure.empty(); ++t) {
      verdict.failure = CheckQuantized(x.as<float>() + size_t{t} * c.columns, quantized[t]);
    }
  }
  if (!verdict.failure.empty()) return verdict;

  const oracle::StoredMatrix matrix = StoredMatrixOf(layer.weight);
  const double allowed = DenseRoundings(c) * std::numeric_limits<float>::epsilon();
  for (uint32_t n = 0; n < c.rows; ++n) {
    const std::vector<double> weights = oracle::StoredRow(matrix, uint64_t{c.row_begin} + n);
    const double bias = layer.bias == nullptr ? 0.0 : layer.bias[n];
    for (uint32_t t = 0; t < c.tokens; ++t) {
      const oracle::Projected exact =
          quantized.empty() ? oracle::Project(weights, x.as<float>() + size_t{t} * c.columns, bias)
                            : oracle::Project(weights, quantized[t], bias);
      const double found = out[kGuard + size_t{t} * c.rows + n];
      const double ratio = std::fabs(found - exact.value) /
                           (allowed * exact.magnitude + std::numeric_limits<float>::min());
      ++verdict.compared;
      // Written so that NaN fails.
      if (!(ratio <= verdict.worst_ratio)) verdict.worst_ratio = ratio;
      if (!(ratio <= 1.0) && verdict.failure.empty()) {
        verdict.failure = "T " + std::to_string(t) + " N " + std::to_string(n) + ": found " +
                          std::to_string(found) + ", expected " + std::to_string(exact.value) +
                          ", error / allowance " + std::to_string(ratio);
      }
    }
  }
  if (verdict.compared == 0) verdict.failure = "nothing compared";
  return verdict;
}

}  // namespace headroom::test
