#include "attention/row_scores.h"

#include <algorithm>

#include "attention/lane_rows.h"

namespace headroom::attention {
namespace {

void RowScores(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
               const int32_t* query_positions, uint32_t queries, const float* lse,
               uint32_t row_begin, uint32_t row_end, float* scores, std::byte* scratch) {
  float* key = reinterpret_cast<float*>(scratch);
  for (uint32_t row = row_begin; row < row_end; ++row) {
    const int32_t position = PositionOf(lane, row);
    bool decoded = false;  // hidden rows are never read: an empty slot may hold anything
    for (uint32_t i = 0; i < queries; ++i) {
      if (!Sees(spec, query_positions[i], position) || lse[i] == kMinusInfinity) continue;
      if (!decoded) DecodeKey(lane, row, key);
      decoded = true;
      scores[row] += std::exp(Logit(lane, spec, q + uint64_t{i} * q_stride, key, row) - lse[i]);
    }
  }
}

}  // namespace

RowScoresKernel PortableRowScores() { return RowScores; }

float LogSumExp(const float* partials, uint64_t stride_floats, uint32_t count, float sink_logit) {
  float maximum = sink_logit;
  for (uint32_t j = 0; j < count; ++j) maximum = std::max(maximum, partials[j * stride_floats]);
  if (maximum == kMinusInfinity) return maximum;
  float total = std::exp(sink_logit - maximum);
  for (uint32_t j = 0; j < count; ++j) {
    const float* record = partials + j * stride_floats;
    total += std::exp(record[0] - maximum) * record[1];
  }
  return maximum + std::log(total);
}

}  // namespace headroom::attention
