// headroom tune, and what the profiles that it writes are good for.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;

constexpr char kText[] =
    "The code of the upper office is 1 5 5 2. Simon has a parrot named Pepper. In winter the train "
    "to Parma "
    "leaves from platform eight. Molly lives in Quebec. For many years Adam worked as a driver.\n";

std::string Text(int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += kText;
  const std::string path = Scratch("text.txt");
  WriteFile(path, text);
  return path;
}

TEST_CASE("tune by a text writes profiles that plan, run and eval use", "[cli][tune]") {
  const std::string tuned = Scratch("tuned.hrm"), page = Scratch("tuned.html");
  const auto json = Run({"tune",      Model("example"),
                         "--text",    Text(12),
                         "--window",  "128",
                         "--by",      "layer",
                         "--role",    "int8",
                         "--role",    "int4/32",
                         "--role",    "int8 window rows=16",
                         "--out",     tuned,
                         "--page",    page,
                         "--most-kl", "3",
                         "--json"})
                        .Json();
  REQUIRE(json.at("units").size() == 4);
  REQUIRE(json.at("units")[0].at("kl").size() == 4);
  CHECK(json.at("units")[0].at("kl")[0] == 0.0);
  CHECK(json.at("units")[0].at("kl")[2] >
        json.at("units")[0].at("kl")[1]);  // 4 bits cost more than 8
  CHECK_THAT(ReadFile(page), ContainsSubstring("<svg") && ContainsSubstring("int8 window rows=16"));

  // The file's profiles are those that were kept, in this order.
  std::vector<std::string> kept;
  double share = 2, loss = -1;
  for (const auto& profile : json.at("profiles")) {
    if (profile.at("kept") == false) continue;
    kept.push_back(profile.at("name"));
    CHECK(profile.at("share") < share);
    CHECK(profile.at("kl") > loss);
    share = profile.at("share");
    loss = profile.at("kl");
  }
  REQUIRE(kept.size() >= 3);
  CHECK(kept[0] == "full");
  const auto evaluated = Run({"eval", "needle", tuned, "--all-profiles", "--distance", "500",
                              "--limit", "1", "--json"})
                             .Json();
  REQUIRE(evaluated.at("results").size() == kept.size());
  for (size_t i = 0; i < kept.size(); ++i) CHECK(evaluated.at("results")[i].at("kv") == kept[i]);
  CHECK(evaluated.at("results")[0].at("bytes") == evaluated.at("results")[0].at("f16_bytes"));

  // More bytes, a better profile; the plan says what it is worth and what the next one takes.
  const auto plenty =
      Run({"plan", tuned, "--context", "512", "--chunk", "8", "--json"}).Json().at("plan");
  CHECK(plenty.at("kv") == "full");
  const uint64_t total = plenty.at("total_bytes");
  const auto less = Run({"plan", tuned, "--context", "512", "--budget",
                         std::to_string(total - 20000), "--chunk", "8", "--json"})
                        .Json()
                        .at("plan");
  CHECK(less.at("kv") != "full");
  CHECK(less.at("better_kv") != "");
  CHECK(Run({"plan", tuned, "--kv", kept.back(), "--context", "512"}).exit_status == 0);
  CHECK(Run({"verify", tuned}).exit_status == 0);
}

TEST_CASE("a table of heads tells tune which of them look far back", "[cli][tune]") {
  const std::string table = Scratch("heads.tsv");
  WriteFile(table, "0.1 0.2\n0.9 1.0\n0.0 0.1\n0.3\t0.2\n");
  const auto json =
      Run({"tune", Model("example"), "--heads", table, "--distance", "500", "--limit", "1",
           "--role", "int8", "--role", "int8 window rows=16", "--least-accuracy", "0", "--json"})
          .Json();
  // With a quarter of the heads whole, those are 1.0 and 1.1.
  bool found = false;
  for (const auto& profile : json.at("profiles")) {
    const std::string kv = profile.at("kv");
    found |= kv == "int8 window rows=16; heads=1.0+1.1 f16" ||
             kv == "int8 window rows=16; heads=1.0+1.1 int8";
    CHECK(kv.find("heads=0.0 ") == std::string::npos);
  }
  CHECK(found);
  struct Case {
    const char* text;
    const char* says;
  };
  for (const Case& c :
       {Case{"0.1 0.2\n0.9 x\n0 0\n0 0\n", "line 2"}, Case{"0.1 nan\n0 0\n0 0\n0 0\n", "nan"},
        Case{"0.1 0.2\n0.9 1\n0 0\n", "3.0"}, Case{"0 0 1\n0 0\n0 0\n0 0\n", "9 labels"}}) {
    WriteFile(table, c.text);
    const Outcome outcome =
        Run({"tune", Model("example"), "--heads", table, "--distance", "500", "--limit", "1"});
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring(c.says));
  }
}

TEST_CASE("random tokens show which heads look things up", "[cli][tune][labels]") {
  const auto json = Run({"tune", Model("example"), "--label", "random", "--distance", "500",
                         "--limit", "1", "--role", "int8 window rows=16", "--json"})
                        .Json();
  // Measured one by one, windows for 1.0 and 1.1 alone lose answers.
  std::vector<double> labels;
  for (const auto& unit : json.at("units")) labels.push_back(unit.at("label"));
  REQUIRE(labels.size() == 8);
  for (size_t head : {0, 1, 4, 5, 6, 7}) {
    CHECK(labels[head] < labels[2]);
    CHECK(labels[head] < labels[3]);
  }
  // Few heads of this model look at the answer itself when they answer, so that scores are low.
  const auto needles = Run({"tune", Model("example"), "--label", "needles", "--distance", "500",
                            "--limit", "2", "--role", "int8 window rows=16", "--json"})
                           .Json();
  for (const auto& unit : needles.at("units")) {
    CHECK(unit.at("label") >= 0.0);
    CHECK(unit.at("label") <= 1.0);
  }
}

TEST_CASE("tune says what it cannot use and leaves the model alone", "[cli][tune]") {
  const std::string out = Scratch("never.hrm");
  const Outcome role = Run({"tune", Model("example"), "--role", "int9", "--distance", "500",
                            "--limit", "1", "--out", out});
  CHECK(role.exit_status == 1);
  CHECK_THAT(role.err, ContainsSubstring("int9"));
  const Outcome text = Run({"tune", Model("example"), "--text", Text(1), "--out", out});
  CHECK(text.exit_status == 1);
  CHECK_THAT(text.err, ContainsSubstring("fewer than two windows of 2048"));
  const Outcome distance = Run({"tune", Model("example"), "--distance", "17"});
  CHECK(distance.exit_status == 1);
  CHECK_THAT(distance.err, ContainsSubstring("4000"));
  CHECK(Run({"tune", Model("example"), "--by", "token"}).exit_status == 2);
  CHECK(Run({"verify", out}).exit_status == 1);
}

TEST_CASE("a model without cached rows is not tuned", "[cli][tune]") {
  const Outcome outcome = Run({"tune", Model("rwkv-7"), "--out", Scratch("none.hrm")});
  CHECK(outcome.exit_status == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("caches no rows"));
}

}  // namespace
}  // namespace headroom::cli_test
