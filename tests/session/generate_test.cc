// The generation loop on a model without a tokenizer: tokens in, tokens out.
#include "text/generate.h"

#include <algorithm>

#include <catch2/catch_test_macros.hpp>

#include "session/golden.h"

namespace headroom::test {
namespace {

using text::GenerateOptions;
using text::GenerateResult;
using text::StopReason;

plan::Limits LimitsWithSampler(const Golden& golden, uint32_t context) {
  plan::Limits limits = TestLimits(context);
  limits.caller_scratch_bytes = text::SamplerScratchBytes(golden.vocabulary);
  return limits;
}

struct Run {
  Status status;
  GenerateResult result;
  std::vector<int32_t> tokens;
};

// Prefills the golden tokens and generates; the callback collects what it is shown.
Run Generate(GenerateOptions options, uint32_t context = 64, std::vector<uint32_t> ends = {},
             bool prefill = true, size_t stop_after = 1000) {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, LimitsWithSampler(golden, context));
  if (prefill) REQUIRE(session->Append(golden.tokens, nullptr).ok());
  struct Seen {
    std::vector<int32_t> tokens;
    size_t stop_after;
  } seen{{}, stop_after};
  options.user_data = &seen;
  options.on_text = [](void* user_data, const char*, size_t, int32_t token) {
    auto& seen = *static_cast<Seen*>(user_data);
    seen.tokens.push_back(token);
    return seen.tokens.size() < seen.stop_after;
  };
  text::TextStream stream;
  Run run;
  run.status = text::Generate(*session, nullptr, ends, options, stream, &run.result);
  run.tokens = seen.tokens;
  if (run.status.ok()) {  // generated tokens are in the session, whatever stopped it
    CHECK(session->position() == golden.count() + run.result.tokens);
  }
  return run;
}

TEST_CASE("greedy generation takes the largest logit every time", "[session][generate]") {
  const Golden& golden = LoadGolden("llama-gqa");
  GenerateOptions options;
  options.max_tokens = 12;
  const Run run = Generate(options);
  REQUIRE(run.status.ok());
  CHECK(run.result.reason == StopReason::kLimit);
  REQUIRE(run.tokens.size() == 12);
  auto session = MakeSession(golden, LimitsWithSampler(golden, 64));
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  for (int32_t token : run.tokens) {
    const auto logits = session->logits();
    REQUIRE(token == std::max_element(logits.begin(), logits.end()) - logits.begin());
    REQUIRE(session->Append({&token, 1}, nullptr).ok());
  }
}

TEST_CASE("a seed repeats its draw, another one differs", "[session][generate]") {
  GenerateOptions options;
  options.max_tokens = 20;
  options.sampler.temperature = 3.0f;
  options.sampler.seed = 5;
  const auto first = Generate(options).tokens;
  CHECK(Generate(options).tokens == first);
  options.sampler.seed = 6;
  CHECK(Generate(options).tokens != first);
}

TEST_CASE("the context, an end token and the callback each stop it and say so",
          "[session][generate]") {
  const Run full = Generate({}, 40);
  CHECK(full.result.reason == StopReason::kContext);
  CHECK(full.result.tokens == 40 - LoadGolden("llama-gqa").count());

  const auto third = static_cast<uint32_t>(full.tokens[2]);
  const auto first_third = std::find(full.tokens.begin(), full.tokens.end(), full.tokens[2]);
  const Run ended = Generate({}, 64, {third});
  CHECK(ended.result.reason == StopReason::kEndToken);
  CHECK(ended.result.tokens == first_third - full.tokens.begin() + 1);
  GenerateOptions ignoring;
  ignoring.ignore_end_token = true;
  const Run ignored = Generate(ignoring, 40, {third});
  CHECK(ignored.result.tokens == full.result.tokens);

  const Run stopped = Generate({}, 64, {}, true, 5);
  CHECK(stopped.result.reason == StopReason::kCallback);
  CHECK(stopped.result.tokens == 5);
}

TEST_CASE("generation is refused without logits, with wild options, or stops without text",
          "[session][generate]") {
  CHECK(Generate({}, 64, {}, false).status.code() == StatusCode::kWrongState);
  GenerateOptions wild;
  wild.sampler.temperature = -1.0f;
  CHECK(Generate(wild).status.code() == StatusCode::kInvalidArgument);
  const std::string_view stop[1] = {"x"};
  GenerateOptions stopping;
  stopping.stop_sequences = stop;
  CHECK(Generate(stopping).status.code() == StatusCode::kUnsupported);
}

}  // namespace
}  // namespace headroom::test
