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
  kBlockScaleOfFirst,
  kBlockScaleOfNextRow,
  kNibblesSwapped,
  kBiasForgotten,
  kBiasBeforeCap,
  kBiasOfFirstRow,
  kTailForgotten,
  kLatentValueFromTail,  // the last elements of the key instead of the first
  kFirstPositionIgnored,
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

// Scales and minimum of a row, with the bugs that concern them.
template <MixBug kBug>
std::vector<uint16_t> Meta(const RowArray& array, bool key, uint32_t row, uint32_t rows) {
  const uint32_t count = RowMetaBytes(array.codec, array.width) / 2;
  const auto at = [&](uint32_t r) { return array.meta + uint64_t{r} * count; };
  const bool int8 = array.codec == RowCodec::kI8Token;
  std::vector<uint16_t> own(at(row), at(row) + count);
  const uint32_t next = row + 1 < rows ? row + 1 : row;
  if (int8 && kBug == MixBug::kInt8ScaleOfNextRow) own[0] = at(next)[0];
  if (int8 && kBug == (key ? MixBug::kInt8KeyMinimumDropped : MixBug::kInt8ValueMinimumDropped)) {
    own[1] = 0;
  }
  if (!int8 && kBug == MixBug::kBlockScaleOfFirst) std::fill(own.begin(), own.end(), own[0]);
  if (!int8 && kBug == MixBug::kBlockScaleOfNextRow) own.assign(at(next), at(next) + count);
  return own;
}

template <MixBug kBug>
std::vector<float> Row(const RowArray& array, bool key, uint32_t row, uint32_t rows) {
  const bool scaled = RowMetaBytes(array.codec, array.width) > 0;
  const std::vector<uint16_t> meta =
      scaled ? Meta<kBug>(array, key, row, rows) : std::vector<uint16_t>();
  const uint32_t bytes = RowDataBytes(array.codec, array.width);
  std::vector<std::byte> data(array.data + uint64_t{row} * bytes,
                              array.data + uint64_t{row} * bytes + bytes);
  if (kBug == MixBug::kNibblesSwapped && array.codec == RowCodec::kBlock4) {
    for (std::byte& pair : data) pair = pair << 4 | pair >> 4;
  }
  std::vector<float> out(array.width);
  attention::DecodeRow(array.codec, data.data(), meta.data(), array.width, out.data());
  return out;
}

template <MixBug kBug>
std::vector<float> Key(const LaneView& lane, uint32_t row) {
  std::vector<float> key = Row<kBug>(lane.keys, true, row, lane.rows);
  if (lane.key_tail.width == 0) return key;
  std::vector<float> tail = Row<kBug>(lane.key_tail, true, row, lane.rows);
  if (kBug == MixBug::kTailForgotten) std::fill(tail.begin(), tail.end(), 0.0f);
  key.insert(key.end(), tail.begin(), tail.end());
  return key;
}

template <MixBug kBug>
std::vector<float> Value(const LaneView& lane, uint32_t row) {
  if (lane.values.data != nullptr) return Row<kBug>(lane.values, false, row, lane.rows);
  std::vector<float> key = Key<kBug>(lane, row);
  const bool last = kBug == MixBug::kLatentValueFromTail;
  const auto from = last ? key.end() - lane.values.width : key.begin();
  return {from, from + lane.values.width};
}

template <MixBug kBug>
float Score(const LaneView& lane, const attention::MixSpec& spec, const float* q,
            const std::vector<float>& key, uint32_t row) {
  float dot = 0;
  const size_t skipped = kBug == MixBug::kLastQueryChannelSkipped ? 1 : 0;
  for (size_t d = 0; d + skipped < key.size(); ++d) dot += q[d] * key[d];
  const float cap = kBug == MixBug::kCapDropped ? 0 : spec.softcap;
  const float scale = kBug == MixBug::kScaleDropped ? 1 : spec.scale;
  if (kBug == MixBug::kCapBeforeScale && cap > 0) return scale * cap * std::tanh(dot / cap);
  const bool biased = lane.bias != nullptr && kBug != MixBug::kBiasForgotten;
  const float bias = !biased ? 0 : lane.bias[kBug == MixBug::kBiasOfFirstRow ? 0 : row];
  const bool early = kBug == MixBug::kBiasBeforeCap;
  const float x = scale * dot + (early ? bias : 0);
  return (cap > 0 ? cap * std::tanh(x / cap) : x) + (early ? 0 : bias);
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
    float* record = partials + uint64_t{i} * attention::PartialFloats(lane.value_width());
    const uint32_t written = lane.value_width() - (kBug == MixBug::kLastChannelUnwritten ? 1 : 0);
    record[0] = -std::numeric_limits<float>::infinity();
    std::fill_n(record + 1, 1 + written, 0.0f);
    const float* own = q + uint64_t{kBug == MixBug::kFirstQueryForAll ? 0 : i} * q_stride;
    const int32_t at = query_positions[kBug == MixBug::kFirstPositionForAll ? 0 : i];
    for (uint32_t r = row_begin; r < last; ++r) {
      const bool dense = lane.positions == nullptr || kBug == MixBug::kPositionsIgnored;
      // The row behind the last has no position of its own: taken as seen.
      const int64_t first = kBug == MixBug::kFirstPositionIgnored ? 0 : lane.first_position;
      const int64_t position = r >= lane.rows ? at : dense ? first + r : lane.positions[r];
      bool seen = Sees<kBug>(spec, at, position);
      if (kBug == MixBug::kMaskIgnoredOnLastTile && r >= row_end / 16 * 16 && position >= 0)
        seen = true;
      if (!seen && kBug != MixBug::kHiddenRowRead) continue;
      const std::vector<float> value = Value<kBug>(lane, r);
      if (!seen) {
        for (uint32_t c = 0; c < written; ++c) record[2 + c] += 0.0f * value[c];
        continue;
      }
      const float x = Score<kBug>(lane, spec, own, Key<kBug>(lane, r), r);
      if (x == -std::numeric_limits<float>::infinity()) continue;
      AddRow<kBug>(x, value, written, record);
    }
    if (kBug == MixBug::kMaximumInLog2) record[0] *= 1.44269504f;
    if (kBug == MixBug::kEmptyViewIsNan && record[1] == 0) record[2] = 0.0f / record[1];
  }
}

}  // namespace headroom::mutants
