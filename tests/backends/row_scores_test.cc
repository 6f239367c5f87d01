// Scores of rows, portable and of every instruction set, against the softmax oracle's weights.
#include <catch2/catch_test_macros.hpp>

#include "support/kernel_subjects.h"
#include "support/mix_grid.h"
#include "support/row_scores_tester.h"

namespace headroom::test {
namespace {

TEST_CASE("row scores are the sums of the queries' weights", "[row_scores]") {
  const auto subjects = KernelSubjects();
  std::vector<Verdict> totals(subjects.size());
  for (const RowCodec codec : kAllCodecs) {
    for (const MixCase& c : AllMixCases(codec, 48)) {
      const MixProblem problem(c);
      for (size_t s = 0; s < subjects.size(); ++s) {
        const Verdict verdict = TestRowScores(subjects[s].row_scores, problem);
        INFO(subjects[s].isa << ", " << Describe(c) << ": " << verdict.Why());
        REQUIRE(verdict.accepted());
        totals[s].Join(verdict);
      }
    }
  }
  for (size_t s = 0; s < subjects.size(); ++s) {
    UNSCOPED_INFO(subjects[s].isa << ": worst error / allowance " << totals[s].worst_ratio);
    CHECK(totals[s].worst_ratio > 0.01);
  }
}

TEST_CASE("the scores of a query sum to 1", "[row_scores][property]") {
  MixCase c;
  c.rows = 150;
  c.group = 3;
  c.bias = true;
  const MixProblem problem(c);
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    const GuardedMemory scratch(attention::MixScratchBytes(3, 16, 16), 64);
    std::vector<float> partials(3 * attention::PartialFloats(16)), scores(c.rows), lse(3);
    kernels.mix(problem.Lane(), problem.Spec(), problem.q(), problem.q_stride(),
                problem.query_positions().data(), 3, 0, c.rows, partials.data(), scratch.data());
    for (uint32_t i = 0; i < 3; ++i) {
      lse[i] = attention::LogSumExp(&partials[i * attention::PartialFloats(16)], 0, 1, -INFINITY);
    }
    kernels.row_scores(problem.Lane(), problem.Spec(), problem.q(), problem.q_stride(),
                       problem.query_positions().data(), 3, lse.data(), 0, c.rows, scores.data(),
                       scratch.data());
    Verdict verdict;
    verdict.Check(std::accumulate(scores.begin(), scores.end(), 0.0), 3, PropertyAllowance(true),
                  "sum");
    INFO(kernels.isa << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("log-sum-exp of records and a sink", "[row_scores]") {
  Verdict verdict;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    verdict.Join(TestLogSumExp(attention::LogSumExp, seed));
  }
  INFO(verdict.Why() << ", worst " << verdict.worst_ratio);
  CHECK(verdict.accepted());
  const float empty[2] = {-INFINITY, 0};
  CHECK(attention::LogSumExp(empty, 2, 1, -INFINITY) == -INFINITY);
}

}  // namespace
}  // namespace headroom::test
