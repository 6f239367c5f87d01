// Lanes that let the wrong rows go, given to the tester of the right one.
#include <catch2/catch_test_macros.hpp>

#include "support/thinning_tester.h"

namespace headroom::mutants {
namespace {

using test::LaneRow;
using test::MeanRow;

enum class VoteBug {
  kNone,
  kPositionsStay,
  kVotesStay,
  kValuesStay,
  kNewestOfEquals,
  kPoolReachesFurther,
  kPoolIsShifted,
  kPoolTakesInNewest,
  kPoolMeanOfThoseThere,
  kMeanForMaximum,
  kSinksLeave,
  kNewestLeave,
  kOneRowLess,
  kInOrderOfVotes,
  kNewVotesReplaceOld,
};

// Votes on a plain list of rows, with one mistake.
template <VoteBug kBug>
class VotedLane {
 public:
  explicit VotedLane(const store::LaneSpec& spec) : spec_(spec) {}
  void Append(uint32_t count) {
    if (rows_.size() + count > spec_.capacity) Thin();
    for (uint32_t i = 0; i < count; ++i) rows_.push_back(test::Mark(tokens_++));
  }
  bool Vote(const std::vector<float>& votes) {
    if (!spec_.vote.accumulate && rows_.size() <= spec_.vote.rows) return false;
    const bool add = spec_.vote.accumulate && kBug != VoteBug::kNewVotesReplaceOld;
    for (size_t i = 0; i < votes.size(); ++i) rows_[i].vote = votes[i] + (add ? rows_[i].vote : 0);
    return true;
  }
  std::vector<LaneRow> Rows() const { return rows_; }

 private:
  float Pooled(int64_t i, int64_t candidates) const {
    const int64_t reach = spec_.vote.pool / 2 + (kBug == VoteBug::kPoolReachesFurther ? 1 : 0);
    const int64_t shift = kBug == VoteBug::kPoolIsShifted && spec_.vote.pool > 1 ? 1 : 0;
    const int64_t end =
        kBug == VoteBug::kPoolTakesInNewest ? static_cast<int64_t>(rows_.size()) : candidates;
    float sum = 0, largest = 0, count = 0;
    for (int64_t j = std::max<int64_t>(0, i - reach + shift); j <= i + reach + shift; ++j) {
      if (j >= end) break;
      sum += rows_[size_t(j)].vote;
      largest = std::max(largest, rows_[size_t(j)].vote);
      ++count;
    }
    if (spec_.vote.pool_max && kBug != VoteBug::kMeanForMaximum) return largest;
    return kBug == VoteBug::kPoolMeanOfThoseThere ? sum / std::max(count, 1.0f) : sum;
  }
  void Thin() {
    const size_t newest = spec_.vote.observe - (kBug == VoteBug::kNewestLeave ? 1 : 0);
    const size_t candidates = rows_.size() - newest;
    std::vector<float> pooled(candidates);
    std::vector<size_t> order(candidates);
    for (size_t i = 0; i < candidates; ++i) {
      order[i] = i;
      pooled[i] = Pooled(int64_t(i), int64_t(candidates));
      const bool sink = rows_[i].position < int32_t(spec_.sinks);
      if (sink && kBug != VoteBug::kSinksLeave) pooled[i] = 1e9f;
    }
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      if (pooled[a] != pooled[b]) return pooled[a] > pooled[b];
      return kBug == VoteBug::kNewestOfEquals ? a > b : a < b;
    });
    order.resize(spec_.vote.rows - newest - (kBug == VoteBug::kOneRowLess ? 1 : 0));
    if (kBug != VoteBug::kInOrderOfVotes) std::sort(order.begin(), order.end());
    for (size_t i = candidates; i < rows_.size(); ++i) order.push_back(i);
    std::vector<LaneRow> kept;
    for (size_t i = 0; i < order.size(); ++i) {
      LaneRow row = rows_[order[i]];
      if (kBug == VoteBug::kPositionsStay) row.position = rows_[i].position;
      if (kBug == VoteBug::kVotesStay) row.vote = rows_[i].vote;
      if (kBug == VoteBug::kValuesStay) row.value = rows_[i].value;
      kept.push_back(row);
    }
    rows_ = kept;
  }
  store::LaneSpec spec_;
  std::vector<LaneRow> rows_;
  uint32_t tokens_ = 0;
};

template <VoteBug kBug>
bool VotesRejected() {
  return !test::TestVotes<VotedLane<kBug>>().empty();
}

TEST_CASE("lanes that keep the wrong rows are rejected", "[mutants][votes]") {
  CHECK_FALSE(VotesRejected<VoteBug::kNone>());
  CHECK(VotesRejected<VoteBug::kPositionsStay>());
  CHECK(VotesRejected<VoteBug::kVotesStay>());
  CHECK(VotesRejected<VoteBug::kValuesStay>());
  CHECK(VotesRejected<VoteBug::kNewestOfEquals>());
  CHECK(VotesRejected<VoteBug::kPoolReachesFurther>());
  CHECK(VotesRejected<VoteBug::kPoolIsShifted>());
  CHECK(VotesRejected<VoteBug::kPoolTakesInNewest>());
  CHECK(VotesRejected<VoteBug::kPoolMeanOfThoseThere>());
  CHECK(VotesRejected<VoteBug::kMeanForMaximum>());
  CHECK(VotesRejected<VoteBug::kSinksLeave>());
  CHECK(VotesRejected<VoteBug::kNewestLeave>());
  CHECK(VotesRejected<VoteBug::kOneRowLess>());
  CHECK(VotesRejected<VoteBug::kInOrderOfVotes>());
  CHECK(VotesRejected<VoteBug::kNewVotesReplaceOld>());
}

enum class MeanBug {
  kNone,
  kNoBias,
  kBiasOfRowsThere,
  kDivisorTooLarge,
  kDivisorTooSmall,
  kDecays,
  kSum,
  kKeysOnly,
  kSinksLeave,
  kFirstRowIsLost,
  kCountsChunks,
  kNewRowsInstead,
};

// A ring with a mean on a plain list of rows, with one mistake.
template <MeanBug kBug>
class MeanLane {
 public:
  explicit MeanLane(const store::LaneSpec& spec) : spec_(spec) {}
  void Append(uint32_t count) {
    int left = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const LaneRow row = test::Mark(tokens_++);
      rows_.push_back(row);
      if (rows_.size() <= spec_.capacity) continue;
      const auto first = rows_.begin() + (kBug == MeanBug::kSinksLeave ? 0 : int64_t(spec_.sinks));
      Fold(kBug == MeanBug::kNewRowsInstead ? row : *first, ++left == 1);
      rows_.erase(first);
    }
  }
  bool Vote(const std::vector<float>&) { return false; }
  std::vector<LaneRow> Rows() const { return rows_; }
  std::optional<MeanRow> Mean() const {
    if (gone_ == 0) return {};
    MeanRow mean = mean_;
    mean.bias = std::log(gone_);
    if (kBug == MeanBug::kNoBias) mean.bias = 0;
    if (kBug == MeanBug::kBiasOfRowsThere) mean.bias = std::log(rows_.size());
    return mean;
  }

 private:
  void Fold(const LaneRow& row, bool first_of_chunk) {
    if (kBug != MeanBug::kCountsChunks || first_of_chunk) ++gone_;
    double share = 1 / gone_;
    if (kBug == MeanBug::kDivisorTooLarge) share = 1 / (gone_ + 1);
    if (kBug == MeanBug::kDivisorTooSmall) share = 1 / std::max(1.0, gone_ - 1);
    if (kBug == MeanBug::kDecays) share = gone_ == 1 ? 1 : 0.1;
    if (kBug == MeanBug::kFirstRowIsLost && gone_ == 1) share = 0;
    if (kBug == MeanBug::kSum) {
      mean_.key += row.key, mean_.value += row.value;
      return;
    }
    mean_.key += (row.key - mean_.key) * share;
    mean_.value += (row.value - mean_.value) * (kBug == MeanBug::kKeysOnly ? 0 : share);
  }
  store::LaneSpec spec_;
  std::vector<LaneRow> rows_;
  MeanRow mean_;
  double gone_ = 0;
  uint32_t tokens_ = 0;
};

template <MeanBug kBug>
bool MeanRejected() {
  return !test::TestMean<MeanLane<kBug>>().empty();
}

TEST_CASE("means that stand for the wrong rows are rejected", "[mutants][mean]") {
  CHECK_FALSE(MeanRejected<MeanBug::kNone>());
  CHECK(MeanRejected<MeanBug::kNoBias>());
  CHECK(MeanRejected<MeanBug::kBiasOfRowsThere>());
  CHECK(MeanRejected<MeanBug::kDivisorTooLarge>());
  CHECK(MeanRejected<MeanBug::kDivisorTooSmall>());
  CHECK(MeanRejected<MeanBug::kDecays>());
  CHECK(MeanRejected<MeanBug::kSum>());
  CHECK(MeanRejected<MeanBug::kKeysOnly>());
  CHECK(MeanRejected<MeanBug::kSinksLeave>());
  CHECK(MeanRejected<MeanBug::kFirstRowIsLost>());
  CHECK(MeanRejected<MeanBug::kCountsChunks>());
  CHECK(MeanRejected<MeanBug::kNewRowsInstead>());
}

}  // namespace
}  // namespace headroom::mutants
