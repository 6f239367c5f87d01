// The memory contract, by the kernel's accounting of a real process.
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

constexpr uint64_t kAllowanceBytes = uint64_t{8} << 20;  // code, stacks, the C++ library

std::vector<std::string> LongRun(const std::vector<std::string>& more) {
  std::string prompt;
  while (prompt.size() < 4000) prompt += "The old lighthouse keeper counts seven ships. ";
  std::vector<std::string> arguments = {
      "run", Model("example"), "--prompt", prompt,   "--context",   "2048", "--threads",
      "2",   "--max-tokens",   "16",       "--json", "--ignore-end"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  sync();  // pages of a file just written count as dirty until they are on disk
  return arguments;
}

TEST_CASE("private dirty bytes of run stay within the plan and 8 MiB", "[cli][memory]") {
  for (const char* kv : {"f32", "f16", "int8"}) {
    for (const bool cached : {true, false}) {
      auto arguments = LongRun({"--kv", kv});
      if (!cached) arguments.push_back("--no-cache");
      const Outcome outcome = Run(arguments);
      INFO(kv << (cached ? " cached " : " not cached ") << outcome.err);
      REQUIRE(outcome.exit_status == 0);
      const auto json = outcome.Json();
      const auto planned = json.at("plan").at("private_bytes").get<uint64_t>();
      const auto dirty = json.at("measured").at("process_private_dirty_bytes").get<uint64_t>();
      CHECK(planned > 0);
      CHECK(dirty > 0);
      CHECK(dirty <= planned + kAllowanceBytes);
      CHECK(json.at("measured").at("arena_peak_bytes") ==
            json.at("measured").at("arena_planned_bytes"));
      CHECK(json.at("measured").at("arena_peak_bytes").get<uint64_t>() <= planned);
      // What is really used: the same but for pages at the ends, and for context left over.
      const auto touched = json.at("measured").at("arena_touched_bytes").get<uint64_t>();
      CHECK(touched > planned / 4);
      CHECK(touched <= planned + 2 * 4096);
    }
  }
}

TEST_CASE("run works under a hard limit of the plan and 8 MiB", "[cli][memory]") {
  const auto first = Run(LongRun({})).Json();  // packs the weights, says the plan
  Limits limits;
  limits.data_bytes = first.at("plan").at("private_bytes").get<uint64_t>() + kAllowanceBytes;
  const Outcome limited = Run(LongRun({}), limits);
  INFO(limited.err);
  REQUIRE(limited.exit_status == 0);
  CHECK(limited.Json().at("text") == first.at("text"));

  limits.data_bytes = first.at("plan").at("private_bytes").get<uint64_t>() / 2;
  const Outcome starved = Run(LongRun({"--kv", "f32"}), limits);
  CHECK(starved.exit_status != 0);
}

TEST_CASE("run under a budget never plans or measures more", "[cli][memory]") {
  const auto free_run = Run(LongRun({"--kv", "f16"})).Json();
  const auto total = free_run.at("plan").at("total_bytes").get<uint64_t>();
  const std::string budget = std::to_string(total - total / 10);
  const Outcome tight = Run(LongRun({"--budget", budget}));
  INFO(tight.err);
  REQUIRE(tight.exit_status == 0);
  const auto json = tight.Json();
  CHECK(json.at("plan").at("total_bytes").get<uint64_t>() <= std::stoull(budget));
  CHECK(json.at("measured").at("arena_peak_bytes") ==
        json.at("measured").at("arena_planned_bytes"));
}

TEST_CASE("pictures take what their plan says, at any size and batch", "[cli][memory]") {
  struct Case {
    const char *model, *size, *batch;
  };
  for (const Case& c : {Case{"pictures", "128", "1"}, Case{"pictures", "384x256", "4"},
                        Case{"pictures-int8", "128", "1"}, Case{"pictures-int8", "512", "2"}}) {
    for (const bool cached : {true, false}) {
      sync();
      std::vector<std::string> arguments = {"bench", Model(c.model), "--size", c.size, "--batch",
                                            c.batch, "--threads",    "2",      "-r",   "1",
                                            "--json"};
      if (!cached) arguments.push_back("--no-cache");
      const Outcome outcome = Run(arguments);
      INFO(c.model << " " << c.size << " x " << c.batch << (cached ? " cached" : ""));
      INFO(outcome.err);
      REQUIRE(outcome.exit_status == 0);
      const auto result = outcome.Json().at("results").at(0);
      const auto planned = result.at("plan").at("private_bytes").get<uint64_t>();
      const auto dirty = result.at("process_private_dirty_bytes").get<uint64_t>();
      // The program holds the numbers of its pictures, too.
      const uint64_t pictures = 2 * result.at("plan").at("batch").get<uint64_t>() *
                                result.at("plan").at("height").get<uint64_t>() *
                                result.at("plan").at("width").get<uint64_t>() * 3 * sizeof(float);
      CHECK(dirty > 0);
      CHECK(dirty <= planned + kAllowanceBytes + pictures);
      CHECK(result.at("arena_peak_bytes") == result.at("arena_planned_bytes"));
      // Scratch for pictures of 4096 pixels is not needed by numbers that are ready.
      const auto values = result.at("plan").at("activation_bytes").get<uint64_t>();
      const auto touched = result.at("arena_touched_bytes").get<uint64_t>();
      CHECK(touched > values / 2);
      CHECK(touched <= result.at("arena_planned_bytes").get<uint64_t>() + 2 * 4096);
    }
  }
}

}  // namespace
}  // namespace headroom::cli_test
