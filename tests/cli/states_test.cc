// The shipped examples that keep states in place of rows: a hybrid, whose softmax layer is one of
// four, and one of linear attention alone.
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

nlohmann::json Plan(const std::string& model, uint32_t context) {
  return Run({"plan", Model(model), "--context", std::to_string(context), "--kv", "f16", "--chunk",
              "64", "--json"})
      .Json()
      .at("plan");
}

uint64_t Rows(const std::string& model, uint32_t context) {
  return Plan(model, context).at("state_bytes");
}
uint64_t States(const std::string& model, uint32_t context) {
  return Plan(model, context).at("recurrent_bytes");
}

TEST_CASE("what linear attention holds does not grow with the text", "[cli][example][linear]") {
  for (const char* model : {"hybrid", "recurrent"}) {
    INFO(model);
    CHECK(States(model, 512) > 0);
    CHECK(States(model, 512) == States(model, 8192));
  }
  CHECK(3 * States("recurrent", 512) == 4 * States("hybrid", 512));
  CHECK(Rows("recurrent", 8192) == 0);
  CHECK(States("example", 8192) == 0);
  CHECK(4 * Rows("hybrid", 8192) == Rows("example", 8192));
  // The tokens themselves are kept, 4 bytes each.
  const uint64_t small = Plan("recurrent", 512).at("private_bytes");
  CHECK(Plan("recurrent", 8192).at("private_bytes") == small + 4 * (8192 - 512));
}

TEST_CASE("a refusal names a cache only where one is kept", "[cli][example][linear]") {
  for (const bool rows : {false, true}) {
    const auto run =
        Run({"run", Model(rows ? "hybrid" : "recurrent"), "--prompt", "a", "--budget", "5M"});
    CHECK(run.exit_status == 3);
    CHECK(run.err.find("bytes missing") != std::string::npos);
    CHECK((run.err.find(", cache ") != std::string::npos) == rows);
  }
}

double Accuracy(const std::string& model, uint32_t distance, const std::string& kv) {
  const auto result = Run({"eval", "needle", Model(model), "--distance", std::to_string(distance),
                           "--limit", "24", "--kv", kv, "--json"})
                          .Json()
                          .at("results")
                          .at(0);
  REQUIRE(result.at("questions") == 24);
  return result.at("accuracy");
}

TEST_CASE("the hybrid and the recurrent example answer from far back", "[cli][example][linear]") {
  CHECK(Accuracy("hybrid", 500, "f16") >= 0.95);
  CHECK(Accuracy("hybrid", 4000, "f16") >= 0.9);
  CHECK(Accuracy("recurrent", 500, "auto") >= 0.9);
  CHECK(Accuracy("recurrent", 4000, "auto") >= 0.6);
}

TEST_CASE("the hybrid's rows take the profiles that were measured for them",
          "[cli][example][linear]") {
  const auto profiles = Run({"inspect", Model("hybrid"), "--json"}).Json().at("profiles");
  REQUIRE(profiles.size() >= 3);
  double before = 1;
  for (const auto& profile : profiles) {
    const auto quality = profile.at("quality").at(0);
    CHECK(quality.at("metric") == "accuracy");
    CHECK(quality.at("value") <= before);
    before = quality.at("value");
  }
  const std::string least = profiles.back().at("name");
  CHECK(Accuracy("hybrid", 4000, least) >= Accuracy("hybrid", 4000, "full"));
}

}  // namespace
}  // namespace headroom::cli_test
