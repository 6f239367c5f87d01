// Wrong routers, given to the tester of the right one.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <vector>

#include "support/mixture_tester.h"

namespace headroom::mutants {
namespace {

using namespace test;  // NOLINT: the testers
using ops::Choice;
using ops::ExpertScore;
using ops::RouterSpec;

enum class Bug {
  kNone,
  kNeverNormalised,
  kAlwaysNormalised,
  kLastOfEquals,
  kScaleDropped,
  kBiasDropped,
  kBiasWeighs,
  kSoftmaxOverChosen,
  kSoftmaxOverAll,
  kSigmoidDropped,
  kGroupsIgnored,
  kGroupsByBest,
  kOrderOfMerit,
  kNotDivided,
  kOneTooFew
};

// Bends the specification or the result of the right kernel; what cannot be said so is said by
// other logits.
template <Bug kBug>
void Wrong(const RouterSpec& right, float* logits, Choice* choices) {
  RouterSpec spec = right;
  const std::vector<float> before(logits, logits + spec.experts);
  if (kBug == Bug::kNeverNormalised) spec.renormalise = false;
  if (kBug == Bug::kAlwaysNormalised) spec.renormalise = true;
  if (kBug == Bug::kScaleDropped) spec.scale = 1.0f;
  if (kBug == Bug::kBiasDropped) spec.choice_bias = nullptr;
  if (kBug == Bug::kSoftmaxOverChosen && spec.score == ExpertScore::kSoftmax)
    spec.score = ExpertScore::kChosenSoftmax;
  if (kBug == Bug::kSoftmaxOverAll && spec.score == ExpertScore::kChosenSoftmax)
    spec.score = ExpertScore::kSoftmax;
  if (kBug == Bug::kSigmoidDropped && spec.score == ExpertScore::kSigmoid)
    spec.score = ExpertScore::kSoftmax;
  if (kBug == Bug::kGroupsIgnored) spec.groups = spec.top_groups = 1;
  if (kBug == Bug::kGroupsByBest) spec.group_best = 1;
  if (kBug == Bug::kLastOfEquals) {
    for (uint32_t e = 0; e < spec.experts; ++e) {
      logits[e] += 1e-4f * static_cast<float>(e) / static_cast<float>(spec.experts);
    }
  }
  ops::Route(spec, logits, choices);
  if (kBug == Bug::kBiasWeighs && spec.choice_bias != nullptr) {
    for (uint32_t i = 0; i < spec.chosen; ++i) {
      choices[i].weight += spec.scale * spec.choice_bias[choices[i].expert];
    }
  }
  if (kBug == Bug::kOrderOfMerit) {
    std::stable_sort(choices, choices + spec.chosen,
                     [&](const Choice& a, const Choice& b) { return a.weight > b.weight; });
  }
  if (kBug == Bug::kNotDivided) {  // by the sum of the softmax
    for (uint32_t i = 0; i < spec.chosen; ++i) {
      choices[i].weight = std::exp(before[choices[i].expert]) * spec.scale;
    }
  }
  if (kBug == Bug::kOneTooFew && spec.chosen > 1) choices[spec.chosen - 1] = choices[0];
}

bool Rejected(const RouteKernel& kernel) {
  const std::vector<RouteCase> cases = RouteCases();
  return std::any_of(cases.begin(), cases.end(),
                     [&](const RouteCase& c) { return !TestRoute(kernel, c).accepted(); });
}

TEST_CASE("every wrong router is rejected, the right one is not", "[mutant][mixture]") {
  CHECK_FALSE(Rejected(Wrong<Bug::kNone>));
  CHECK(Rejected(Wrong<Bug::kNeverNormalised>));
  CHECK(Rejected(Wrong<Bug::kAlwaysNormalised>));
  CHECK(Rejected(Wrong<Bug::kLastOfEquals>));
  CHECK(Rejected(Wrong<Bug::kScaleDropped>));
  CHECK(Rejected(Wrong<Bug::kBiasDropped>));
  CHECK(Rejected(Wrong<Bug::kBiasWeighs>));
  CHECK(Rejected(Wrong<Bug::kSoftmaxOverChosen>));
  CHECK(Rejected(Wrong<Bug::kSoftmaxOverAll>));
  CHECK(Rejected(Wrong<Bug::kSigmoidDropped>));
  CHECK(Rejected(Wrong<Bug::kGroupsIgnored>));
  CHECK(Rejected(Wrong<Bug::kGroupsByBest>));
  CHECK(Rejected(Wrong<Bug::kOrderOfMerit>));
  CHECK(Rejected(Wrong<Bug::kNotDivided>));
  CHECK(Rejected(Wrong<Bug::kOneTooFew>));
}

}  // namespace
}  // namespace headroom::mutants
