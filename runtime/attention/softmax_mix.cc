#include "attention/softmax_mix.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/lane_rows.h"
#include "base/math.h"

namespace headroom::attention {
namespace {

// Adds one visible row to a query's record { m, l, o }, rescaling it when the maximum moves.
void Accumulate(float score, const float* value, uint32_t width, float* record) {
  float* o = record + 2;
  if (score > record[0]) {
    const float rescale = std::exp(record[0] - score);  // 0 for the first row: m is -infinity
    record[1] *= rescale;
    for (uint32_t d = 0; d < width; ++d) o[d] *= rescale;
    record[0] = score;
  }
  const float p = std::exp(score - record[0]);
  record[1] += p;
  for (uint32_t d = 0; d < width; ++d) o[d] += p * value[d];
}

void Mix(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
         const int32_t* query_positions, uint32_t queries, uint32_t row_begin, uint32_t row_end,
         float* partials, std::byte* scratch) {
  float* key = reinterpret_cast<float*>(scratch);
  float* value = lane.values.data == nullptr ? key : key + lane.key_width();
  const uint32_t record_floats = PartialFloats(lane.value_width());
  for (uint32_t i = 0; i < queries; ++i) {
    float* record = partials + uint64_t{i} * record_floats;
    std::fill(record, record + record_floats, 0.0f);
    record[0] = kMinusInfinity;
  }
  for (uint32_t row = row_begin; row < row_end; ++row) {
    const int32_t position = PositionOf(lane, row);
    bool decoded = false;  // hidden rows are never read: an empty slot may hold anything
    for (uint32_t i = 0; i < queries; ++i) {
      if (!Sees(spec, query_positions[i], position)) continue;
      if (!decoded) {
        DecodeKey(lane, row, key);
        if (value != key) DecodeLaneRow(lane.values, row, value);
        decoded = true;
      }
      const float logit = Logit(lane, spec, q + uint64_t{i} * q_stride, key, row);
      if (logit == kMinusInfinity) continue;  // a bias may hide a row
      Accumulate(logit, value, lane.value_width(), partials + uint64_t{i} * record_floats);
    }
  }
}

void Merge(const float* partials, uint64_t stride_floats, uint32_t count, uint32_t value_width,
           float sink_logit, float* out) {
  float maximum = sink_logit;
  for (uint32_t j = 0; j < count; ++j) {
    if (!(partials[j * stride_floats] <= maximum))
      maximum = partials[j * stride_floats];  // takes NaN
  }
  std::fill(out, out + value_width, 0.0f);
  if (maximum == kMinusInfinity) return;  // nothing was visible anywhere
  float total = std::exp(sink_logit - maximum);
  for (uint32_t j = 0; j < count; ++j) {
    const float* record = partials + j * stride_floats;
    if (record[0] == kMinusInfinity) continue;
    const float weight = std::exp(record[0] - maximum);
    total += weight * record[1];
    for (uint32_t d = 0; d < value_width; ++d) out[d] += weight * record[2 + d];
  }
  for (uint32_t d = 0; d < value_width; ++d) out[d] /= total;
}

}  // namespace

void AddPartial(const float* from, uint32_t value_width, float* to) {
  if (from[0] == kMinusInfinity) return;  // it saw nothing
  const float maximum = std::max(from[0], to[0]);
  const float old = std::exp(to[0] - maximum), more = std::exp(from[0] - maximum);
  to[0] = maximum;
  to[1] = to[1] * old + from[1] * more;
  for (uint32_t d = 2; d < 2 + value_width; ++d) to[d] = to[d] * old + from[d] * more;
}

uint64_t MixScratchBytes(uint32_t queries, uint32_t key_width, uint32_t value_width) {
  // Room for the widest kernel: queries and outputs transposed in panels of kMixPanelQueries, one
  // panel of scores, one block of decoded rows, and a few statistics per query.
  const uint64_t panel_queries = RoundUp(queries, kMixPanelQueries);
  const uint64_t row_floats = RoundUp(key_width, 64) + RoundUp(value_width, 64);
  const uint64_t scales = kMixBlockRows * (row_floats / kRowBlock);  // of rows in blocks
  const uint64_t floats = (panel_queries + kMixBlockRows) * row_floats +
                          kMixBlockRows * kMixPanelQueries + 8 * (panel_queries + kMixBlockRows) +
                          scales;
  return floats * sizeof(float);
}

MixKernel PortableMix() { return Mix; }

DecodeRowsKernel PortableDecodeRows() {
  return [](const RowArray& rows, uint32_t begin, uint32_t count, float* out, uint32_t stride,
            std::byte*) {
    for (uint32_t r = 0; r < count; ++r) {
      DecodeLaneRow(rows, begin + r, out + uint64_t{r} * stride);
    }
  };
}

MergeKernel PortableMerge() { return Merge; }

}  // namespace headroom::attention
