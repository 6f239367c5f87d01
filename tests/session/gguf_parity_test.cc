// Our logits for GGUF files against llama.cpp's own for the same files.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "session/golden.h"

namespace headroom::test {
namespace {

constexpr size_t kPrompt = 28;

struct GgufCase {
  const char* name;
  // llama.cpp takes GELU from a table of halves: its argument and its result are rounded to f16.
  bool table = false;
};

// Those roundings move a layer's MLP by two f16 steps relative to itself: the errors of the terms
// of a sum add like the terms do.
float Allowance(const GgufCase& c, const Golden& golden) {
  constexpr float kHalfStep = 0x1p-11f;
  const float table = c.table ? 2.0f * static_cast<float>(golden.layers) * kHalfStep : 0.0f;
  return golden.Allowance() + table * golden.LargestLogit();
}

TEST_CASE("a GGUF file gives the logits of llama.cpp", "[session][golden][gguf]") {
  const GgufCase c = GENERATE(
      GgufCase{"llama"}, GgufCase{"llama-q4_0"}, GgufCase{"llama-q8_0"}, GgufCase{"llama-yarn"},
      GgufCase{"qwen2"}, GgufCase{"qwen3"}, GgufCase{"gemma2", true}, GgufCase{"gemma3", true},
      GgufCase{"phi3"}, GgufCase{"smollm3"}, GgufCase{"olmo2"}, GgufCase{"granite"},
      GgufCase{"starcoder2", true}, GgufCase{"gpt2", true}, GgufCase{"mixtral"},
      GgufCase{"qwen2-moe"}, GgufCase{"qwen2-moe-q4_0"}, GgufCase{"qwen2-moe-q8_0"},
      GgufCase{"qwen3-moe"}, GgufCase{"olmoe"}, GgufCase{"granite-moe"}, GgufCase{"gpt-oss"},
      GgufCase{"gpt-oss-mxfp4"}, GgufCase{"rwkv-6"}, GgufCase{"rwkv-7"}, GgufCase{"mamba"},
      GgufCase{"mamba2"});
  const Golden& golden = LoadGolden("gguf/" + std::string(c.name));
  const float allowance = Allowance(c, golden);
  INFO(c.name << ", allowance " << allowance);
  REQUIRE(golden.count() == kPrompt + 16);
  for (const uint32_t chunk : {5u, 64u}) {
    INFO("chunk " << chunk);
    auto session = MakeSession(golden, TestLimits(64, chunk));
    std::vector<float> prompt(kPrompt * golden.vocabulary);
    REQUIRE(session->Append({golden.tokens.data(), kPrompt}, prompt.data()).ok());
    CHECK(LargestDifference(prompt.data(), golden.row(0), prompt.size()) <= allowance);
    for (size_t t = kPrompt; t < golden.count(); ++t) {
      INFO("decode of token " << t);
      REQUIRE(session->Append({&golden.tokens[t], 1}, nullptr).ok());
      CHECK(LargestDifference(session->logits().data(), golden.row(t), golden.vocabulary) <=
            allowance);
    }
  }
}

// Q8_0 and MXFP4 are kept without any loss: only the rounding of what the dense layer multiplies is
// between us and the logits of the same weights as f32.
TEST_CASE("a file of integers runs from its own integers", "[session][golden][gguf]") {
  struct Case {
    const char* name;
    size_t blocks;  // matrices that are int8 in blocks of 32
  };
  // Not those that llama-quantize leaves at F16, and not routers. gpt-oss has 4-bit experts alone.
  const Case c =
      GENERATE(Case{"llama-q8_0", 8}, Case{"qwen2-moe-q8_0", 14}, Case{"gpt-oss-mxfp4", 4});
  const Golden& golden = LoadGolden("gguf/" + std::string(c.name), "keep");
  size_t blocks = 0;
  for (const TensorView& tensor : golden.engine->model().tensors) {
    blocks += tensor.dtype == DType::kI8 && tensor.block == 32;
  }
  CHECK(blocks == c.blocks);
  auto session = MakeSession(golden, TestLimits(64, 8));
  std::vector<float> logits(golden.logits.size());
  REQUIRE(session->Append(golden.tokens, logits.data()).ok());
  const float difference =
      LargestDifference(logits.data(), golden.logits.data(), golden.logits.size());
  INFO(c.name << ": difference " << difference << ", largest logit " << golden.LargestLogit());
  CHECK(difference <= 0.01f * golden.LargestLogit());
}

}  // namespace
}  // namespace headroom::test
