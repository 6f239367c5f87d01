// The shipped example model: its measured profiles, and what a user gets of them.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Strings = std::vector<std::string>;

constexpr uint32_t kLongestDistance = 4000;
const std::string kTask = "needles " + std::to_string(kLongestDistance) + " tokens back";

// At the context that they were tuned at; best first.
nlohmann::json StoredProfiles() {
  const auto inspected = Run({"inspect", Model("example"), "--json"}).Json().at("profiles");
  REQUIRE(inspected.size() >= 4);
  const auto quality = inspected[0].at("quality");
  REQUIRE(quality.size() >= 1);
  const std::string context = std::to_string(quality[0].at("context_tokens").get<uint32_t>());
  return Run({"plan", Model("example"), "--context", context, "--json"}).Json().at("profiles");
}

// The best whose state is at most this share of the f16 bytes.
nlohmann::json BestWithin(double share) {
  for (const auto& profile : StoredProfiles()) {
    if (profile.at("share_of_f16") <= share) return profile;
  }
  FAIL("no profile takes at most " << share << " of the f16 bytes");
  return {};
}

TEST_CASE("the example's profiles promise the answers that compression may cost",
          "[cli][example]") {
  struct Case {
    double share, accuracy;
  };
  for (const Case& c : {Case{1, 1}, Case{0.25, 0.98}, Case{0.125, 0.90}}) {
    INFO("of the f16 bytes: " << c.share);
    const auto quality = BestWithin(c.share).at("quality");
    CHECK(quality.at("task") == kTask);
    CHECK(quality.at("metric") == "accuracy");
    CHECK(quality.at("value").get<double>() >= c.accuracy);
    CHECK(quality.at("reference") == 1.0);
  }
  double before = 1, bytes = 2;
  for (const auto& profile : StoredProfiles()) {
    CHECK(profile.at("quality").at("value") <= before);
    CHECK(profile.at("share_of_f16") < bytes);
    before = profile.at("quality").at("value");
    bytes = profile.at("share_of_f16");
  }
}

TEST_CASE("a quarter of the example's cache finds needles 4,000 tokens back", "[cli][example]") {
  const std::string name = BestWithin(0.25).at("kv");
  const auto result = Run({"eval", "needle", Model("example"), "--kv", name, "--distance",
                           std::to_string(kLongestDistance), "--limit", "8", "--json"})
                          .Json()
                          .at("results")
                          .at(0);
  CHECK(result.at("kv") == name);
  CHECK(result.at("questions") == 8);
  CHECK(result.at("accuracy") == 1.0);
  CHECK(4 * result.at("bytes").get<uint64_t>() <= result.at("f16_bytes").get<uint64_t>());
}

TEST_CASE("a larger budget never gives the example a worse cache", "[cli][example]") {
  double before = -1;
  Strings seen;
  for (const char* budget : {"7M", "7.6M", "8M", "11M", "13M", "24M"}) {
    const auto plan =
        Run({"plan", Model("example"), "--budget", budget, "--json"}).Json().at("plan");
    INFO(budget << ": " << plan.dump());
    CHECK(plan.at("fits") == true);
    CHECK(plan.at("context_tokens") == 8192);  // the budget takes quality first, not room
    CHECK(plan.at("quality").at("value") >= before);
    before = plan.at("quality").at("value");
    const std::string kv = plan.at("kv");
    if (seen.empty() || seen.back() != kv) seen.push_back(kv);
  }
  CHECK(seen.size() == 6);
  CHECK(seen.back() == "full");
}

TEST_CASE("plan lists the example's profiles with what they cost and are worth", "[cli][example]") {
  const std::string out = Run({"plan", Model("example"), "--budget", "8M"}).out;
  for (const auto& profile : StoredProfiles()) {
    CHECK_THAT(out, ContainsSubstring("\n  " + std::string(profile.at("kv")) + " ") ||
                        ContainsSubstring("\n* " + std::string(profile.at("kv")) + " "));
  }
  CHECK_THAT(out, ContainsSubstring("\n* 14.6%") && ContainsSubstring("0.97 (1): " + kTask) &&
                      ContainsSubstring("at the context of its tuning"));
  // Past what the model was trained for nothing is promised; a model without profiles lists none.
  const Strings far = {"plan",  Model("example"), "--context",
                       "20000", "--kv",           "int8 window rows=256 relative"};
  CHECK_THAT(Run(far).out, !ContainsSubstring("Profiles of the model"));
  CHECK_THAT(Run({"plan", Model("mistral")}).out, !ContainsSubstring("Profiles of the model"));
  CHECK(Run({"plan", Model("mistral"), "--json"}).Json().at("profiles").empty());
}

TEST_CASE("inside a small budget the example answers from a long text", "[cli][example]") {
  const std::string prompt = Scratch("asked.txt");
  const auto question =
      nlohmann::json::parse(ReadFile(Source("tools/example/demo.json"))).at("questions").at(0);
  WriteFile(prompt,
            ReadFile(Source("tools/example/demo.txt")) + question.at("prompt").get<std::string>());
  const auto run = Run({"run", Model("example"), "--prompt-file", prompt, "--budget", "8M",
                        "--max-tokens", "16", "--stop", "\\n", "--json"})
                       .Json();
  CHECK(run.at("text") == question.at("answer"));
  CHECK(run.at("plan").at("kv") == BestWithin(0.25).at("kv"));

  const auto chat = [](const Strings& more) {
    Strings arguments = {"chat",       Model("example"),
                         "--template", "question-answer",
                         "--system",   "Maria lives in Lisbon.\nTom lives in Rome."};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Streams streams;
    streams.stdin_text = "Where does Maria live?\nWhere does Tom live?\n";
    return Run(arguments, {}, streams).out;
  };
  const std::string small = chat({"--budget", "8M"});
  CHECK_THAT(small, Catch::Matchers::StartsWith(" Lisbon\n"));
  CHECK(small == chat({"--kv", "f32"}));
}

TEST_CASE("eval asks every profile of the example", "[cli][example]") {
  const auto results = Run({"eval", "needle", Model("example"), "--all-profiles", "--distance",
                            "500", "--limit", "1", "--json"})
                           .Json()
                           .at("results");
  const auto profiles = StoredProfiles();
  REQUIRE(results.size() == profiles.size());
  for (size_t i = 0; i < profiles.size(); ++i) {
    CHECK(results[i].at("kv") == profiles[i].at("kv"));
    CHECK(results[i].at("accuracy") == 1.0);
  }
}

}  // namespace
}  // namespace headroom::cli_test
