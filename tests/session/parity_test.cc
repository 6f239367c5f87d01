// Our logits against those transformers computed, by every path a session has.
#include <algorithm>
#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

#include "session/golden.h"

namespace headroom::test {
namespace {

using plan::CodecChoice;

constexpr size_t kGoldens = 52;

std::vector<float> AllLogits(const Golden& golden, session::Session& session) {
  std::vector<float> logits(golden.logits.size());
  REQUIRE(session.Append(golden.tokens, logits.data()).ok());
  return logits;
}

std::string RandomName() {
  static const std::vector<std::string> names = GoldenNames();
  return names[GENERATE(range(size_t{0}, kGoldens))];
}

TEST_CASE("no golden case is missing", "[session][golden]") {
  CHECK(GoldenNames().size() == kGoldens);
}

TEST_CASE("prefill and decode give the logits of transformers", "[session][golden]") {
  const Golden& golden = LoadGolden(RandomName());
  const size_t all = golden.logits.size();
  INFO(golden.name << ", allowance " << golden.Allowance());
  for (uint32_t chunk : {1u, 3u, 8u, 64u}) {
    INFO("chunk " << chunk);
    auto session = MakeSession(golden, TestLimits(64, chunk));
    const auto logits = AllLogits(golden, *session);
    CHECK(LargestDifference(logits.data(), golden.logits.data(), all) <= golden.Allowance());
    // Without per-token logits only the last row's tail runs; it must be the same row.
    auto quick = MakeSession(golden, TestLimits(64, chunk));
    REQUIRE(quick->Append(golden.tokens, nullptr).ok());
    CHECK(LargestDifference(quick->logits().data(), golden.row(golden.count() - 1),
                            golden.vocabulary) <= golden.Allowance());
  }
  auto session = MakeSession(golden, TestLimits(64, 8));
  for (size_t t = 0; t < golden.count(); ++t) {
    REQUIRE(session->Append({&golden.tokens[t], 1}, nullptr).ok());
    INFO("decode of token " << t);
    REQUIRE(LargestDifference(session->logits().data(), golden.row(t), golden.vocabulary) <=
            golden.Allowance());
  }
}

TEST_CASE("threads change nothing, bit for bit", "[session][golden]") {
  const Golden& golden = LoadGolden(RandomName());
  INFO(golden.name);
  auto one = MakeSession(golden, TestLimits(64, 16, CodecChoice::kF16, 1));
  auto two = MakeSession(golden, TestLimits(64, 16, CodecChoice::kF16, 2));
  CHECK(AllLogits(golden, *one) == AllLogits(golden, *two));
}

// Relative to the spread of the logits: a row codec rounds keys and values to 11 bits (f16) or a
// 255th of a row's range (int8); a logit is an average of many such roundings.
TEST_CASE("compressed caches and weights stay near the f32 logits", "[session][golden]") {
  struct Setting {
    const char* weights;
    CodecChoice codec;
    float share;  // of the largest logit
  };
  const Setting setting = GENERATE(
      Setting{"f32", CodecChoice::kF16, 0.01f}, Setting{"f32", CodecChoice::kI8Token, 0.08f},
      Setting{"f16", CodecChoice::kF32, 0.01f}, Setting{"int8", CodecChoice::kF32, 0.15f},
      Setting{"int8/32", CodecChoice::kF32, 0.05f});
  const std::string name = GENERATE("llama-gqa", "deepseek-v3-dense", "mha2mla");
  // Widths of latents here are no multiples of 32.
  if (name != "llama-gqa" && std::string(setting.weights) == "int8/32") return;
  const Golden& golden = LoadGolden(name, setting.weights);
  INFO(name << ", " << setting.weights << " weights, codec " << static_cast<int>(setting.codec));
  auto session = MakeSession(golden, TestLimits(64, 8, setting.codec));
  const auto logits = AllLogits(golden, *session);
  const float difference =
      LargestDifference(logits.data(), golden.logits.data(), golden.logits.size());
  CHECK(difference <= setting.share * golden.LargestLogit());
  CHECK(difference > golden.Allowance());  // it must really have been compressed
}

}  // namespace
}  // namespace headroom::test
