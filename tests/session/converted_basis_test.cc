// Checkpoints converted into bases: what no rank cuts is the model as it was.
#include <cstdlib>
#include <map>
#include <random>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "convert/bases.h"
#include "convert/convert.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using session::Session;

// Orthogonal matrices without any pattern, for every head.
std::vector<float> RandomBases(const model::StreamSpec& stream, std::mt19937* random) {
  std::normal_distribution<double> normal;
  std::vector<float> out;
  const uint32_t width = stream.width;
  for (uint32_t h = 0; h < stream.heads; ++h) {
    std::vector<double> root(width * width), square(width * width, 0.0), one(width * width, 0.0);
    for (double& x : root) x = normal(*random);
    for (uint32_t i = 0; i < width; ++i) {
      one[i * width + i] = 1.0;
      for (uint32_t j = 0; j < width; ++j) {
        for (uint32_t k = 0; k < width; ++k) {
          square[i * width + j] += root[i * width + k] * root[j * width + k];
        }
      }
    }
    const auto basis = convert::MakeBasis(square, one, width);
    out.insert(out.end(), basis.begin(), basis.end());
  }
  return out;
}

std::shared_ptr<session::Engine> InBases(const Golden& golden, bool wrong = false) {
  std::mt19937 random(11);
  convert::Options options;
  const std::string folder = std::string(std::getenv("HEADROOM_SOURCE_DIR")) + "/tests/golden/";
  options.source = folder + golden.name;
  options.out = ScratchPath(golden.name + (wrong ? "-wrong" : "") + "-bases.hrm");
  options.weights = convert::WeightFormat::kF32;
  for (const model::AttentionSpec& spec : golden.engine->model().attentions) {
    convert::LayerBases& bases = options.bases.emplace_back();
    if (spec.source_attention != model::kNone) continue;
    bases = {RandomBases(spec.key, &random), RandomBases(spec.value, &random)};
    if (wrong) bases.values[1] += 0.5f;  // then what Wv turns, Wo does not turn back
  }
  const auto summary = convert::Convert(options);
  INFO(summary.status().message());
  REQUIRE(summary.ok());
  auto opened = model::Model::OpenPath(options.out.c_str(), {});
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  return session::Engine::Create(opened.Take(), {}).Take();
}

std::vector<float> AllLogits(const std::shared_ptr<session::Engine>& engine, const Golden& golden,
                             const std::string& policy) {
  plan::Limits limits =
      TestLimits(static_cast<uint32_t>(golden.count()), 8, plan::CodecChoice::kAuto);
  limits.profile = policy;
  auto session = Session::Create(engine, limits).Take();
  std::vector<float> logits(golden.count() * golden.vocabulary);
  REQUIRE(session->Append(golden.tokens, logits.data()).ok());
  return logits;
}

// Separate, biased, transposed and both kinds of fused matrices; norms of heads; windows; layers on
// another's rows.
TEST_CASE("a checkpoint in bases of full rank answers as it did", "[session][basis]") {
  const Golden& golden =
      LoadGolden(GENERATE("llama-gqa", "llama-bias", "qwen2", "gpt2", "gpt-neox", "phi3-short",
                          "gemma3", "olmo2", "hunyuan-cla", "gpt-oss"));
  INFO(golden.name);
  const auto engine = InBases(golden);
  CHECK(engine->model().attentions[0].key.basis != model::kNone);
  const std::vector<float> logits = AllLogits(engine, golden, "f32");
  // Two more sums over a head's width each way.
  CHECK(LargestDifference(logits.data(), golden.logits.data(), logits.size()) <=
        2 * golden.Allowance());
  const std::vector<float> cut = AllLogits(engine, golden, "f32 keyrank=8 valuerank=8");
  CHECK(LargestDifference(cut.data(), golden.logits.data(), cut.size()) > 100 * golden.Allowance());
}

TEST_CASE("values that are not turned back are seen", "[session][basis][mutant]") {
  const Golden& golden = LoadGolden("llama-gqa");
  const std::vector<float> logits = AllLogits(InBases(golden, true), golden, "f32");
  CHECK(LargestDifference(logits.data(), golden.logits.data(), logits.size()) >
        100 * golden.Allowance());
}

TEST_CASE("what attention makes of a token can be observed", "[session][basis]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, TestLimits());
  std::map<std::string, size_t> seen;
  session->Observe({[](void* user_data, const char* name, size_t bytes, const float*, size_t rows,
                       size_t columns) {
                      auto& seen = *static_cast<std::map<std::string, size_t>*>(user_data);
                      seen[std::string(name, bytes)] += rows * columns;
                    },
                    &seen});
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  const model::AttentionSpec& spec = golden.engine->model().attentions[0];
  CHECK(seen["attention.0.queries"] == golden.count() * spec.query_heads * spec.query.width);
  CHECK(seen["attention.1.keys"] == golden.count() * spec.key.heads * spec.key.width);
  CHECK(seen["attention.1.values"] == golden.count() * spec.value.heads * spec.value.width);
  CHECK(seen.count("attention.0.key_tails") == 0);
}

}  // namespace
}  // namespace headroom::test
