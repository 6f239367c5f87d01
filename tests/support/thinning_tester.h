// Whether a lane lets the right rows go: those with the fewest votes, or those that a ring's mean
// stands for. By the definitions (arXiv 2306.14048, 2404.14469, 2407.15891), on plain lists of
// rows.
//
// A lane under test is made of a LaneSpec and has
//   void Append(uint32_t count)                  the next positions, each with rows of its Mark
//   bool Vote(const std::vector<float>& votes)   for every row, in the lane's order; false: no need
//   std::vector<LaneRow> Rows()                  in the lane's order
//   std::optional<MeanRow> Mean()
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "store/lane.h"

namespace headroom::test {

inline constexpr uint32_t kThinningContext = 200, kThinningChunk = 6;

struct LaneRow {
  int32_t position = 0;
  float key = 0, value = 0, vote = 0;
  bool operator==(const LaneRow&) const = default;
};
struct MeanRow {
  double key = 0, value = 0, bias = 0;
};

// Key and value of a position; no two rows are alike, and neither is a multiple of the other.
inline LaneRow Mark(uint32_t position) {
  const auto p = static_cast<float>(position);
  return {static_cast<int32_t>(position), p, 3 - p * p / 64, 0};
}

// What stays: sinks, the newest, then the best of the pooled votes, of equals the oldest.
inline std::vector<LaneRow> Kept(const store::LaneSpec& spec, const std::vector<LaneRow>& rows) {
  const size_t newest = spec.vote.observe, candidates = rows.size() - newest;
  std::vector<double> pooled(candidates);
  for (size_t i = 0; i < candidates; ++i) {
    for (int64_t j = int64_t(i) - spec.vote.pool / 2; j <= int64_t(i) + spec.vote.pool / 2; ++j) {
      if (j < 0 || j >= int64_t(candidates)) continue;
      const double vote = rows[size_t(j)].vote;
      pooled[i] = spec.vote.pool_max ? std::max(pooled[i], vote) : pooled[i] + vote;
    }
    if (rows[i].position < int32_t(spec.sinks)) pooled[i] = 1e9;
  }
  std::vector<size_t> order(candidates);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return pooled[a] > pooled[b]; });
  order.resize(spec.vote.rows - newest);
  std::sort(order.begin(), order.end());
  std::vector<LaneRow> kept;
  for (const size_t i : order) kept.push_back(rows[i]);
  kept.insert(kept.end(), rows.end() - int64_t(newest), rows.end());
  return kept;
}

inline std::string Shown(const std::vector<LaneRow>& rows) {
  std::string text;
  for (const LaneRow& row : rows) {
    text += " " + std::to_string(row.position) + ":" + std::to_string(static_cast<int>(row.vote));
  }
  return text;
}

// Votes of few different values, so that equals decide; sums of them are exact. Empty: accepted.
template <typename Lane>
std::string TestVotes() {
  std::mt19937 random(3);
  for (uint32_t trial = 0; trial < 12; ++trial) {
    store::LaneSpec wanted;
    wanted.key = wanted.value = {RowCodec::kF32, 4};
    wanted.sinks = trial % 3;
    wanted.vote = {20, 5, trial % 2 == 0, trial % 4 < 2 ? 1u : 3u, trial % 4 == 3};
    const store::LaneSpec spec = store::PlanLane(wanted, kThinningContext, kThinningChunk);
    Lane lane(spec);
    std::vector<LaneRow> expected;
    for (uint32_t tokens = 0; tokens < 100;) {
      const uint32_t count = 1 + random() % kThinningChunk;
      std::vector<float> votes(expected.size());
      for (float& vote : votes) vote = static_cast<float>(random() % 7);
      const bool counted = !votes.empty() && lane.Vote(votes);
      if (!counted && expected.size() > spec.vote.rows) return "no votes before room is made";
      for (size_t i = 0; counted && i < votes.size(); ++i) {
        expected[i].vote = votes[i] + (spec.vote.accumulate ? expected[i].vote : 0.0f);
      }
      lane.Append(count);
      if (expected.size() + count > spec.capacity) expected = Kept(spec, expected);
      for (uint32_t i = 0; i < count; ++i) expected.push_back(Mark(tokens++));
      if (const auto rows = lane.Rows(); rows != expected) {
        return "trial " + std::to_string(trial) + ", " + std::to_string(tokens) +
               " tokens:" + Shown(rows) + " instead of" + Shown(expected);
      }
    }
  }
  return {};
}

// A ring of 2 sinks and 16 rows. Empty: accepted.
template <typename Lane>
std::string TestMean() {
  store::LaneSpec wanted;
  wanted.key = wanted.value = {RowCodec::kF32, 4};
  wanted.sinks = 2;
  wanted.left = 9;
  wanted.mean = true;
  const store::LaneSpec spec = store::PlanLane(wanted, kThinningContext, kThinningChunk);
  Lane lane(spec);
  std::mt19937 random(4);
  for (uint32_t tokens = 0; tokens < 100;) {
    const uint32_t count = 1 + random() % kThinningChunk;
    lane.Append(count);
    tokens += count;
    MeanRow sum;
    int gone = 0;
    std::vector<LaneRow> there;
    for (uint32_t p = 0; p < tokens; ++p) {
      const LaneRow row = Mark(p);
      const bool left = p >= spec.sinks && p + (spec.capacity - spec.sinks) < tokens;
      if (!left) there.push_back(row);
      if (left) sum.key += row.key, sum.value += row.value, ++gone;
    }
    auto rows = lane.Rows();
    std::sort(rows.begin(), rows.end(),
              [](const LaneRow& a, const LaneRow& b) { return a.position < b.position; });
    const std::string at = " at " + std::to_string(tokens) + " tokens";
    if (rows != there) return "rows" + Shown(rows) + " instead of" + Shown(there) + at;
    const auto mean = lane.Mean();
    if (mean.has_value() != (gone != 0)) return "a mean of nothing, or none" + at;
    if (gone == 0) continue;
    if (!(std::abs(mean->key - sum.key / gone) < 1e-4)) return "mean key" + at;
    if (!(std::abs(mean->value - sum.value / gone) < 1e-4)) return "mean value" + at;
    if (!(std::abs(mean->bias - std::log(gone)) < 1e-5)) return "bias" + at;
  }
  return {};
}

}  // namespace headroom::test
