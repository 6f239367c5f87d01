// Softmax mix with one mistake at a time: the real signature, plain loops. kNone is correct, and
// shows that it is the mistake that the testers reject.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/softmax_mix.h"

namespace headroom::mutants {

enum class MixBug {
  kNone,
  kScaleDropped,
  kNoMaximumSubtracted,
  kWindowOneTooWide,
  kWindowOneTooNarrow,
  kWindowIgnored,
  kSinksIgnored,
  kOneSinkTooFew,
  kCausalityOffByOne,  // sees its successor
  kSelfHidden,
  kHiddenRowRead,  // weight 0 times whatever lies there
  kRowBehindTheLastRead,
  kLastRowSkipped,
  kMaskIgnoredOnLastTile,  // rows of the last, partial block of 16
  kPositionsIgnored,       // ring rows taken at their slot
  kEmptySlotSeen,
  kInt8KeyMinimumDropped,
  kInt8ValueMinimumDropped,
  kInt8ScaleOfNextRow,
  kCapDropped,
  kCapBeforeScale,
  kRescaleForgotten,  // o keeps its old maximum
  kSumNotRescaled,
  kFirstQueryForAll,
  kFirstPositionForAll,
  kLastChannelUnwritten,
  kLastQueryChannelSkipped,
  kRangeBeginIgnored,
  kMaximumInLog2,  // m returned in the wrong unit
  kEmptyViewIsNan,
};
inline constexpr int kMixBugs = static_cast<int>(MixBug::kEmptyViewIsNan) + 1;

template <MixBug kBug>
bool Sees(const attention::MixSpec& spec, int64_t query, int64_t row) {
  constexpr int64_t kFar = int64_t{1} << 40;
  int64_t left = spec.left == kUnlimited ? kFar : int64_t{spec.left};
  int64_t sinks = spec.sinks;
  if (kBug == MixBug::kWindowOneTooWide) ++left;
  if (kBug == MixBug::kWindowOneTooNarrow) --left;
  if (kBug == MixBug::kWindowIgnored) left = kFar;
  if (kBug == MixBug::kSinksIgnored) sinks = 0;
  if (kBug == MixBug::kOneSinkTooFew) --sinks;
  if (kBug == MixBug::kCausalityOffByOne && row == query + 1) return true;
  if (kBug == MixBug::kSelfHidden && row == query && row > 0) return false;
  if (kBug == MixBug::kEmptySlotSeen && row < 0) return true;
  return row >= 0 && row <= query && (query - row <= left || row < sinks);
}

template <MixBug kBug>
std::vector<float> Row(const LaneView& lane, bool key, uint32_t row) {
  const uint32_t width = key ? lane.keys.width : lane.values.width;
  const std::byte* data = (key ? lane.keys.data : lane.values.data) +
                          uint64_t{row} * RowDataBytes(lane.keys.codec, width);
  const uint16_t* meta = key ? lane.keys.meta : lane.values.meta;
  uint16_t own[2] = {};
  if (lane.keys.codec == RowCodec::kI8Token) {
    const bool shifted = kBug == MixBug::kInt8ScaleOfNextRow && row + 1 < lane.rows;
    own[0] = meta[2 * (row + (shifted ? 1 : 0))];
    own[1] = meta[2 * row + 1];
    if (kBug == (key ? MixBug::kInt8KeyMinimumDropped : MixBug::kInt8ValueMinimumDropped))
      own[1] = 0;
  }
  std::vector<float> out(width);
  attention::DecodeRow(lane.keys.codec, data, own, width, out.data());
  return out;
}

template <MixBug kBug>
float Score(const LaneView& lane, const attention::MixSpec& spec, const float* q,
            const std::vector<float>& key) {
  float dot = 0;
  const uint32_t skipped = kBug == MixBug::kLastQueryChannelSkipped ? 1 : 0;
  for (uint32_t d = 0; d + skipped < lane.keys.width; ++d) dot += q[d] * key[d];
  const float cap = kBug == MixBug::kCapDropped ? 0 : spec.softcap;
  const float scale = kBug == MixBug::kScaleDropped ? 1 : spec.scale;
  if (kBug == MixBug::kCapBeforeScale && cap > 0) return scale * cap * std::tanh(dot / cap);
  const float x = scale * dot;
  return cap > 0 ? cap * std::tanh(x / cap) : x;
}

template <MixBug kBug>
void AddRow(float x, const std::vector<float>& value, uint32_t written, float* record) {
  if (kBug == MixBug::kNoMaximumSubtracted) {
    record[0] = 0;
  } else if (x > record[0]) {
    const float rescale = std::exp(record[0] - x);
    if (kBug != MixBug::kSumNotRescaled) record[1] *= rescale;
    for (uint32_t c = 0; c < written && kBug != MixBug::kRescaleForgotten; ++c)
      record[2 + c] *= rescale;
    record[0] = x;
  }
  const float p = std::exp(x - record[0]);
  record[1] += p;
  for (uint32_t c = 0; c < written; ++c) record[2 + c] += p * value[c];
}

template <MixBug kBug>
void WrongMix(const LaneView& lane, const attention::MixSpec& spec, const float* q,
              uint32_t q_stride, const int32_t* query_positions, uint32_t queries,
              uint32_t row_begin, uint32_t row_end, float* partials, std::byte*) {
  if (kBug == MixBug::kRangeBeginIgnored) row_begin = 0;
  const uint32_t last = kBug == MixBug::kRowBehindTheLastRead ? row_end + 1
                        : kBug == MixBug::kLastRowSkipped     ? std::max(row_end, 1u) - 1
                                                              : row_end;
  for (uint32_t i = 0; i < queries; ++i) {
    float* record = partials + uint64_t{i} * attention::PartialFloats(lane.values.width);
    const uint32_t written = lane.values.width - (kBug == MixBug::kLastChannelUnwritten ? 1 : 0);
    record[0] = -std::numeric_limits<float>::infinity();
    std::fill_n(record + 1, 1 + written, 0.0f);
    const float* own = q + uint64_t{kBug == MixBug::kFirstQueryForAll ? 0 : i} * q_stride;
    const int32_t at = query_positions[kBug == MixBug::kFirstPositionForAll ? 0 : i];
    for (uint32_t r = row_begin; r < last; ++r) {
      const bool dense = lane.positions == nullptr || kBug == MixBug::kPositionsIgnored;
      // The row behind the last has no position of its own: taken as seen.
      const int64_t position = r >= lane.rows ? at : dense ? int64_t{r} : lane.positions[r];
      bool seen = Sees<kBug>(spec, at, position);
      if (kBug == MixBug::kMaskIgnoredOnLastTile && r >= row_end / 16 * 16 && position >= 0)
        seen = true;
      if (!seen && kBug != MixBug::kHiddenRowRead) continue;
      const std::vector<float> value = Row<kBug>(lane, false, r);
      if (!seen) {
        for (uint32_t c = 0; c < written; ++c) record[2 + c] += 0.0f * value[c];
        continue;
      }
      AddRow<kBug>(Score<kBug>(lane, spec, own, Row<kBug>(lane, true, r)), value, written, record);
    }
    if (kBug == MixBug::kMaximumInLog2) record[0] *= 1.44269504f;
    if (kBug == MixBug::kEmptyViewIsNan && record[1] == 0) record[2] = 0.0f / record[1];
  }
}

}  // namespace headroom::mutants
