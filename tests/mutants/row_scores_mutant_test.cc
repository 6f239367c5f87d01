// Wrong kernels that score rows, given to the tester of the right ones.
#include <catch2/catch_test_macros.hpp>

#include "mutants/wrong_mix.h"
#include "support/mix_grid.h"
#include "support/row_scores_tester.h"

namespace headroom::mutants {
namespace {

enum class ScoresBug {
  kNone,
  kOverwrites,
  kMean,
  kLseOfFirstQuery,
  kLseInLog2,
  kLastQuerySkipped,
  kMaximumOfQueries,
  kRowsRelativeToBegin,
};

template <MixBug kLogits, ScoresBug kBug>
void WrongScores(const LaneView& lane, const attention::MixSpec& spec, const float* q,
                 uint32_t q_stride, const int32_t* query_positions, uint32_t queries,
                 const float* lse, uint32_t row_begin, uint32_t row_end, float* scores,
                 std::byte*) {
  const uint32_t count = queries - (kBug == ScoresBug::kLastQuerySkipped ? 1 : 0);
  for (uint32_t r = row_begin; r < row_end; ++r) {
    float sum = 0;
    bool seen = false;
    for (uint32_t i = 0; i < count; ++i) {
      const int64_t position =
          lane.positions == nullptr ? lane.first_position + int64_t{r} : lane.positions[r];
      if (!Sees<kLogits>(spec, query_positions[i], position)) continue;
      float of_query = lse[kBug == ScoresBug::kLseOfFirstQuery ? 0 : i];
      if (std::isinf(of_query)) continue;
      if (kBug == ScoresBug::kLseInLog2) of_query *= 1.44269504f;
      const float x =
          Score<kLogits>(lane, spec, q + uint64_t{i} * q_stride, Key<kLogits>(lane, r), r);
      const float p = std::exp(x - of_query);
      sum = kBug == ScoresBug::kMaximumOfQueries ? std::max(sum, p) : sum + p;
      seen = true;
    }
    if (!seen) continue;
    if (kBug == ScoresBug::kMean) sum /= queries;
    float& to = scores[kBug == ScoresBug::kRowsRelativeToBegin ? r - row_begin : r];
    to = kBug == ScoresBug::kOverwrites ? sum : to + sum;
  }
}

bool Rejected(attention::RowScoresKernel kernel) {
  for (const RowCodec codec : {RowCodec::kF32, RowCodec::kBlock4}) {
    for (const test::MixCase& c : test::AllMixCases(codec, 48)) {
      if (uint64_t{c.rows} * c.tokens * c.group * c.key_width > 100000) continue;
      if (!test::TestRowScores(kernel, test::MixProblem(c)).accepted()) return true;
    }
  }
  return false;
}

TEST_CASE("every wrong scorer of rows is rejected, the right one is not", "[mutant][row_scores]") {
  using enum ScoresBug;
  constexpr MixBug kRight = MixBug::kNone;
  CHECK_FALSE(Rejected(WrongScores<kRight, kNone>));
  CHECK(Rejected(WrongScores<kRight, kOverwrites>));
  CHECK(Rejected(WrongScores<kRight, kMean>));
  CHECK(Rejected(WrongScores<kRight, kLseOfFirstQuery>));
  CHECK(Rejected(WrongScores<kRight, kLseInLog2>));
  CHECK(Rejected(WrongScores<kRight, kLastQuerySkipped>));
  CHECK(Rejected(WrongScores<kRight, kMaximumOfQueries>));
  CHECK(Rejected(WrongScores<kRight, kRowsRelativeToBegin>));
  CHECK(Rejected(WrongScores<MixBug::kBiasForgotten, kNone>));
  CHECK(Rejected(WrongScores<MixBug::kTailForgotten, kNone>));
  CHECK(Rejected(WrongScores<MixBug::kCapDropped, kNone>));
  CHECK(Rejected(WrongScores<MixBug::kWindowIgnored, kNone>));
  CHECK(Rejected(WrongScores<MixBug::kBlockScaleOfFirst, kNone>));
}

}  // namespace
}  // namespace headroom::mutants
