// Softmax attention over a list of rows in double precision:
//
//   x_j = cap(scale * q . k_j) + b_j,  cap(x) = c tanh(x / c) when c > 0
//   p_j = exp(x_j - m) / sum_i exp(x_i - m),  o = sum_j p_j v_j   over the rows j with 0 <=
//   position_j <= position of q
//                       and (position - position_j <= left or position_j < sinks)
//   a learned sink z adds exp(z - m) to the denominator only (gpt-oss).
//
// Independent of runtime/: plain loops over decoded rows, two passes, no blocks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "oracle/projection.h"

namespace headroom::oracle {

inline constexpr double kNoSink = -INFINITY;

// A row of key or value elements as attention reads it, and the part of it that an integer kernel
// keeps in codes around the middle of the range (the whole row for float rows).
struct DecodedRow {
  std::vector<double> value;
  std::vector<double> coded;
};

inline DecodedRow DecodeF32Row(const void* data, uint32_t width) {
  DecodedRow row;
  for (uint32_t d = 0; d < width; ++d) row.value.push_back(LoadAt<float>(data, d));
  row.coded = row.value;
  return row;
}

inline DecodedRow DecodeF16Row(const void* data, uint32_t width) {
  DecodedRow row;
  for (uint32_t d = 0; d < width; ++d) row.value.push_back(DecodeF16(LoadAt<uint16_t>(data, d)));
  row.coded = row.value;
  return row;
}

// value = scale * code + minimum, code in 0..255 stored as code - 128.
inline DecodedRow DecodeI8Row(const void* data, uint16_t scale, uint16_t minimum, uint32_t width) {
  DecodedRow row;
  for (uint32_t d = 0; d < width; ++d) {
    const int stored = LoadAt<int8_t>(data, d);
    row.value.push_back(DecodeF16(scale) * (stored + 128) + DecodeF16(minimum));
    row.coded.push_back(DecodeF16(scale) * stored);
  }
  return row;
}

// Blocks of 32 elements, one f16 scale each. 8 bits: value = scale * code. 4 bits: byte j of a
// block holds element j in its low nibble and element j + 16 in its high one, value = scale *
// (nibble - 8).
inline DecodedRow DecodeBlock8Row(const void* data, const uint16_t* scales, uint32_t width) {
  DecodedRow row;
  for (uint32_t d = 0; d < width; ++d) {
    row.value.push_back(DecodeF16(scales[d / 32]) * LoadAt<int8_t>(data, d));
  }
  row.coded = row.value;
  return row;
}

inline DecodedRow DecodeBlock4Row(const void* data, const uint16_t* scales, uint32_t width) {
  DecodedRow row;
  for (uint32_t d = 0; d < width; ++d) {
    const int pair = LoadAt<uint8_t>(data, d / 32 * 16 + d % 16);
    const int code = (d % 32 < 16 ? pair % 16 : pair / 16) - 8;
    row.value.push_back(DecodeF16(scales[d / 32]) * code);
  }
  row.coded = row.value;
  return row;
}

// The first `width` elements of a row, and two rows behind one another.
inline DecodedRow FirstElements(DecodedRow row, uint32_t width) {
  row.value.resize(width);
  row.coded.resize(width);
  return row;
}

inline void Append(DecodedRow* row, const DecodedRow& tail) {
  row->value.insert(row->value.end(), tail.value.begin(), tail.value.end());
  row->coded.insert(row->coded.end(), tail.coded.begin(), tail.coded.end());
}

struct SoftmaxSpec {
  double scale = 1, softcap = 0;
  int64_t left = INT64_MAX, sinks = 0;
};

inline bool Sees(const SoftmaxSpec& spec, int64_t query, int64_t row) {
  return row >= 0 && row <= query && (query - row <= spec.left || row < spec.sinks);
}

// What a query gets, and what its rounding errors scale with.
struct SoftmaxResult {
  bool empty = true;
  double maximum = -INFINITY;   // m
  double sum = 0;               // sum of exp(x - m), no sink
  std::vector<double> weights;  // p_j with the sink in the denominator; 0 for hidden rows
  std::vector<double> scores;   // x_j; -inf for hidden rows
  std::vector<double> out;      // o[Dv]
};

inline SoftmaxResult Attend(const SoftmaxSpec& spec, const std::vector<double>& q,
                            int64_t query_position, const std::vector<DecodedRow>& keys,
                            const std::vector<DecodedRow>& values,
                            const std::vector<int64_t>& positions, double sink = kNoSink,
                            const std::vector<double>& bias = {}) {
  SoftmaxResult result;
  const size_t rows = keys.size();
  result.scores.assign(rows, -INFINITY);
  result.weights.assign(rows, 0.0);
  result.out.assign(values.empty() ? 0 : values[0].value.size(), 0.0);
  for (size_t j = 0; j < rows; ++j) {
    if (!Sees(spec, query_position, positions[j])) continue;
    double dot = 0;
    for (size_t d = 0; d < q.size(); ++d) dot += q[d] * keys[j].value[d];
    double x = spec.scale * dot;
    if (spec.softcap > 0) x = spec.softcap * std::tanh(x / spec.softcap);
    if (!bias.empty()) x += bias[j];
    if (x == -INFINITY) continue;
    result.scores[j] = x;
    result.maximum = std::max(result.maximum, x);
    result.empty = false;
  }
  if (result.empty) return result;
  const double reference = std::max(result.maximum, sink);
  double total = std::exp(sink - reference);
  for (size_t j = 0; j < rows; ++j) {
    result.weights[j] = std::exp(result.scores[j] - reference);
    total += result.weights[j];
    result.sum += std::exp(result.scores[j] - result.maximum);
  }
  for (size_t j = 0; j < rows; ++j) {
    result.weights[j] /= total;
    if (result.weights[j] == 0) continue;
    for (size_t c = 0; c < result.out.size(); ++c) {
      result.out[c] += result.weights[j] * values[j].value[c];
    }
  }
  return result;
}

// A partial record { m, l, o } and the merge of several, in double.
struct Partial {
  double maximum = -INFINITY, sum = 0;
  std::vector<double> o;
};

inline std::vector<double> MergePartials(const std::vector<Partial>& partials,
                                         double sink = kNoSink) {
  double reference = sink;
  for (const Partial& p : partials) reference = std::max(reference, p.maximum);
  std::vector<double> out(partials[0].o.size(), 0.0);
  if (reference == -INFINITY) return out;
  double total = std::exp(sink - reference);
  for (const Partial& p : partials) {
    if (p.maximum == -INFINITY) continue;
    const double weight = std::exp(p.maximum - reference);
    total += weight * p.sum;
    for (size_t c = 0; c < out.size(); ++c) out[c] += weight * p.o[c];
  }
  for (double& value : out) value /= total;
  return out;
}

}  // namespace headroom::oracle
