// Trim: what it gives back is real, what it cannot give back it says, and the text goes on.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "session/golden.h"
#include "session/lender.h"

namespace headroom::test {
namespace {

using plan::CodecChoice;
using session::Session;

TEST_CASE("memory of the app's allocator is not said to be freed", "[session][trim]") {
  const Golden& golden = LoadGolden("llama-gqa");
  Lender lender;
  auto engine = EngineWith(lender, ScratchPath("llama-gqa-f32.hrm"));
  auto session = Session::Create(engine, TestLimits(128)).Take();
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  const std::vector<float> logits(session->logits().begin(), session->logits().end());
  const plan::Plan before = session->plan();
  const uint64_t live_bytes = lender.live_bytes;
  uint64_t freed = 1;
  CHECK(session->Trim(before.total_bytes, &freed).ok());  // small enough
  CHECK(freed == 0);
  const Status refused = session->Trim(1, &freed);
  CHECK(refused.code() == StatusCode::kUnsupported);
  CHECK(refused.message()[0] != '\0');
  CHECK(freed == 0);
  CHECK(lender.live_bytes == live_bytes);
  CHECK(session->plan().total_bytes == before.total_bytes);
  CHECK(session->plan().context == before.context);
  CHECK(session->plan().profile == before.profile);
  CHECK(std::equal(logits.begin(), logits.end(), session->logits().begin()));
}

TEST_CASE("rows that int8 would make longer keep their type", "[session][trim]") {
  // The tensors of mistral read as heads of two values, one layer with a ring and one without.
  const std::string folder = ScratchPath("narrow");
  const std::string golden =
      std::string(std::getenv("HEADROOM_SOURCE_DIR")) + "/tests/golden/mistral/";
  std::filesystem::create_directory(folder);
  std::filesystem::copy(golden + "model.safetensors", folder);
  auto config = nlohmann::json::parse(std::ifstream(golden + "config.json"));
  config["head_dim"] = 2;
  config["num_attention_heads"] = 32;
  config["num_key_value_heads"] = 16;
  config["max_position_embeddings"] = 256;
  config["layer_types"] = {"sliding_attention", "full_attention"};
  std::ofstream(folder + "/config.json") << config;
  convert::Options options;
  options.source = folder;
  options.out = ScratchPath("narrow.hrm");
  options.weights = convert::ParseWeightFormat("f32").Take();
  REQUIRE(convert::Convert(options).ok());

  const Golden& mistral = LoadGolden("mistral");
  const auto tokens = std::span(mistral.tokens);
  auto model = model::Model::OpenPath(options.out.c_str(), {}).Take();
  auto engine = session::Engine::Create(std::move(model), {}).Take();
  auto session = Session::Create(engine, TestLimits(256, 8, CodecChoice::kF16)).Take();
  REQUIRE(session->plan().layers[0].lane(0).ring);
  REQUIRE_FALSE(session->plan().layers[1].lane(0).ring);
  REQUIRE(session->Append(tokens.first(20), nullptr).ok());
  auto straight = session->Fork().Take();
  const uint64_t before = session->plan().total_bytes;
  uint64_t freed = 0;
  CHECK(session->Trim(1, &freed).code() == StatusCode::kOverBudget);
  CHECK(session->plan().profile == "f16");
  CHECK(session->plan().context == 96);  // 20 and a margin of 64, rounded up
  CHECK(freed == before - session->plan().total_bytes);
  CHECK(freed > 0);
  REQUIRE(session->Append(tokens.subspan(20), nullptr).ok());
  REQUIRE(straight->Append(tokens.subspan(20), nullptr).ok());
  CHECK(
      std::equal(straight->logits().begin(), straight->logits().end(), session->logits().begin()));
}

}  // namespace
}  // namespace headroom::test
