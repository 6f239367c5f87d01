// Norms, rotary embedding, activations and embedding rows in double precision, from their
// definitions.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace headroom::oracle {

// RMSNorm (arXiv 1910.07467 eq. 4): x / sqrt(mean(x^2) + eps) * weight
inline std::vector<double> RmsNorm(const std::vector<double>& x, const std::vector<double>& weight,
                                   double epsilon) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double root = std::sqrt(squares / x.size() + epsilon);
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] / root * weight[i]);
  return out;
}

// LayerNorm (arXiv 1607.06450 eq. 4): (x - mean) / sqrt(variance + eps) * weight + bias
inline std::vector<double> LayerNorm(const std::vector<double>& x,
                                     const std::vector<double>& weight,
                                     const std::vector<double>& bias, double epsilon) {
  double mean = 0, variance = 0;
  for (const double value : x) mean += value / x.size();
  for (const double value : x) variance += (value - mean) * (value - mean) / x.size();
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) {
    out.push_back((x[i] - mean) / std::sqrt(variance + epsilon) * weight[i] + bias[i]);
  }
  return out;
}

// Rotary embedding (arXiv 2104.09864 eq. 34): pair i turns by angle[i].
inline std::vector<double> Rotate(const std::vector<double>& x, const std::vector<double>& cosines,
                                  const std::vector<double>& sines, bool interleaved) {
  std::vector<double> out = x;
  const size_t pairs = cosines.size();
  for (size_t i = 0; i < pairs; ++i) {
    const size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + pairs;
    out[first] = x[first] * cosines[i] - x[second] * sines[i];
    out[second] = x[first] * sines[i] + x[second] * cosines[i];
  }
  return out;
}

inline double Silu(double x) { return x / (1 + std::exp(-x)); }
inline double GeluErf(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }
inline double GeluTanh(double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  return x / (1 + std::exp(-2 * u));  // 0.5 x (1 + tanh u)
}
inline double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double QuickGelu(double x) { return x / (1 + std::exp(-1.702 * x)); }
inline double Relu(double x) { return x > 0 ? x : 0; }
inline double ReluSquared(double x) { return x > 0 ? x * x : 0; }
inline double EluPlus1(double x) { return x > 0 ? x + 1 : std::exp(x); }
inline double Softplus(double x) {  // log(1 + e^x)
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}

// One channel of a causal depthwise convolution: the newest input last.
inline double Convolve(const std::vector<double>& inputs, const std::vector<double>& weights,
                       double bias) {
  for (size_t j = 0; j < inputs.size(); ++j) bias += inputs[j] * weights[j];
  return bias;
}

}  // namespace headroom::oracle
