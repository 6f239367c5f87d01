// Tester of the kernels that score rows, over the problems of the softmax kernels' tester.
#pragma once

#include "attention/row_scores.h"
#include "support/mix_tester.h"

namespace headroom::test {

inline Verdict TestRowScores(attention::RowScoresKernel kernel, const MixProblem& problem) {
  constexpr float kBefore = 0.25f;  // scores are added to
  const MixCase& c = problem.test_case();
  const uint32_t queries = problem.queries();
  std::vector<float> lse(queries);
  for (uint32_t i = 0; i < queries; ++i) {
    const oracle::SoftmaxResult& exact = problem.exact()[i];
    lse[i] = exact.empty ? -INFINITY : static_cast<float>(exact.maximum + std::log(exact.sum));
  }
  const GuardedMemory scores(c.rows * sizeof(float), sizeof(float));
  std::fill_n(scores.as<float>(), c.rows, kBefore);
  GuardedMemory scratch(attention::MixScratchBytes(queries, problem.key_width(), c.value_width),
                        64);
  std::memset(scratch.data(), 0xff, scratch.bytes());
  for (uint32_t part = 0; part < c.splits; ++part) {
    const auto [begin, end] = problem.Range(part);
    kernel(problem.Lane(), problem.Spec(), problem.q(), problem.q_stride(),
           problem.query_positions().data(), queries, lse.data(), begin, end, scores.as<float>(),
           scratch.data());
  }
  Verdict verdict;
  for (uint32_t r = 0; r < c.rows; ++r) {
    double sum = kBefore, allowance = 0;
    for (uint32_t i = 0; i < queries; ++i) {
      const double p = problem.exact()[i].weights[r];
      if (p == 0) continue;
      sum += p;
      allowance += WeightAllowance(p, problem.score_allowance(i, r), lse[i]);
    }
    if (sum > kBefore) allowance += kRoundoff * Roundings(queries) * sum;
    verdict.Check(scores.as<float>()[r], sum, allowance, "row " + std::to_string(r));
  }
  return verdict;
}

// The log-sum-exp of random records, some empty, with or without a sink, against their merge.
inline Verdict TestLogSumExp(float (*log_sum_exp)(const float*, uint64_t, uint32_t, float),
                             uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const uint32_t count = 1 + seed % 5, stride = 3 + seed % 4;
  const float sink = seed % 3 == 0 ? normal(random) : -INFINITY;
  std::vector<float> records(count * stride, NAN);
  double total = std::exp(static_cast<double>(sink)), largest = 1;
  for (uint32_t j = 0; j < count; ++j) {
    const bool empty = seed % 4 == 1 && j % 2 == 0;
    records[j * stride] = empty ? -INFINITY : 5 * normal(random);
    records[j * stride + 1] = empty ? 0.0f : 1.0f + std::fabs(normal(random));
    total += std::exp(static_cast<double>(records[j * stride])) * records[j * stride + 1];
    if (!empty) largest = std::max(largest, std::fabs(static_cast<double>(records[j * stride])));
  }
  Verdict verdict;
  verdict.Check(log_sum_exp(records.data(), stride, count, sink), std::log(total),
                kRoundoff * Roundings(count) * largest, "seed " + std::to_string(seed));
  return verdict;
}

}  // namespace headroom::test
