// Which rows stay, and how they are kept: policies against the same model with everything kept.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "convert/convert.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using plan::CodecChoice;
using session::Session;

constexpr uint32_t kContext = 48, kChunk = 4;

plan::Limits PolicyLimits(const std::string& policy, uint32_t chunk = kChunk) {
  plan::Limits limits = TestLimits(kContext, chunk, CodecChoice::kAuto);
  limits.profile = policy;
  return limits;
}

// Logits of every token, in chunks of the session's size and then token by token.
std::vector<float> AllLogits(Session& session, const Golden& golden, size_t together) {
  std::vector<float> logits(golden.count() * golden.vocabulary);
  const std::span<const int32_t> tokens(golden.tokens);
  REQUIRE(session.Append(tokens.first(together), logits.data()).ok());
  for (size_t i = together; i < tokens.size(); ++i) {
    REQUIRE(session.Append(tokens.subspan(i, 1), logits.data() + i * golden.vocabulary).ok());
  }
  return logits;
}

// First token whose logits differ in any bit; the count when none does.
size_t FirstDifference(const Golden& golden, const std::vector<float>& a,
                       const std::vector<float>& b) {
  const auto at = std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin();
  return static_cast<size_t>(at) / golden.vocabulary;
}

// The golden model with other attentions, converted anew.
std::shared_ptr<session::Engine> Changed(const std::string& name,
                                         void (*change)(model::Model& model)) {
  convert::Options options;
  options.source = std::string(std::getenv("HEADROOM_SOURCE_DIR")) + "/tests/golden/" + name;
  options.out = ScratchPath(name + "-changed.hrm");
  options.weights = convert::ParseWeightFormat("f32").Take();
  if (!std::ifstream(options.out).good()) REQUIRE(convert::Convert(options).ok());
  auto model = model::Model::OpenPath(options.out.c_str(), {}).Take();
  change(*model);
  return session::Engine::Create(std::move(model), {}).Take();
}

TEST_CASE("a policy with room for all rows is the full cache to the bit", "[session][retention]") {
  const Golden& golden = LoadGolden(GENERATE("llama-gqa", "qwen3.5"));
  const std::string policy = GENERATE("window", "compensated", "accumulated", "observed");
  const std::string amount = GENERATE("rows=48", "share=1");
  auto full = MakeSession(golden, PolicyLimits("f32"));
  auto session = MakeSession(golden, PolicyLimits("f32 " + policy + " " + amount));
  INFO(policy << " " << amount);
  CHECK(AllLogits(*session, golden, 16) == AllLogits(*full, golden, 16));
}

TEST_CASE("a window of rows is the model with that window", "[session][retention][window]") {
  const Golden& golden = LoadGolden(GENERATE("llama-gqa", "qwen3.5"));
  const auto windowed = Changed(golden.name, [](model::Model& model) {
    for (auto& attention : model.attentions) attention.left = 7, attention.sinks = 2;
  });
  auto want = Session::Create(windowed, TestLimits(kContext, kChunk)).Take();
  auto session = MakeSession(golden, PolicyLimits("f32 window rows=8 sinks=2"));
  REQUIRE(session->plan().layers[0].lane(0).ring);
  const std::vector<float> got = AllLogits(*session, golden, 16);
  CHECK(got == AllLogits(*want, golden, 16));
  // Chunks of another size and single tokens see the same rows.
  auto other = MakeSession(golden, PolicyLimits("f32 window rows=8 sinks=2", 8));
  const std::vector<float> again = AllLogits(*other, golden, 1);
  CHECK(LargestDifference(got.data(), again.data(), got.size()) <= golden.Allowance());
  auto full = MakeSession(golden, PolicyLimits("f32"));
  CHECK(FirstDifference(golden, got, AllLogits(*full, golden, 16)) == 10);
}

TEST_CASE("rows leave when there is no room, and not before", "[session][retention]") {
  const Golden& golden = LoadGolden(GENERATE("llama-gqa", "qwen3.5"));
  const std::string policy =
      GENERATE("compensated sinks=1", "accumulated", "observed pool=1", "observed maxpool=3");
  INFO(policy);
  auto session = MakeSession(golden, PolicyLimits("f32 rows=8 observe=3 " + policy));
  auto full = MakeSession(golden, PolicyLimits("f32"));
  const store::LaneSpec& lane = session->plan().layers[0].lane(0);
  REQUIRE(lane.capacity < golden.count());
  REQUIRE(session->plan().state_bytes < full->plan().state_bytes);
  const std::vector<float> got = AllLogits(*session, golden, 12);
  for (const float logit : got) REQUIRE(std::isfinite(logit));
  CHECK(FirstDifference(golden, got, AllLogits(*full, golden, 12)) == lane.capacity);
}

TEST_CASE("smaller rows stay near the full cache", "[session][retention][codec]") {
  struct Case {
    const char* policy;
    float tolerance;  // of the largest logit
  };
  const Case c = GENERATE(Case{"int8", 0.03f}, Case{"int8/32", 0.03f},
                          Case{"int8/32 rotate", 0.03f}, Case{"int4/32 rotate exact=4", 0.25f},
                          Case{"keys=int8 values=int4/32 exact=16", 0.2f},
                          Case{"keys=f32 values=int8/32 rotate", 0.03f});
  const Golden& golden = LoadGolden(GENERATE("llama-gqa", "gemma3", "deepseek-v2", "qwen3.5"));
  INFO(golden.name << " " << c.policy);
  auto full = MakeSession(golden, PolicyLimits("f32"));
  auto session = MakeSession(golden, PolicyLimits(c.policy));
  const std::vector<float> want = AllLogits(*full, golden, 16),
                           got = AllLogits(*session, golden, 16);
  // A latent is keys and values of every head at once: its rounding counts twice.
  const float both = golden.name == "deepseek-v2" ? 1.6f : 1.0f;
  CHECK(LargestDifference(got.data(), want.data(), got.size()) <=
        both * c.tolerance * golden.LargestLogit());
  CHECK(got != want);
}

TEST_CASE("a hybrid reads again what a rewind needs and rows have left", "[session][retention]") {
  const Golden& golden = LoadGolden("qwen3.5");
  const std::string policy =
      GENERATE("window rows=8", "compensated rows=8", "accumulated rows=8", "observed rows=12");
  INFO(policy);
  const std::span<const int32_t> tokens(golden.tokens);
  auto full = MakeSession(golden, PolicyLimits("f32"));
  const std::vector<float> want = AllLogits(*full, golden, 1);
  auto session = MakeSession(golden, PolicyLimits("f32 observe=3 " + policy));
  REQUIRE(session->Append(tokens.first(21), nullptr).ok());
  for (const uint32_t position : {6u, 3u, 0u}) {
    REQUIRE(session->Rewind(position).ok());
    REQUIRE(session->Append(tokens.subspan(position, 1), nullptr).ok());
    const float* row = want.data() + position * golden.vocabulary;
    CHECK(LargestDifference(session->logits().data(), row, golden.vocabulary) <=
          golden.Allowance());
    REQUIRE(session->Append(tokens.subspan(position + 1, 20 - position), nullptr).ok());
  }
}

TEST_CASE("forks and files carry what a policy knows", "[session][retention]") {
  const Golden& golden = LoadGolden(GENERATE("llama-gqa", "qwen3.5"));
  const std::string policy =
      GENERATE("int8 window rows=8", "f16 compensated rows=8 sinks=2", "int8/32 accumulated rows=8",
               "int4/32 rotate exact=4 observed rows=12");
  INFO(policy);
  const std::span<const int32_t> tokens(golden.tokens);
  auto session = MakeSession(golden, PolicyLimits(policy + " observe=4"));
  REQUIRE(session->Append(tokens.first(21), nullptr).ok());
  auto fork = session->Fork().Take();
  const std::string path = ScratchPath("policy.session");
  REQUIRE(session->Save(path.c_str()).ok());
  auto restored = MakeSession(golden, PolicyLimits(policy + " observe=4"));
  REQUIRE(restored->Append(tokens.first(3), nullptr).ok());
  REQUIRE(restored->Restore(path.c_str()).ok());
  auto other = MakeSession(golden, PolicyLimits("f16 observed rows=9"));
  CHECK(other->Restore(path.c_str()).code() == StatusCode::kMismatch);
  for (Session* s : {session.get(), fork.get(), restored.get()}) {
    REQUIRE(s->Append(tokens.subspan(21), nullptr).ok());
    CHECK(std::equal(s->logits().begin(), s->logits().end(), session->logits().begin()));
  }
}

TEST_CASE("a cache that let rows go cannot go back behind that", "[session][retention]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, PolicyLimits("f32 observed rows=8 observe=3"));
  const std::span<const int32_t> tokens(golden.tokens);
  REQUIRE(session->Append(tokens.first(24), nullptr).ok());
  CHECK(session->Rewind(3).code() == StatusCode::kUnsupported);
  CHECK(session->position() == 24);
  REQUIRE(session->Rewind(23).ok());
  REQUIRE(session->Rewind(0).ok());
  REQUIRE(session->Append(tokens.first(24), nullptr).ok());
  auto fresh = MakeSession(golden, PolicyLimits("f32 observed rows=8 observe=3"));
  REQUIRE(fresh->Append(tokens.first(24), nullptr).ok());
  CHECK(std::equal(fresh->logits().begin(), fresh->logits().end(), session->logits().begin()));
}

TEST_CASE("a rewound cache of votes can be saved and restored", "[session][retention]") {
  const Golden& golden = LoadGolden("llama-gqa");
  const std::string policy = "f16 accumulated rows=20 observe=3";
  const std::span<const int32_t> tokens(golden.tokens);
  auto session = MakeSession(golden, PolicyLimits(policy));
  REQUIRE(session->Append(tokens.first(20), nullptr).ok());
  REQUIRE(session->Rewind(9).ok());
  const std::string path = ScratchPath("rewound.session");
  REQUIRE(session->Save(path.c_str()).ok());
  auto restored = MakeSession(golden, PolicyLimits(policy));
  REQUIRE(restored->Restore(path.c_str()).ok());
  for (Session* s : {session.get(), restored.get()}) {
    REQUIRE(s->Append(tokens.subspan(9), nullptr).ok());
    CHECK(std::equal(s->logits().begin(), s->logits().end(), session->logits().begin()));
  }
}

TEST_CASE("exact rows take no part in votes", "[session][retention]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, PolicyLimits("int8 accumulated exact=16 rows=8", 8));
  REQUIRE(session->plan().layers[0].lane(0).vote.rows == 1);
  for (const float logit : AllLogits(*session, golden, 14)) REQUIRE(std::isfinite(logit));
}

TEST_CASE("a codec's name means the same by itself and in a list", "[session][retention]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto named = MakeSession(golden, PolicyLimits("int4/32"));
  auto chosen = MakeSession(golden, TestLimits(kContext, kChunk, CodecChoice::kBlock4));
  CHECK(named->plan().total_bytes == chosen->plan().total_bytes);
  CHECK(named->plan().layers[0].lane(0).rotated);
}

// Three profiles by head: everything, a window for one of the two KV heads, votes in int8 for both.
void AddProfiles(model::Model& model) {
  model::RoleSpec all, window, votes;
  all.keys = all.values = window.keys = window.values = RowCodec::kF32;
  window.retention = model::Retention::kWindow;
  window.rows = 24;
  window.sinks = 2;
  votes.keys = votes.values = RowCodec::kI8Token;
  votes.retention = model::Retention::kObserved;
  votes.rows = 12;
  votes.observe = 4;
  model.roles = {all, window, votes};
  const size_t layers = model.attentions.size();
  using Heads = std::vector<std::vector<uint8_t>>;
  const auto right = [](float part) {
    return std::vector{model::QualitySpec{"needle", model::Metric::kAccuracy, 48, part, 1.0f}};
  };
  model.profiles = {{"everything", Heads(layers, {0, 0}), right(1.0f)},
                    {"half", Heads(layers, {0, 1}), right(0.9f)},
                    {"least", Heads(layers, {2, 2}), right(0.5f)}};
}

TEST_CASE("the best profile that fits is chosen, and a trim goes down the list",
          "[session][retention][trim]") {
  const Golden& golden = LoadGolden("llama-gqa");
  const auto engine = Changed("llama-gqa", AddProfiles);
  plan::Limits limits = TestLimits(kContext, kChunk, CodecChoice::kAuto);
  uint64_t bytes[3];
  for (int i = 0; const char* name : {"everything", "half", "least"}) {
    limits.profile = name;
    bytes[i++] = session::PlanSession(*engine, limits).Take().total_bytes;
  }
  REQUIRE((bytes[0] > bytes[1] && bytes[1] > bytes[2]));
  limits.profile.clear();
  float last = 0.0f;
  for (uint64_t budget = bytes[2]; budget <= bytes[0]; budget += 64) {
    limits.budget_bytes = budget;
    const plan::Plan plan = session::PlanSession(*engine, limits).Take();
    REQUIRE(plan.fits);
    REQUIRE(plan.quality->value >= last);  // more bytes never give worse quality
    last = plan.quality->value;
    REQUIRE((plan.profile == "everything") == (budget >= bytes[0]));
    if (plan.profile == "half") CHECK(plan.better_profile == "everything");
  }
  CHECK(last == 1.0f);

  limits.budget_bytes = 0;
  auto session = Session::Create(engine, limits).Take();
  REQUIRE(session->plan().profile == "everything");
  const std::span<const int32_t> tokens(golden.tokens);
  REQUIRE(session->Append(tokens.first(20), nullptr).ok());
  auto straight = session->Fork().Take();
  uint64_t freed = 0;
  REQUIRE(session->Trim(bytes[1], &freed).ok());
  CHECK(session->plan().profile == "half");
  CHECK(session->plan().total_bytes <= bytes[1]);
  // The window still holds all that there is: nothing may have changed, not a bit.
  for (size_t i = 20; i < 24; ++i) {
    REQUIRE(session->Append(tokens.subspan(i, 1), nullptr).ok());
    REQUIRE(straight->Append(tokens.subspan(i, 1), nullptr).ok());
    CHECK(std::equal(straight->logits().begin(), straight->logits().end(),
                     session->logits().begin()));
  }
  REQUIRE(session->Append(tokens.subspan(24), nullptr).ok());
  for (const float logit : session->logits()) REQUIRE(std::isfinite(logit));
  // From everything straight to votes: sinks and the newest rows stay.
  REQUIRE(straight->Trim(bytes[2], &freed).ok());
  CHECK(straight->plan().profile == "least");
  REQUIRE(straight->Append(tokens.subspan(24), nullptr).ok());
  for (const float logit : straight->logits()) REQUIRE(std::isfinite(logit));
}

TEST_CASE("a policy that a model cannot take is refused by name", "[session][retention]") {
  const Golden& latent = LoadGolden("deepseek-v2");
  const auto refused = Session::Create(latent.engine, PolicyLimits("f16 observed rows=8"));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kUnsupported);
  CHECK(std::string(refused.status().message()).find("attention 0 is latent") != std::string::npos);
  CHECK(Session::Create(latent.engine, PolicyLimits("int8 window rows=8")).ok());
}

}  // namespace
}  // namespace headroom::test
