// Labels of heads: the softmax they come from, and the rule that makes labels of scores.
#include "headroom/head_labels.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

namespace headroom::cli {
namespace {

TEST_CASE("weights of a query are the softmax over the rows it sees", "[cli][labels]") {
  model::AttentionSpec spec;
  spec.key.width = 2;
  spec.scale = 0.5f;
  // Keys two apart in rows of three numbers; the third is another head's.
  const std::vector<float> keys = {1, 2, 9, 0, -1, 9, 3, 0, 9, 1, 1, 9};
  const float query[] = {2, 4};
  const double logits[] = {5, -2, 3, 3};  // 0.5 (2 k0 + 4 k1)
  const auto check = [&](const std::vector<size_t>& rows, const std::vector<double>& of) {
    const std::vector<double> weights = AttentionWeights(spec, query, keys.data(), 3, 4);
    double sum = 0;
    for (const size_t row : rows) sum += std::exp(of[row]);
    for (size_t row = 0; row < 4; ++row) {
      const bool seen = std::count(rows.begin(), rows.end(), row) != 0;
      CHECK(std::abs(weights[row] - (seen ? std::exp(of[row]) / sum : 0)) < 1e-12);
    }
  };
  const std::vector<double> plain(logits, logits + 4);
  check({0, 1, 2, 3}, plain);
  spec.left = 1;
  check({2, 3}, plain);
  spec.sinks = 1;
  check({0, 2, 3}, plain);
  spec.softcap = 4;
  std::vector<double> capped;
  for (const double logit : logits) capped.push_back(4 * std::tanh(logit / 4));
  check({0, 2, 3}, capped);
}

TEST_CASE("labels above 1 - x are the first x by induction and x / 14 by echo", "[cli][labels]") {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> score(0, 1);
  HeadLabels echo(10), induction(10);
  for (int layer = 0; layer < 10; ++layer) {
    for (int head = 0; head < 10; ++head) {
      echo[layer].push_back(score(random));
      induction[layer].push_back(score(random));
    }
  }
  const HeadLabels labels = CombineScores(echo, induction);
  // How many heads score higher.
  const auto before = [](const HeadLabels& scores, double value) {
    int count = 0;
    for (const auto& layer : scores) {
      for (const double other : layer) count += other > value ? 1 : 0;
    }
    return count;
  };
  for (const int percent : {14, 28, 56}) {  // the paper's is the first
    for (size_t layer = 0; layer < 10; ++layer) {
      for (size_t head = 0; head < 10; ++head) {
        const bool wanted = before(induction, induction[layer][head]) < percent ||
                            before(echo, echo[layer][head]) < percent / 14;
        CHECK((labels[layer][head] > 1 - percent / 100.0 + 1e-9) == wanted);
      }
    }
  }
}

}  // namespace
}  // namespace headroom::cli
