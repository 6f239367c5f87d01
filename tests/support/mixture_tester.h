// Tester of routing: logits of every character through a kernel of ops::Route's signature, compared
// with the oracle; product and mutants alike.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/mixture.h"
#include "oracle/mixture.h"
#include "support/compare.h"
#include "support/tolerance.h"

namespace headroom::test {

using RouteKernel = std::function<void(const ops::RouterSpec&, float* logits, ops::Choice*)>;

struct RouteCase {
  uint32_t experts = 1, chosen = 1;
  ops::ExpertScore score = ops::ExpertScore::kSoftmax;
  bool renormalise = false, biased = false;
  uint32_t groups = 1, top_groups = 1, group_best = 1;
};

inline std::string Describe(const RouteCase& c) {
  return "E " + std::to_string(c.experts) + " k " + std::to_string(c.chosen) + " score " +
         std::to_string(static_cast<int>(c.score)) + (c.renormalise ? " renormalised" : "") +
         (c.biased ? " biased" : "") + " groups " + std::to_string(c.top_groups) + " of " +
         std::to_string(c.groups) + " by " + std::to_string(c.group_best);
}

inline std::vector<RouteCase> RouteCases() {
  using enum ops::ExpertScore;
  std::vector<RouteCase> cases;
  for (const auto score : {kSoftmax, kChosenSoftmax, kSigmoid}) {
    for (const bool renormalise : {false, true}) {
      if (renormalise && score == kChosenSoftmax) continue;  // sums to one anyway
      for (const bool biased : {false, true}) {
        for (const auto& [experts, chosen] :
             {std::pair(1u, 1u), {2u, 1u}, {5u, 5u}, {8u, 2u}, {60u, 4u}, {127u, 9u}, {256u, 8u}}) {
          cases.push_back({experts, chosen, score, renormalise, biased});
        }
        cases.push_back({16, 3, score, renormalise, biased, 4, 2, 2});
        cases.push_back({64, 8, score, renormalise, biased, 8, 4, 2});
        cases.push_back({12, 4, score, renormalise, biased, 3, 1, 1});
      }
    }
  }
  return cases;
}

// Rows in which scores tie, differ by little, by much, and are all alike.
inline std::vector<float> RouterLogits(uint32_t experts, uint32_t row, std::mt19937& random) {
  std::uniform_int_distribution<int> step(-24, 24);
  const float spread = row % 4 == 0 ? 0.125f : row % 4 == 1 ? 1.0f : 0.02f;
  std::vector<float> logits;
  for (uint32_t e = 0; e < experts; ++e) {
    logits.push_back(row % 4 == 3 ? 0.75f : spread * static_cast<float>(step(random)));
  }
  return logits;
}

inline oracle::Router OracleRouter(const ops::RouterSpec& spec) {
  oracle::Router router{spec.experts,
                        spec.chosen,
                        static_cast<oracle::ExpertScore>(static_cast<int>(spec.score)),
                        spec.renormalise,
                        spec.scale,
                        {},
                        spec.groups,
                        spec.top_groups,
                        spec.group_best};
  if (spec.choice_bias != nullptr) {
    router.choice_bias.assign(spec.choice_bias, spec.choice_bias + spec.experts);
  }
  return router;
}

// Whether another choice would be right too, as far as f32 can tell: moves every score by what
// rounding may and looks.
inline bool ChoiceIsClear(const oracle::Router& router, const std::vector<double>& logits,
                          const oracle::Routed& exact) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> shift(-kScoreTie, kScoreTie);
  for (int attempt = 0; attempt < 8; ++attempt) {
    oracle::Router moved = router;
    moved.choice_bias.resize(logits.size(), 0.0);
    // Equal logits with equal biases stay equal.
    std::vector<std::pair<std::pair<double, double>, double>> seen;
    for (size_t e = 0; e < logits.size(); ++e) {
      const std::pair key(logits[e], moved.choice_bias[e]);
      auto found = std::find_if(seen.begin(), seen.end(),
                                [&](const auto& entry) { return entry.first == key; });
      if (found == seen.end()) found = seen.insert(seen.end(), {key, shift(random)});
      moved.choice_bias[e] += found->second * std::max(1.0, std::fabs(logits[e]));
    }
    if (oracle::Route(moved, logits).chosen != exact.chosen) return false;
  }
  return true;
}

inline Verdict TestRoute(const RouteKernel& kernel, const RouteCase& c) {
  constexpr uint32_t kRows = 16;
  std::mt19937 random(c.experts * 31 + c.chosen);
  std::uniform_int_distribution<int> step(-4, 4);
  std::vector<float> bias;
  for (uint32_t e = 0; e < c.experts; ++e) bias.push_back(0.25f * static_cast<float>(step(random)));
  ops::RouterSpec spec{c.experts,     c.chosen,     c.score,
                       c.renormalise, 1.5f,         c.biased ? bias.data() : nullptr,
                       c.groups,      c.top_groups, c.group_best};
  Verdict verdict;
  for (uint32_t row = 0; row < kRows; ++row) {
    std::vector<float> logits = RouterLogits(c.experts, row, random);
    const std::vector<double> exact_logits(logits.begin(), logits.end());
    const oracle::Routed exact = oracle::Route(OracleRouter(spec), exact_logits);
    if (!ChoiceIsClear(OracleRouter(spec), exact_logits, exact)) continue;
    std::vector<ops::Choice> found(c.chosen + 1, ops::Choice{777777, NAN});
    kernel(spec, logits.data(), found.data());
    const std::string where = Describe(c) + " row " + std::to_string(row);
    if (found.back().expert != 777777) verdict.Fail(where + ": written past the end");
    const double largest = *std::max_element(exact_logits.begin(), exact_logits.end());
    for (uint32_t i = 0; i < c.chosen; ++i) {
      const uint32_t e = exact.chosen[i];
      if (found[i].expert != e) {
        verdict.Fail(where + ": choice " + std::to_string(i) + " is " +
                     std::to_string(found[i].expert) + ", expected " + std::to_string(e));
      }
      const double exponent = std::max(largest - exact_logits[e], std::fabs(exact_logits[e]));
      verdict.Check(found[i].weight, exact.weights[e],
                    ExpertWeightAllowance(exact.weights[e], exponent, c.experts),
                    where + " expert " + std::to_string(e));
    }
  }
  return verdict;
}

}  // namespace headroom::test
