// Keys in orthogonal bases, values ordered by importance, and lanes that keep the first numbers of
// a row alone: against keys cut in double (arXiv 2410.14731, eq. 4).
#include <algorithm>
#include <cmath>

#include <catch2/generators/catch_generators.hpp>

#include "session/attention_reference.h"

namespace headroom::test {
namespace {

using convert::ModelDescription;
using model::AttentionSpec;
using session::Session;

constexpr uint32_t kWidth = 24;

// Six query heads of 24 over three KV heads.
AttentionSpec InBasis(AttentionShapes& s) {
  AttentionSpec spec;
  spec.query_heads = 6;
  spec.scale = 0.8f;
  spec.query.width = kWidth;
  spec.query.weight = s.Matrix(6 * kWidth, kShapeChannels);
  spec.key = s.Stream(3, kWidth);
  spec.key.norm = s.Norm(kWidth);
  spec.key.basis = s.Tensor({3 * kWidth, kWidth}, "basis");
  spec.key.ordered = true;
  spec.value = s.Stream(3, 16);
  spec.value.ordered = true;
  spec.query.rope = spec.key.rope = s.Rope(kWidth, 0, model::RopeLayout::kHalfSplit);
  spec.views = {{0, 0, 0}, {1, 0, 1}, {2, 0, 2}};
  spec.head_map = {0, 0, 1, 1, 2, 2};
  spec.output = s.Matrix(kShapeChannels, 6 * 16);
  return spec;
}

ModelDescription TwoInBases() {
  AttentionShapes s;
  AttentionSpec first = InBasis(s), second = InBasis(s);
  s.Attend(std::move(first));
  s.Attend(std::move(second));
  return s.Done();
}

// A second attention on the rows of the first, its query heads in another order.
ModelDescription SharedBasis() {
  AttentionShapes s;
  AttentionSpec first = InBasis(s), second = InBasis(s);
  second.source_attention = 0;
  second.head_map = {2, 0, 1, 0, 2, 1};
  second.key = {3, kWidth, {}, {}, {}};
  second.value = {3, 16, {}, {}, {}};
  s.Attend(std::move(first));
  s.Attend(std::move(second));
  return s.Done();
}

plan::Limits RankLimits(const std::string& policy, uint32_t chunk) {
  plan::Limits limits = TestLimits(32, chunk, plan::CodecChoice::kAuto);
  limits.profile = policy;
  return limits;
}

std::vector<float> AllLogits(Session& session) {
  std::vector<float> logits(kShapeTokens.size() * kShapeWords);
  REQUIRE(session.Append(kShapeTokens, logits.data()).ok());
  return logits;
}

// Largest difference, of the largest logit.
double Distance(const std::vector<double>& expected, const std::vector<float>& logits) {
  double largest = 0, difference = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - static_cast<double>(logits[i])));
  }
  return difference / largest;
}

constexpr double kRounding = kShapeTolerance;

TEST_CASE("rows cut in their basis are keys and values cut in double", "[session][basis]") {
  const std::string policy =
      GENERATE("f32", "f32 keyrank=24 valuerank=16", "f32 keyrank=512", "f32 keyrank=8",
               "f32 valuerank=8", "f32 keyrank=16 valuerank=8", "f32 rotate keyrank=16 valuerank=8",
               "f32; heads=0.1+1.2 f32 keyrank=8; heads=1.0 f32 keyrank=16 valuerank=8");
  const AlignedBytes file = WriteToMemory(TwoInBases());
  const auto engine = EngineOn(file);
  const plan::Profile profile = plan::ParseProfile(engine->model(), policy).Take();
  const auto expected = AttentionReference(engine->model(), profile).Logits();
  const auto whole = AttentionReference(engine->model()).Logits();
  for (const uint32_t chunk : {1u, 4u, 32u}) {
    INFO(policy << ", chunk " << chunk);
    auto session = Session::Create(engine, RankLimits(policy, chunk)).Take();
    const std::vector<float> logits = AllLogits(*session);
    CHECK(Distance(expected, logits) < kRounding);
    const bool cut = policy.find("=8") != std::string::npos;
    CHECK((Distance(whole, logits) > 100 * kRounding) == cut);
  }
}

TEST_CASE("a layer on another's rows turns its queries by that layer's bases", "[session][basis]") {
  const AlignedBytes file = WriteToMemory(SharedBasis());
  const auto engine = EngineOn(file);
  for (const char* policy : {"f32", "f32; heads=0.0 f32 keyrank=8 valuerank=8"}) {
    const plan::Profile profile = plan::ParseProfile(engine->model(), policy).Take();
    const auto expected = AttentionReference(engine->model(), profile).Logits();
    for (const uint32_t chunk : {1u, 4u}) {
      auto session = Session::Create(engine, RankLimits(policy, chunk)).Take();
      CHECK(Distance(expected, AllLogits(*session)) < kRounding);
    }
  }
}

TEST_CASE("the comparison tells wrong bases apart", "[session][basis][mutant]") {
  const AlignedBytes file = WriteToMemory(TwoInBases());
  const auto engine = EngineOn(file);
  const std::string policy = "f32 keyrank=16";
  const plan::Profile profile = plan::ParseProfile(engine->model(), policy).Take();
  auto session = Session::Create(engine, RankLimits(policy, 4)).Take();
  const std::vector<float> logits = AllLogits(*session);
  for (const BasisMistake mistake :
       {BasisMistake::kTurnedRound, BasisMistake::kQueryLeft, BasisMistake::kOtherHead}) {
    CHECK(Distance(AttentionReference(engine->model(), profile, mistake).Logits(), logits) >
          100 * kRounding);
  }
}

TEST_CASE("ranks make rows shorter by what they say, in every codec", "[session][basis]") {
  const AlignedBytes file = WriteToMemory(TwoInBases());
  const auto engine = EngineOn(file);
  const auto bytes_per_token = [&](const std::string& policy) {
    return session::PlanSession(*engine, RankLimits(policy, 4)).Take().state_bytes_per_token;
  };
  CHECK(bytes_per_token("f16") == 2 * 3 * (24 + 16) * 2);
  CHECK(bytes_per_token("f16 keyrank=8") == 2 * 3 * (8 + 16) * 2);
  CHECK(bytes_per_token("f16; heads=1.2 f16 keyrank=16 valuerank=8") ==
        5 * (24 + 16) * 2 + (16 + 8) * 2);
  CHECK(bytes_per_token("int8 keyrank=8 valuerank=8") == 2 * 3 * (8 + 4 + 8 + 4));
  const auto whole = AttentionReference(engine->model()).Logits();
  for (const char* policy :
       {"int8 keyrank=16", "int8/32 rotate keyrank=16 valuerank=8",
        "int4/32 rotate exact=4 keyrank=16", "f16 window rows=12 keyrank=16",
        "f16 observed rows=12 keyrank=16", "int8 compensated rows=8 keyrank=8"}) {
    for (const uint32_t chunk : {1u, 4u}) {
      auto session = Session::Create(engine, RankLimits(policy, chunk)).Take();
      const std::vector<float> logits = AllLogits(*session);
      INFO(policy << ", chunk " << chunk);
      CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
      CHECK(Distance(whole, logits) < 1.5);
    }
  }
}

// Full rows, then what a trim makes of them.
std::shared_ptr<session::Engine> WithProfiles(const AlignedBytes& file, const char* before,
                                              const char* after) {
  auto model = model::Model::OpenMemory(file.data(), file.size(), {}).Take();
  model->roles = {plan::ParseRole(before).Take(), plan::ParseRole(after).Take()};
  using Heads = std::vector<std::vector<uint8_t>>;
  const size_t layers = model->attentions.size();
  model->profiles = {{"before", Heads(layers, {0, 0, 0}), {}},
                     {"after", Heads(layers, {1, 1, 1}), {}}};
  return session::Engine::Create(std::move(model), {}).Take();
}

TEST_CASE("a trim cuts rows where they lie, as if they had been cut at once",
          "[session][basis][trim]") {
  // One layer: what has been cut plays no part in keys and values to come.
  AttentionShapes s;
  s.Attend(InBasis(s));
  const AlignedBytes file = WriteToMemory(s.Done());
  const std::string rank = GENERATE("keyrank=8", "valuerank=8", "keyrank=16 valuerank=8");
  const std::string codec = GENERATE("f32", "f16", "int8");
  INFO(codec << " " << rank);
  const auto engine = WithProfiles(file, codec.c_str(), (codec + " " + rank).c_str());
  const std::span<const int32_t> tokens(kShapeTokens);
  auto trimmed = Session::Create(engine, RankLimits("before", 4)).Take();
  auto straight = Session::Create(engine, RankLimits("after", 4)).Take();
  for (Session* session : {trimmed.get(), straight.get()}) {
    REQUIRE(session->Append(tokens.first(9), nullptr).ok());
  }
  uint64_t freed = 0;
  const uint64_t target = trimmed->plan().total_bytes - 64;
  REQUIRE(trimmed->Trim(target, &freed).ok());
  REQUIRE(trimmed->plan().profile == "after");
  CHECK(freed >= 64);
  for (Session* session : {trimmed.get(), straight.get()}) {
    REQUIRE(session->Append(tokens.subspan(9), nullptr).ok());
  }
  const auto a = trimmed->logits(), b = straight->logits();
  if (codec != "int8") {
    CHECK(std::equal(a.begin(), a.end(), b.begin()));
  } else {
    CHECK(LargestDifference(a.data(), b.data(), a.size()) < 0.03f);
  }
}

TEST_CASE("a trim to rotated, exact or fewer rows cuts them as well", "[session][basis][trim]") {
  AttentionShapes s;
  s.Attend(InBasis(s));
  const AlignedBytes file = WriteToMemory(s.Done());
  struct Case {
    const char *before, *after;
  };
  const Case c =
      GENERATE(Case{"f32 exact=2", "int8/32 rotate exact=4 keyrank=16 valuerank=8"},
               Case{"int8 rotate exact=2", "int8 rotate exact=2 keyrank=16"},
               Case{"f16 compensated rows=8", "f16 compensated rows=8 keyrank=16 valuerank=8"},
               Case{"f32 observed rows=12 observe=2", "f32 observed rows=10 observe=2 keyrank=16"});
  INFO(c.before << " to " << c.after);
  const auto engine = WithProfiles(file, c.before, c.after);
  const std::span<const int32_t> tokens(kShapeTokens);
  const auto whole = Session::Create(engine, RankLimits("after", 1)).Take();
  auto trimmed = Session::Create(engine, RankLimits("before", 1)).Take();
  for (Session* session : {whole.get(), trimmed.get()}) {
    REQUIRE(session->Append(tokens.first(8), nullptr).ok());
  }
  uint64_t freed = 0;
  REQUIRE(trimmed->Trim(trimmed->plan().total_bytes - 64, &freed).ok());
  REQUIRE(trimmed->plan().profile == "after");
  float largest = 0;
  for (Session* session : {whole.get(), trimmed.get()}) {
    REQUIRE(session->Append(tokens.subspan(8, 1), nullptr).ok());
  }
  for (const float logit : whole->logits()) largest = std::max(largest, std::fabs(logit));
  CHECK(LargestDifference(whole->logits().data(), trimmed->logits().data(), kShapeWords) <
        0.02f * largest);
}

TEST_CASE("a trim brings no number back that has been cut", "[session][basis][trim]") {
  const AlignedBytes file = WriteToMemory(TwoInBases());
  // Fewer bytes, but of rows that are longer.
  const auto engine = WithProfiles(file, "f32 keyrank=8", "int4/32 keyrank=16");
  auto session = Session::Create(engine, RankLimits("before", 4)).Take();
  REQUIRE(session->Append(kShapeTokens, nullptr).ok());
  uint64_t freed = 0;
  CHECK(session->Trim(1, &freed).code() == StatusCode::kOverBudget);
  CHECK(session->plan().profile == "before");
}

TEST_CASE("forks and files carry cut rows", "[session][basis]") {
  const AlignedBytes file = WriteToMemory(TwoInBases());
  const auto engine = EngineOn(file);
  const std::string policy = "int8; heads=0.1 int8 keyrank=8 valuerank=8";
  const std::span<const int32_t> tokens(kShapeTokens);
  auto session = Session::Create(engine, RankLimits(policy, 4)).Take();
  REQUIRE(session->Append(tokens.first(9), nullptr).ok());
  auto fork = session->Fork().Take();
  const std::string path = ScratchPath("basis.session");
  REQUIRE(session->Save(path.c_str()).ok());
  auto restored = Session::Create(engine, RankLimits(policy, 4)).Take();
  REQUIRE(restored->Restore(path.c_str()).ok());
  auto other = Session::Create(engine, RankLimits("int8; heads=0.1 int8 keyrank=8", 4)).Take();
  CHECK(other->Restore(path.c_str()).code() == StatusCode::kMismatch);
  for (Session* s : {session.get(), fork.get(), restored.get()}) {
    REQUIRE(s->Append(tokens.subspan(9), nullptr).ok());
    CHECK(std::equal(s->logits().begin(), s->logits().end(), session->logits().begin()));
  }
}

TEST_CASE("ranks without a basis are refused by name", "[session][basis]") {
  const auto refused = [](const std::shared_ptr<session::Engine>& engine, const char* policy) {
    const auto session = Session::Create(engine, RankLimits(policy, 4));
    REQUIRE_FALSE(session.ok());
    CHECK(session.status().code() == StatusCode::kUnsupported);
    return std::string(session.status().message());
  };
  const Golden& golden = LoadGolden("llama-gqa");
  CHECK(refused(golden.engine, "int8 keyrank=8").find("keyrank=8, but the keys of attention 0") !=
        std::string::npos);
  AttentionShapes s;
  AttentionSpec spec = InBasis(s);
  spec.value.ordered = false;
  s.Attend(std::move(spec));
  const AlignedBytes file = WriteToMemory(s.Done());
  CHECK(refused(EngineOn(file), "f16 keyrank=8 valuerank=8")
            .find("valuerank=8, but the values of attention 0") != std::string::npos);
  CHECK(refused(LoadGolden("deepseek-v2").engine, "f16 keyrank=8").find("keyrank=8") !=
        std::string::npos);
}

}  // namespace
}  // namespace headroom::test
