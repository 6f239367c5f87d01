// Windows whose positions are places among the rows kept (StreamingLLM, arXiv 2309.17453), against
// a forward pass in double that rotates raw rows by their places.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "session/attention_reference.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using convert::ModelDescription;
using model::AttentionSpec;
using model::RopeLayout;
using session::Session;

constexpr uint32_t kContext = 32;
const std::vector<int32_t> kTokens = {3,  17, 31, 4, 9, 3,  22, 30, 11, 5, 6, 28, 1, 17, 2,
                                      25, 7,  19, 8, 3, 12, 27, 14, 20, 0, 9, 13, 5, 23, 16};

// Grouped heads of 10, of which `dims` are rotated.
AttentionSpec Grouped(AttentionShapes& s, uint32_t dims, RopeLayout layout, float factor) {
  AttentionSpec spec;
  spec.query_heads = 6;
  spec.scale = 1.3f;
  spec.query.width = 10;
  spec.query.weight = s.Matrix(60, kShapeChannels);
  spec.query.norm = s.Norm(10);
  spec.key = s.Stream(2, 10);
  spec.key.norm = s.Norm(10);
  spec.value = s.Stream(2, 7);
  if (dims != 0) {
    spec.query.rope = spec.key.rope = s.Rope(dims, dims == 10 ? 0 : 2, layout, factor);
  }
  spec.views = {{0, 0, 0}, {1, 0, 1}};
  spec.head_map = {0, 0, 0, 1, 1, 1};
  spec.output = s.Matrix(kShapeChannels, 42);
  return spec;
}

ModelDescription WholeHeads() {
  AttentionShapes s;
  s.Attend(Grouped(s, 10, RopeLayout::kHalfSplit, 1.0f));
  s.Attend(Grouped(s, 10, RopeLayout::kHalfSplit, 1.0f));
  return s.Done();
}
// The middle of heads, scaled with the angles as YaRN does, then a layer without positions.
ModelDescription PartsOfHeads() {
  AttentionShapes s;
  s.Attend(Grouped(s, 6, RopeLayout::kInterleaved, 1.25f));
  s.Attend(Grouped(s, 0, RopeLayout::kHalfSplit, 1.0f));
  s.Attend(Grouped(s, 6, RopeLayout::kHalfSplit, 0.8f));
  return s.Done();
}
// Rotary tails beside a latent, and a second attention that reads the same rows.
ModelDescription Tails() {
  AttentionShapes s;
  AttentionSpec first = LatentByGroups(s), second = LatentByGroups(s);
  first.query.factors = second.query.factors = model::kNone;
  second.source_attention = 0;
  second.key = {1, 18, {}, {}, {}};
  second.tail = {2, 4, {}, {}, {}};
  s.Attend(std::move(first));
  s.Attend(std::move(second));
  return s.Done();
}

// Sinks and the last `rows`; what is kept stands side by side, the query last. The mistakes are
// what a wrong implementation would do.
enum class Mistake {
  kNone,
  kAbsolute,     // sinks are seen from the position in the text
  kQueryTooFar,  // the query's place is the number of rows
  kQueryTooNear,
  kOneRowMore,  // the window keeps a row more
  kSinkTooFar   // a sink is one place further on
};
PlaceRule Places(size_t sinks, size_t rows, Mistake mistake = Mistake::kNone) {
  return [=](const AttentionSpec&, PlacePair* pair) {
    const size_t p = pair->query, j = pair->key;
    const size_t window = rows + (mistake == Mistake::kOneRowMore ? 1 : 0);
    const auto kept = [&](size_t row) { return row < sinks || p - row < window; };
    if (!kept(j)) return false;
    if (mistake == Mistake::kAbsolute) return true;
    size_t query = 0, key = 0;
    for (size_t row = 0; row < p; ++row) query += kept(row) ? 1 : 0;
    for (size_t row = 0; row < j; ++row) key += kept(row) ? 1 : 0;
    const bool gap = p >= sinks + rows && j < sinks;
    if (gap && mistake == Mistake::kQueryTooFar) ++query;
    if (gap && mistake == Mistake::kQueryTooNear) --query;
    if (gap && mistake == Mistake::kSinkTooFar) ++key;
    *pair = {query, key};
    return true;
  };
}

plan::Limits With(const std::string& policy, uint32_t chunk = 4) {
  plan::Limits limits = TestLimits(kContext, chunk, plan::CodecChoice::kAuto);
  limits.profile = policy;
  return limits;
}

// In chunks, and the rest token by token.
std::vector<float> Logits(const std::shared_ptr<session::Engine>& engine,
                          const plan::Limits& limits, size_t count = kTokens.size()) {
  auto created = Session::Create(engine, limits);
  INFO(created.status().message());
  REQUIRE(created.ok());
  auto session = created.Take();
  const std::span<const int32_t> tokens(kTokens.data(), count);
  const size_t together = count - count / 3;
  std::vector<float> logits(count * kShapeWords);
  REQUIRE(session->Append(tokens.first(together), logits.data()).ok());
  for (size_t i = together; i < count; ++i) {
    REQUIRE(session->Append(tokens.subspan(i, 1), logits.data() + i * kShapeWords).ok());
  }
  return logits;
}

TEST_CASE("relative positions are those of the text until a row leaves",
          "[session][retention][relative]") {
  const AlignedBytes file = WriteToMemory(GENERATE(WholeHeads, PartsOfHeads, Tails)());
  const auto engine = EngineOn(file);
  const std::string policy = "f32 window relative sinks=3 rows=12";
  CHECK(Logits(engine, With(policy), 15) == Logits(engine, With("f32"), 15));
  CHECK(Logits(engine, With(policy), 16) != Logits(engine, With("f32"), 16));
}

TEST_CASE("relative positions are places among the rows kept", "[session][retention][relative]") {
  const AlignedBytes file = WriteToMemory(GENERATE(WholeHeads, PartsOfHeads, Tails)());
  const auto engine = EngineOn(file);
  const auto expected = AttentionReference(engine->model(), kTokens, Places(3, 5)).Logits();
  const std::string policy = "f32 window relative sinks=3 rows=5";
  for (const uint32_t chunk : {1u, 4u, 5u, 32u}) {
    INFO("chunk " << chunk);
    CHECK(Deviation(expected, Logits(engine, With(policy, chunk))) < kShapeTolerance);
  }
  // Without the word, positions are those of the text.
  const auto absolute =
      AttentionReference(engine->model(), kTokens, Places(3, 5, Mistake::kAbsolute)).Logits();
  CHECK(Deviation(absolute, Logits(engine, With("f32 window sinks=3 rows=5"))) < kShapeTolerance);
}

TEST_CASE("wrong places are told from right ones", "[session][retention][relative][mutant]") {
  const AlignedBytes file = WriteToMemory(GENERATE(WholeHeads, PartsOfHeads, Tails)());
  const auto engine = EngineOn(file);
  const auto logits = Logits(engine, With("f32 window relative sinks=3 rows=5"));
  const Mistake mistake =
      GENERATE(Mistake::kAbsolute, Mistake::kQueryTooFar, Mistake::kQueryTooNear,
               Mistake::kOneRowMore, Mistake::kSinkTooFar);
  INFO("mistake " << static_cast<int>(mistake));
  CHECK(Deviation(AttentionReference(engine->model(), kTokens, Places(3, 5, mistake)).Logits(),
                  logits) > 1e-3);
}

// Exact rows, sinks and the window overlap in every way; rows in f16 and rounded ones.
TEST_CASE("exact rows and sinks are cut where they must be", "[session][retention][relative]") {
  struct Case {
    const char* words;
    size_t sinks;
    double tolerance;
  };
  const Case c =
      GENERATE(Case{"int8 exact=32 sinks=3", 3, 2e-3}, Case{"f16 sinks=4", 4, 2e-3},
               Case{"int8 exact=5 sinks=3", 3, 0.02}, Case{"int8 exact=2 sinks=5", 5, 0.02},
               Case{"int8/32 rotate exact=3 sinks=3", 3, 0.02});
  INFO(c.words);
  const AlignedBytes file = WriteToMemory(WholeHeads());
  const auto engine = EngineOn(file);
  const auto logits = Logits(engine, With(std::string(c.words) + " window relative rows=5"));
  CHECK(Deviation(AttentionReference(engine->model(), kTokens, Places(c.sinks, 5)).Logits(),
                  logits) < c.tolerance);
  const auto absolute =
      AttentionReference(engine->model(), kTokens, Places(c.sinks, 5, Mistake::kAbsolute)).Logits();
  CHECK(Deviation(absolute, logits) > 2 * c.tolerance);
}

TEST_CASE("windows with relative positions go past the trained context",
          "[session][retention][relative]") {
  ModelDescription description = WholeHeads();
  description.metadata.context_tokens = 8;
  const AlignedBytes file = WriteToMemory(description);
  const auto engine = EngineOn(file);
  const auto expected = AttentionReference(engine->model(), kTokens, Places(3, 5)).Logits();
  CHECK(Deviation(expected, Logits(engine, With("f32 window relative sinks=3 rows=5"))) <
        kShapeTolerance);
  CHECK(session::PlanSession(*engine, With("window relative sinks=3 rows=5")).Take().max_context ==
        kContext);
  struct Case {
    const char *policy, *fact;
  };
  for (const Case& c : {Case{"f32", "head 0 of attention 0 sees all rows"},
                        Case{"window sinks=3 rows=5", "sees rows further away"},
                        Case{"window relative sinks=4 rows=5", "sees rows further away"},
                        Case{"window relative share=0.5", "sees rows further away"},
                        Case{"window relative rows=4; heads=1.1 f16", "head 1 of attention 1 sees"},
                        Case{"observed rows=5", "sees all rows"}}) {
    const auto refused = session::PlanSession(*engine, With(c.policy));
    INFO(c.policy);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.status().code() == StatusCode::kInvalidArgument);
    const std::string message = refused.status().message();
    CHECK(message.find("context 32 > trained maximum 8") != std::string::npos);
    CHECK(message.find(c.fact) != std::string::npos);
  }
  plan::Limits far = With("window relative sinks=3 rows=5");
  far.context = 0xfffffff0u;
  CHECK(session::PlanSession(*engine, far).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("relative positions that a model cannot have are refused by name",
          "[session][retention][relative]") {
  const auto refused = [](const ModelDescription& description, const char* fact) {
    const AlignedBytes file = WriteToMemory(description);
    const auto engine = EngineOn(file);
    const auto session = Session::Create(engine, With("f32 window relative rows=5"));
    INFO(fact << " / " << session.status().message());
    REQUIRE_FALSE(session.ok());
    CHECK(session.status().code() == StatusCode::kUnsupported);
    CHECK(std::string(session.status().message()).find(fact) != std::string::npos);
    CHECK(Session::Create(engine, With("f32 window rows=5")).ok());
  };
  AttentionShapes unrotated, apart, scaled, other, multiplied;
  unrotated.Attend(Grouped(unrotated, 0, RopeLayout::kHalfSplit, 1.0f));
  refused(unrotated.Done(), "the model's are not rotations");
  AttentionSpec spec = Grouped(apart, 10, RopeLayout::kHalfSplit, 1.0f);
  spec.query.rope.layout = RopeLayout::kInterleaved;
  apart.Attend(spec);
  refused(apart.Done(), "attention 0 does not rotate queries as it does keys");
  spec = Grouped(other, 6, RopeLayout::kHalfSplit, 1.0f);
  spec.query.rope.offset = 0;
  other.Attend(spec);
  refused(other.Done(), "attention 0 does not rotate queries as it does keys");
  scaled.Attend(LatentByGroups(scaled));
  refused(scaled.Done(), "attention 0 scales what it has rotated, unequally");
  spec = Grouped(multiplied, 10, RopeLayout::kHalfSplit, 1.0f);
  spec.query.matrix = {multiplied.Matrix(60, 10), 6, 10};
  multiplied.Attend(spec);
  refused(multiplied.Done(), "attention 0 multiplies queries it has rotated");
  AttentionShapes turned;
  spec = Grouped(turned, 10, RopeLayout::kHalfSplit, 1.0f);
  spec.key.basis = turned.Tensor({20, 10}, "basis");
  spec.key.ordered = true;
  turned.Attend(spec);
  refused(turned.Done(), "attention 0 multiplies queries it has rotated");
}

TEST_CASE("forks, files and trims keep relative positions", "[session][retention][relative]") {
  const AlignedBytes file = WriteToMemory(WholeHeads());
  const auto engine = EngineOn(file);
  const std::string words = "sinks=3 rows=5";
  const std::span<const int32_t> tokens(kTokens);
  auto session = Session::Create(engine, With("f16 window relative " + words)).Take();
  REQUIRE(session->Append(tokens.first(19), nullptr).ok());
  auto fork = session->Fork().Take();
  auto trimmed = session->Fork().Take();
  uint64_t freed = 0;
  (void)trimmed->Trim(1, &freed);  // as small as it gets
  const std::string path = ScratchPath("relative.session");
  REQUIRE(session->Save(path.c_str()).ok());
  auto restored = Session::Create(engine, With("f16 window relative " + words, 8)).Take();
  REQUIRE(restored->Restore(path.c_str()).ok());
  auto other = Session::Create(engine, With("f16 window " + words)).Take();
  CHECK(other->Restore(path.c_str()).code() == StatusCode::kMismatch);
  REQUIRE(session->Append(tokens.subspan(19), nullptr).ok());
  for (Session* s : {fork.get(), restored.get(), trimmed.get()}) {
    REQUIRE(s->Append(tokens.subspan(19), nullptr).ok());
    const float difference =
        LargestDifference(s->logits().data(), session->logits().data(), kShapeWords);
    CHECK(difference <= (s == trimmed.get() ? 0.05f : 1e-5f) *
                            *std::max_element(s->logits().begin(), s->logits().end()));
  }
}

}  // namespace
}  // namespace headroom::test
