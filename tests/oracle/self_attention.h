// Attention of every position with every other one (arXiv 1706.03762 eq. 1, multi-head as section
// 3.2.2), in double precision: out = softmax(scale q k^T) v, head by head.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace headroom::oracle {

struct HeadShape {
  size_t heads = 1, query_width = 1, value_width = 1;
  double scale = 1;
  bool relu = false;  // out = the larger of that and 0
  size_t row_width() const { return heads * (2 * query_width + value_width); }
};

struct Attended {
  std::vector<double> out;       // [T, heads * value_width]
  std::vector<double> weights;   // [heads, T, T]
  std::vector<double> scores;    // [heads, T, T]
  std::vector<double> strength;  // [heads, T, T]: scale * sum |q_d k_d|
};

// qkv [T, row_width]: queries of all heads, keys of all heads, values of all heads.
inline Attended SelfAttention(const std::vector<double>& qkv, const HeadShape& s) {
  const size_t row = s.row_width(), positions = qkv.size() / row, width = s.heads * s.value_width;
  Attended a;
  a.out.assign(positions * width, 0.0);
  a.weights.assign(s.heads * positions * positions, 0.0);
  a.scores = a.strength = a.weights;
  for (size_t h = 0; h < s.heads; ++h) {
    for (size_t t = 0; t < positions; ++t) {
      const double* q = &qkv[t * row + h * s.query_width];
      double* weights = &a.weights[(h * positions + t) * positions];
      double largest = -INFINITY, sum = 0;
      for (size_t j = 0; j < positions; ++j) {
        const double* k = &qkv[j * row + (s.heads + h) * s.query_width];
        double score = 0, strength = 0;
        for (size_t d = 0; d < s.query_width; ++d) {
          score += s.scale * q[d] * k[d];
          strength += std::fabs(s.scale * q[d] * k[d]);
        }
        a.scores[(h * positions + t) * positions + j] = score;
        a.strength[(h * positions + t) * positions + j] = strength;
        largest = std::fmax(largest, score);
      }
      for (size_t j = 0; j < positions; ++j) {
        sum += weights[j] = std::exp(a.scores[(h * positions + t) * positions + j] - largest);
      }
      for (size_t j = 0; j < positions; ++j) {
        weights[j] /= sum;
        const double* v = &qkv[j * row + 2 * s.heads * s.query_width + h * s.value_width];
        for (size_t c = 0; c < s.value_width; ++c) {
          a.out[t * width + h * s.value_width + c] += weights[j] * v[c];
        }
      }
    }
  }
  for (double& value : a.out) value = s.relu ? std::fmax(value, 0.0) : value;
  return a;
}

}  // namespace headroom::oracle
