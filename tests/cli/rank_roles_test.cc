// Ranks as roles of headroom tune: which are tried, and what follows from what is measured.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "headroom/tune_ranks.h"

namespace headroom::cli {
namespace {

using Ranks = std::vector<uint32_t>;

TEST_CASE("ranks are whole steps between three quarters and a quarter of a row",
          "[cli][tune][ranks]") {
  CHECK(RanksOf(0) == Ranks{});
  CHECK(RanksOf(8) == Ranks{});
  CHECK(RanksOf(16) == Ranks{8});
  CHECK(RanksOf(32) == Ranks{24, 16, 8});
  CHECK(RanksOf(64) == Ranks{48, 40, 32, 24, 16});
  CHECK(RanksOf(128) == Ranks{96, 80, 64, 48, 32});
}

TEST_CASE("every codec with every cut of both sides is measured or follows", "[cli][tune][ranks]") {
  std::vector<std::string> roles = {"f16", "int8 window rows=64", "int8"};
  const std::vector<Cut> cuts = OneSided({24, 16}, {8});
  REQUIRE(cuts.size() == 3);
  for (const Cut& cut : cuts) roles.push_back(CutRole("f16", cut));
  CHECK(roles[4] == "f16 keyrank=16");
  const auto combinations = CombinationsOf(roles, 3, cuts);
  std::set<std::string> all(roles.begin(), roles.end());
  for (const Combination& c : combinations) {
    CHECK(all.insert(c.role).second);
    if (c.role != "int8 keyrank=16 valuerank=8") continue;
    CHECK(c.codec == 2);
    CHECK(c.keys == 4);
    CHECK(c.values == 5);
  }
  CHECK(all.size() == 1 + 2 * 3 * 2);  // the window, and two codecs, three keys, two values
  CHECK(all.count("int8 keyrank=16 valuerank=8") == 1);
  CHECK(CombinationsOf({"f16", "int8"}, 2, {}).empty());
}

TEST_CASE("a combination is possible where its parts are and it saves something",
          "[cli][tune][ranks]") {
  std::vector<Choice> choices = {{true, 100, 0}, {true, 60, 1}, {true, 90, 2}, {true, 80, 4}};
  const Combination all{"int8 keyrank=8 valuerank=8", 1, 2, 3};
  const Choice choice = Combined(choices, all, 950, 1000);
  CHECK(choice.possible);
  CHECK(choice.bytes == 50);
  CHECK(choice.loss == 7);
  CHECK_FALSE(Combined(choices, all, 0, 1000).possible);
  CHECK_FALSE(Combined(choices, all, 1000, 1000).possible);
  choices[3].possible = false;
  CHECK_FALSE(Combined(choices, all, 950, 1000).possible);
}

}  // namespace
}  // namespace headroom::cli
