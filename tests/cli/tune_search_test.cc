// The search of `headroom tune`, against trying everything.
#include "headroom/tune_search.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <random>

#include "headroom/tune_report.h"

namespace headroom::cli {
namespace {

// 3 units with 4 roles, some of which are impossible.
Choices RandomChoices(uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> part(0, 1);
  Choices choices(3, std::vector<Choice>(4));
  for (auto& unit : choices) {
    unit[0] = {true, 100, 0};
    for (size_t role = 1; role < 4; ++role) {
      unit[role] = {part(random) < 0.8, 90 * part(random), part(random)};
    }
  }
  return choices;
}

// Calls visit(bytes, loss) for every assignment that is possible.
template <typename Visit>
void Everything(const Choices& choices, size_t unit, double bytes, double loss, Visit visit) {
  if (unit == choices.size()) return visit(bytes, loss);
  for (const Choice& choice : choices[unit]) {
    if (choice.possible) {
      Everything(choices, unit + 1, bytes + choice.bytes, loss + choice.loss, visit);
    }
  }
}

TEST_CASE("no assignment beats a step of the way down", "[cli][tune]") {
  const Choices choices = RandomChoices(GENERATE(range(0u, 50u)));
  const std::vector<Assignment> path = Descend(choices);
  double least = 1e9;
  Everything(choices, 0, 0, 0, [&](double bytes, double) { least = std::min(least, bytes); });
  CHECK(path.front().roles == std::vector<uint8_t>{0, 0, 0});
  CHECK(std::abs(path.back().bytes - least) < 1e-9);
  for (size_t i = 0; i < path.size(); ++i) {
    double bytes = 0, loss = 0;
    for (size_t unit = 0; unit < 3; ++unit) {
      REQUIRE(choices[unit][path[i].roles[unit]].possible);
      bytes += choices[unit][path[i].roles[unit]].bytes;
      loss += choices[unit][path[i].roles[unit]].loss;
    }
    CHECK(std::abs(bytes - path[i].bytes) < 1e-9);
    CHECK(std::abs(loss - path[i].loss) < 1e-9);
    if (i > 0) CHECK(path[i].bytes < path[i - 1].bytes);
    Everything(choices, 0, 0, 0, [&](double other, double other_loss) {
      if (other <= bytes + 1e-9) CHECK(other_loss >= loss - 1e-9);
    });
  }
}

TEST_CASE("a choice that measured better than everything is free", "[cli][tune]") {
  const Choices choices = {{{true, 100, 0}, {true, 60, -0.01}, {true, 20, 0.5}},
                           {{true, 100, 0}, {false, 1, 0}, {true, 50, 0.1}}};
  const std::vector<Assignment> path = Descend(choices);
  REQUIRE(path.size() == 4);
  CHECK(path[1].roles == std::vector<uint8_t>{1, 0});
  CHECK(path[2].roles == std::vector<uint8_t>{1, 2});  // 0.1 / 50 before 0.51 / 40
  CHECK(path[3].roles == std::vector<uint8_t>{2, 2});
}

TEST_CASE("bytes wanted are met by the first step below them, each step once", "[cli][tune]") {
  const std::vector<Assignment> path = {{{}, 100, 0}, {{}, 70, 1}, {{}, 40, 2}, {{}, 10, 3}};
  const std::vector<Assignment> picked = Pick(path, {100, 75, 70, 60, 45, 10, 5});
  REQUIRE(picked.size() == 4);
  CHECK(picked[0].bytes == 100);
  CHECK(picked[1].bytes == 70);
  CHECK(picked[2].bytes == 40);
  CHECK(picked[3].bytes == 10);
}

TEST_CASE("what something smaller equals is not worth its bytes", "[cli][tune]") {
  //                                  0             1             2             3              4
  const std::vector<Measured> all = {{100, 1, 0},    {50, 1, 0.1},   {40, 1, 0.1},  {30, 0.8, 0.05},
                                     {20, 0.9, 0.3}, {20, 0.9, 0.2}, {10, 0.9, 0.4}};
  // 1: 2 is smaller and the same. 3: 5 finds more. 4: 5 has its bytes and less loss.
  CHECK(WorthTheirBytes(all) == std::vector<size_t>{0, 2, 5, 6});
  CHECK(WorthTheirBytes({}).empty());
}

TEST_CASE("the page shows every profile, and names cannot become markup", "[cli][tune]") {
  TuneReport report;
  report.model = "<script>x</script>";
  report.yardstick = report.judge = "a \"text\" & more";
  report.roles = {"f16", "int8"};
  report.units = {{0, {1}}};
  report.choices = {{{true, 100, 0}, {true, 50, 0.25}}};
  report.profiles.push_back({"full", "f16", {{0}, 100, 0}, 100, 1.0, 1.0, 0.0});
  report.profiles.push_back({"50%", "int8<b>", {{1}, 50, 0.25}, 50, 0.5, 0.75, 0.3});
  report.profiles.push_back({"", "left out", {{1}, 50, 0.25}, 50, 0.5, 0.5, 0.4});
  const std::string page = TunePage(report);
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(page, !ContainsSubstring("<script") && !ContainsSubstring("<b>"));
  CHECK_THAT(page, ContainsSubstring("&lt;script&gt;") &&
                       ContainsSubstring("a &quot;text&quot; &amp; more"));
  CHECK_THAT(page, ContainsSubstring(">50%</text>") && ContainsSubstring("75.0 %"));
  CHECK_THAT(page, ContainsSubstring("<th>0.1") && ContainsSubstring("0.25"));
  CHECK_THAT(page, !ContainsSubstring("http://") || ContainsSubstring("www.w3.org"));
  const Json json = TuneJson(report);
  CHECK(json.at("profiles").size() == 3);
  CHECK(json.at("profiles")[1].at("accuracy") == 0.75);
  CHECK(json.at("profiles")[2].at("kept") == false);
  CHECK(json.at("units")[0].at("kl")[1] == 0.25);
}

}  // namespace
}  // namespace headroom::cli
