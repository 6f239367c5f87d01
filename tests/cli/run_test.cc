// run and plan on real models.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Strings = std::vector<std::string>;

Strings RunArguments(const Strings& more) {
  Strings arguments = {"run", Model("example"), "--prompt", "The old lighthouse", "--max-tokens",
                       "12"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST_CASE("run streams text to stdout and statistics to stderr", "[cli][run]") {
  const Outcome streamed = Run(RunArguments({}));
  INFO(streamed.err);
  REQUIRE(streamed.exit_status == 0);
  CHECK_THAT(streamed.err, ContainsSubstring("tokens/s"));
  CHECK_THAT(streamed.err, ContainsSubstring("touched"));
  CHECK_THAT(streamed.err, ContainsSubstring("private dirty"));
  CHECK(Run(RunArguments({"--quiet"})).err.empty());

  const auto json = Run(RunArguments({"--json"})).Json();
  std::string text = json.at("text");
  if (text.empty() || text.back() != '\n') text += '\n';
  CHECK(streamed.out == text);
  CHECK(json.at("generated_tokens").get<int>() >= 1);
  CHECK(json.at("generated_tokens").get<int>() <= 12);
  CHECK(json.at("prompt_tokens").get<int>() > 0);
  CHECK(json.at("decode_tokens_per_second").get<double>() > 0);
  CHECK(json.at("prefill_tokens_per_second").get<double>() > 0);
  const auto measured = json.at("measured");
  CHECK(measured.at("arena_peak_bytes") == measured.at("arena_planned_bytes"));
}

TEST_CASE("a prompt of one token is a prompt", "[cli][run]") {
  const Outcome outcome = Run({"run", Model("example"), "--prompt", "The", "--max-tokens", "4"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_status == 0);
  CHECK_THAT(outcome.err, ContainsSubstring("prefill 1 tokens"));
  CHECK_THAT(outcome.err, !ContainsSubstring("at 0.0 tokens/s"));
}

TEST_CASE("run repeats itself with one seed and not with another", "[cli][run]") {
  const auto text = [](const char* seed) {
    return Run(RunArguments({"--temp", "3", "--seed", seed, "--json", "--ignore-end"}))
        .Json()
        .at("text")
        .get<std::string>();
  };
  CHECK(text("7") == text("7"));
  CHECK(text("7") != text("8"));
}

TEST_CASE("run reads its prompt from a file and ends at a stop text", "[cli][run]") {
  const std::string prompt = Scratch("prompt.txt");
  WriteFile(prompt, "The old lighthouse");
  const auto whole = Run(RunArguments({"--json", "--ignore-end"})).Json();
  const auto from_file = Run({"run", Model("example"), "--prompt-file", prompt, "--max-tokens",
                              "12", "--json", "--ignore-end"});
  CHECK(from_file.Json().at("text") == whole.at("text"));
  const std::string text = whole.at("text");
  REQUIRE(text.size() > 4);
  std::string stop = text.substr(2, 2);
  const auto stopped = Run(RunArguments({"--stop", stop, "--json", "--ignore-end"})).Json();
  CHECK(stopped.at("stop_reason") == "stop_sequence");
  CHECK(stopped.at("text") == text.substr(0, text.find(stop)));
  CHECK(Run({"run", Model("example"), "--prompt-file", "/no/such/prompt"}).exit_status == 1);
  const Outcome directory = Run({"run", Model("example"), "--prompt-file", "/tmp"});
  CHECK(directory.exit_status == 1);
  CHECK_THAT(directory.err,
             ContainsSubstring("/tmp: Is a directory") && !ContainsSubstring("defect"));
}

TEST_CASE("run on a model without tokenizer says what to use instead", "[cli][run]") {
  const Outcome outcome = Run({"run", Model("mistral"), "--prompt", "hello"});
  CHECK(outcome.exit_status == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("tokenizer"));
  CHECK_THAT(outcome.err, ContainsSubstring("headroom logits"));
}

TEST_CASE("a budget that is too small is refused with the missing bytes", "[cli][budget]") {
  const Outcome run = Run(RunArguments({"--budget", "100K"}));
  CHECK(run.exit_status == 3);
  CHECK(run.out.empty());
  CHECK_THAT(run.err, ContainsSubstring("--budget"));
  const auto error = Run(RunArguments({"--budget", "100K", "--json"})).Json().at("error");
  CHECK(error.at("code") == 300);

  const Outcome plan = Run({"plan", Model("example"), "--budget", "100K"});
  CHECK(plan.exit_status == 3);
  CHECK_THAT(plan.out, ContainsSubstring("DOES NOT FIT"));
  const Outcome json =
      Run({"plan", Model("example"), "--budget", "100K", "--context", "64", "--json"});
  CHECK(json.exit_status == 3);
  CHECK(json.Json().at("plan").at("fits") == false);
  CHECK(json.Json().at("plan").at("missing_bytes").get<uint64_t>() > 0);
}

TEST_CASE("what to do about a budget is said only where it helps", "[cli][budget]") {
  const auto advice = [](const Strings& more) -> std::string {
    return Run(RunArguments(more)).Json().at("error").at("advice");
  };
  const auto total = [](const char* kv, const char* context) {
    return Run({"plan", Model("example"), "--kv", kv, "--context", context, "--json"})
        .Json()
        .at("plan")
        .at("total_bytes")
        .get<uint64_t>();
  };
  const std::string nothing = advice({"--budget", "100K", "--json"});
  CHECK_THAT(nothing, ContainsSubstring("Raise --budget to ") && !ContainsSubstring("--context") &&
                          !ContainsSubstring("int8"));
  const std::string smaller =
      advice({"--budget", "7M", "--kv", "f32", "--context", "4096", "--json"});
  CHECK_THAT(smaller, ContainsSubstring("Lower --context to ") && !ContainsSubstring("int8"));
  const std::string bytes = std::to_string(total("int8", "4096"));
  CHECK_THAT(advice({"--budget", bytes, "--kv", "f32", "--context", "4096", "--json"}),
             ContainsSubstring("--kv int8"));
  CHECK_THAT(advice({"--private-budget", "10K", "--json"}),
             ContainsSubstring("Raise --private-budget to ") && !ContainsSubstring("--budget "));
}

TEST_CASE("a prompt longer than the context is told what helps", "[cli][run]") {
  const std::string prompt = Scratch("long.txt");
  std::string text;
  while (text.size() < 60000) text += "The old lighthouse keeper counts seven ships. ";
  WriteFile(prompt, text);
  const Outcome trained = Run({"run", Model("example"), "--prompt-file", prompt});
  CHECK(trained.exit_status == 1);
  CHECK_THAT(trained.err, ContainsSubstring("at most 8192") && ContainsSubstring("Shorten") &&
                              !ContainsSubstring("Raise"));
  const Outcome asked = Run(RunArguments({"--context", "2"}));
  CHECK(asked.exit_status == 1);
  CHECK_THAT(asked.err, ContainsSubstring("Raise --context"));
  WriteFile(prompt, text.substr(0, 12000));
  const auto within = [&](const char* budget) {
    return Run({"run", Model("example"), "--prompt-file", prompt, "--max-tokens", "0", "--budget",
                budget});
  };
  // 2,700 tokens: the smallest profile of the model has room for them in 7 MiB, and not in 6.6.
  CHECK(within("7M").exit_status == 0);
  const Outcome planned = within("6.6M");
  CHECK(planned.exit_status == 3);
  CHECK_THAT(planned.err, ContainsSubstring("Raise --budget"));
}

TEST_CASE("a prompt is read alike with a progress bar and without", "[cli][run]") {
  std::string prompt;
  while (prompt.size() < 8000) prompt += "The old lighthouse keeper counts seven ships. ";
  const Strings arguments = {"run",    Model("example"), "--prompt", prompt,         "--chunk",
                             "8",      "--threads",      "1",        "--max-tokens", "12",
                             "--json", "--ignore-end"};
  const Outcome plain = Run(arguments);
  REQUIRE(plain.exit_status == 0);
  CHECK(plain.err.empty());
  Streams streams;
  streams.progress = true;
  const Outcome shown = Run(arguments, {}, streams);
  CHECK(shown.Json().at("text") == plain.Json().at("text"));
  CHECK_THAT(shown.err, ContainsSubstring("reading the prompt ["));
}

TEST_CASE("weights that are not packed are said to be read in place", "[cli][run]") {
  const Outcome outcome = Run(RunArguments({}));
  CHECK_THAT(outcome.err, ContainsSubstring("read in place") && !ContainsSubstring("packed"));
}

TEST_CASE("plan says what the largest context takes", "[cli][plan]") {
  const Outcome table = Run({"plan", Model("example"), "--budget", "6900K"});
  const auto plan =
      Run({"plan", Model("example"), "--budget", "6900K", "--json"}).Json().at("plan");
  const std::string largest = std::to_string(plan.at("max_context_tokens").get<int>());
  REQUIRE(plan.at("max_context_tokens") > plan.at("context_tokens"));
  CHECK_THAT(table.out, ContainsSubstring(largest + " tokens, with --chunk 8"));
  const auto small = Run({"plan", Model("example"), "--budget", "6900K", "--chunk", "8", "--json"})
                         .Json()
                         .at("plan");
  CHECK(small.at("context_tokens") == plan.at("max_context_tokens"));
  CHECK_THAT(Run({"plan", Model("example"), "--budget", "6900K", "--chunk", "8"}).out,
             !ContainsSubstring("with --chunk"));
  CHECK_THAT(Run({"plan", "--help"}).out, ContainsSubstring("at least 32 tokens"));
}

TEST_CASE("plan adds up and finds the largest context of a budget", "[cli][plan]") {
  for (const char* model : {"example", "mistral", "llama-gqa"}) {
    INFO(model);
    const auto json = Run({"plan", Model(model), "--context", "32", "--json"}).Json();
    const auto plan = json.at("plan");
    const auto bytes = [&](const char* key) { return plan.at(key).get<uint64_t>(); };
    CHECK(plan.at("fits") == true);
    CHECK(bytes("total_bytes") == bytes("mapped_bytes") + bytes("private_bytes"));
    uint64_t state = 0;
    for (const auto& layer : json.at("layers")) state += layer.at("state_bytes").get<uint64_t>();
    CHECK(state == bytes("state_bytes"));
    CHECK(json.at("layers").size() == json.at("model").at("layers").get<size_t>());
  }
  const auto small = Run({"plan", Model("example"), "--context", "256", "--json"}).Json();
  const auto total = small.at("plan").at("total_bytes").get<uint64_t>();
  const auto fitted =
      Run({"plan", Model("example"), "--budget", std::to_string(total), "--kv", "f16", "--json"})
          .Json();
  CHECK(fitted.at("plan").at("context_tokens").get<uint64_t>() >= 256);
  CHECK(fitted.at("plan").at("total_bytes").get<uint64_t>() <= total);
  const Outcome table = Run({"plan", Model("mistral"), "--context", "32", "--layers"});
  CHECK_THAT(table.out, ContainsSubstring("attention state"));
  CHECK_THAT(table.out, ContainsSubstring("window"));
}

TEST_CASE("a smaller cache type costs fewer bytes", "[cli][plan]") {
  const auto state = [](const char* kv) {
    return Run({"plan", Model("example"), "--context", "512", "--kv", kv, "--json"})
        .Json()
        .at("plan")
        .at("state_bytes")
        .get<uint64_t>();
  };
  CHECK(state("f32") == 2 * state("f16"));
  CHECK(state("int8") < state("f16"));
}

}  // namespace
}  // namespace headroom::cli_test
