// Routing, counting sort and the small loops of a mixture of experts.
#include "ops/mixture.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "support/mixture_tester.h"

namespace headroom::test {
namespace {

using ops::Choice;

TEST_CASE("routing chooses and weighs as the oracle does", "[mixture]") {
  for (const RouteCase& c : RouteCases()) {
    const Verdict verdict = TestRoute(ops::Route, c);
    INFO(Describe(c) << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("of equal scores the lowest index is chosen", "[mixture]") {
  for (const auto score :
       {ops::ExpertScore::kSoftmax, ops::ExpertScore::kChosenSoftmax, ops::ExpertScore::kSigmoid}) {
    ops::RouterSpec spec;
    spec.experts = 6;
    spec.chosen = 3;
    spec.score = score;
    float logits[] = {1.0f, 2.0f, 2.0f, 1.0f, 2.0f, 2.0f};
    Choice choices[3];
    ops::Route(spec, logits, choices);
    CHECK(choices[0].expert == 1);
    CHECK(choices[1].expert == 2);
    CHECK(choices[2].expert == 4);
    CHECK(choices[0].weight == choices[2].weight);
  }
}

TEST_CASE("a score that is no number is chosen last", "[mixture]") {
  ops::RouterSpec spec;
  spec.experts = 4;
  spec.chosen = 2;
  spec.score = ops::ExpertScore::kChosenSoftmax;
  float logits[] = {NAN, -INFINITY, -3.0f, -4.0f};
  Choice choices[2];
  ops::Route(spec, logits, choices);
  CHECK(choices[0].expert == 2);
  CHECK(choices[1].expert == 3);
  float none[] = {NAN, NAN, NAN, NAN};
  ops::Route(spec, none, choices);  // some expert, none twice
  CHECK(choices[0].expert < choices[1].expert);
  CHECK(choices[1].expert < 4);
}

TEST_CASE("sigmoids that are all 0 give weights of 0, not of NaN", "[mixture]") {
  ops::RouterSpec spec;
  spec.experts = 3;
  spec.chosen = 2;
  spec.score = ops::ExpertScore::kSigmoid;
  spec.renormalise = true;
  float logits[] = {-200.0f, -300.0f, -250.0f};
  Choice choices[2];
  ops::Route(spec, logits, choices);
  CHECK(choices[0].weight == 0.0f);
  CHECK(choices[1].weight == 0.0f);
}

TEST_CASE("sorting groups the choices by expert and keeps the order of tokens", "[mixture]") {
  std::mt19937 random(5);
  for (const uint32_t experts : {1u, 2u, 7u, 64u}) {
    for (const uint32_t count : {0u, 1u, 5u, 300u}) {
      std::vector<Choice> choices(count);
      for (Choice& choice : choices) choice.expert = static_cast<uint32_t>(random() % experts);
      std::vector<uint32_t> begin(experts + 1, 99), order(count);
      ops::SortByExpert(choices.data(), count, experts, begin.data(), order.data());
      std::vector<uint32_t> expected(count);
      std::iota(expected.begin(), expected.end(), 0u);
      std::stable_sort(expected.begin(), expected.end(), [&](uint32_t a, uint32_t b) {
        return choices[a].expert < choices[b].expert;
      });
      CHECK(order == expected);
      CHECK(begin[0] == 0);
      CHECK(begin[experts] == count);
      for (uint32_t e = 0; e < experts; ++e) {
        REQUIRE(begin[e] <= begin[e + 1]);
        for (uint32_t i = begin[e]; i < begin[e + 1]; ++i) CHECK(choices[order[i]].expert == e);
      }
    }
  }
}

TEST_CASE("gates are limited above, ups on both sides, then offset", "[mixture]") {
  float gate[] = {-9.0f, 6.0f, 8.0f}, up[] = {-9.0f, 6.0f, 8.0f};
  ops::LimitGate(gate, up, 3, 7.0f, 1.0f);
  CHECK(gate[0] == -9.0f);
  CHECK(gate[1] == 6.0f);
  CHECK(gate[2] == 7.0f);
  CHECK(up[0] == -6.0f);
  CHECK(up[1] == 7.0f);
  CHECK(up[2] == 8.0f);
  ops::LimitGate(gate, up, 3, 0.0f, 0.0f);
  CHECK(gate[0] == -9.0f);
  CHECK(up[2] == 8.0f);
}

}  // namespace
}  // namespace headroom::test
