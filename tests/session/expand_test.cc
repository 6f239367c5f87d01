// Prefill of a latent by expansion against absorption, and both against the forward pass in double,
// which knows of neither: it makes keys and values of whole latents.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cstring>
#include <random>

#include "plan/lower.h"
#include "session/attention_reference.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using model::AttentionSpec;
using session::Session;

// For a latent of 18 with parts 6 + 4 and values of 5: 18 (6 + 5) / (2 * 18 + 4 - 15) = 7.9.
constexpr uint32_t kExpandFrom = 8;

AttentionSpec Expanding(AttentionShapes& s) {
  AttentionSpec spec = LatentByGroups(s);
  spec.query.factors = model::kNone;  // relative positions refuse them
  spec.key_matrix = {s.Matrix(2 * 6, 18), 2, 6};
  return spec;
}

// Three layers, for the last runs only where logits are wanted, one token at a time. The second
// reads the rows of the first with matrices and a map of its own.
convert::ModelDescription ThreeLayers() {
  AttentionShapes s;
  AttentionSpec second = Expanding(s);
  second.source_attention = 0;
  second.head_map = {1, 0, 1, 0};
  second.key = {1, 18, {}, {}, {}};
  second.tail = {2, 4, {}, {}, {}};
  AttentionSpec first = Expanding(s), third = Expanding(s);
  second.query.rope = second.tail.rope = first.query.rope;
  second.tail.rope.offset = 0;
  s.Attend(std::move(first));
  s.Attend(std::move(second));
  s.Attend(std::move(third));
  s.d.metadata.context_tokens = 4096;
  return s.Done();
}

float* Floats(const model::Model& model, const model::HeadMatrix& matrix) {
  return const_cast<float*>(model.tensors[static_cast<size_t>(matrix.weight.tensor)].f32());
}

// The file with key matrices that are the query matrices turned round, times `factor`.
AlignedBytes Turned(float factor = 1.0f) {
  AlignedBytes file = WriteToMemory(ThreeLayers());
  const auto model = model::Model::OpenMemory(file.data(), file.size(), {}).Take();
  for (const AttentionSpec& spec : model->attentions) {
    const uint32_t rank = spec.key.width, part = spec.query_part();
    const float* query = Floats(*model, spec.query.matrix);
    float* key = Floats(*model, spec.key_matrix);
    for (uint32_t b = 0; b < spec.key_matrix.blocks; ++b) {
      for (uint32_t r = 0; r < rank; ++r) {
        for (uint32_t i = 0; i < part; ++i) {
          key[(b * part + i) * rank + r] = factor * query[(b * rank + r) * part + i];
        }
      }
    }
  }
  return file;
}

std::vector<int32_t> RandomTokens(size_t count) {
  std::mt19937 random(11);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kShapeWords);
  return tokens;
}

plan::Limits Policy(const std::string& text, uint32_t context, uint32_t chunk,
                    uint32_t threads = 1) {
  plan::Limits limits = TestLimits(context, chunk, plan::CodecChoice::kAuto, threads);
  limits.profile = text;
  return limits;
}

// All logits, or those of the last token of a long text.
std::vector<float> Logits(const std::shared_ptr<session::Engine>& engine,
                          const plan::Limits& limits, const std::vector<int32_t>& tokens,
                          bool last = false) {
  auto created = Session::Create(engine, limits);
  INFO(created.status().message());
  REQUIRE(created.ok());
  const auto session = created.Take();
  std::vector<float> logits((last ? 1 : tokens.size()) * kShapeWords);
  if (last) {
    REQUIRE(session->Append(tokens, nullptr).ok());
    std::memcpy(logits.data(), session->logits().data(), logits.size() * sizeof(float));
    return logits;
  }
  REQUIRE(session->Append(tokens, logits.data()).ok());
  return logits;
}

double Apart(const std::vector<float>& a, const std::vector<float>& b) {
  return Deviation(std::vector<double>(a.begin(), a.end()), b);
}

TEST_CASE("the cost of both ways says from how many rows on a latent is expanded",
          "[session][expand]") {
  const AlignedBytes file = Turned();
  const auto engine = EngineOn(file);
  const auto lowered = plan::Lower(engine->model()).Take();
  size_t mixes = 0;
  for (const plan::Step& step : lowered.steps) {
    if (step.kind != plan::StepKind::kMix) continue;
    ++mixes;
    CHECK(step.expand_from == kExpandFrom);
    // What is a latent wide for every head never holds more rows than are absorbed.
    CHECK(lowered.buffers[static_cast<size_t>(step.query.buffer)].most_rows == kExpandFrom - 1);
    CHECK(lowered.buffers[static_cast<size_t>(step.output)].most_rows == kExpandFrom - 1);
  }
  CHECK(mixes == 3);
}

TEST_CASE("expanded and absorbed latents are the forward pass", "[session][expand]") {
  const AlignedBytes file = Turned();
  const auto engine = EngineOn(file);
  const auto expected = AttentionReference(engine->model()).Logits();
  for (const uint32_t chunk : {1u, kExpandFrom - 1, kExpandFrom, 32u}) {
    INFO("chunk " << chunk);
    const auto limits = Policy("f32", 32, chunk, chunk == 32 ? 2 : 1);
    CHECK(Deviation(expected, Logits(engine, limits, kShapeTokens)) < kShapeTolerance);
  }
}

TEST_CASE("what expands reads the key matrix, what absorbs does not", "[session][expand][mutant]") {
  const AlignedBytes right = Turned(), wrong = Turned(1.5f);
  const auto a = EngineOn(right), b = EngineOn(wrong);
  const auto apart = [&](uint32_t chunk) {
    const auto limits = Policy("f32", 32, chunk);
    return Apart(Logits(a, limits, kShapeTokens), Logits(b, limits, kShapeTokens));
  };
  CHECK(apart(kExpandFrom - 1) == 0);
  CHECK(apart(kExpandFrom) > 1000 * kShapeTolerance);
}

// Rows are stored the same either way but for the rounding of what the layer before made of them:
// a code may fall on the other side of a half.
TEST_CASE("latents of every codec and window expand", "[session][expand]") {
  const AlignedBytes file = Turned();
  const auto engine = EngineOn(file);
  const auto [policy, tolerance] = GENERATE(table<std::string, double>({
      {"f16", 1e-4},
      {"int8", 2e-3},
      {"int8/32", 2e-3},
      {"int4/32", 2e-2},
      {"f32 exact=4", kShapeTolerance},
      {"f32 window sinks=2 rows=5", kShapeTolerance},
      {"f32 window relative sinks=3 rows=5", kShapeTolerance},
  }));
  INFO(policy);
  const auto absorbed = Logits(engine, Policy(policy, 32, 7), kShapeTokens);
  CHECK(Apart(absorbed, Logits(engine, Policy(policy, 32, 15), kShapeTokens)) < tolerance);
}

TEST_CASE("many tiles of rows, panels and blocks of queries", "[session][expand]") {
  const AlignedBytes file = Turned();
  const auto engine = EngineOn(file);
  const auto tokens = RandomTokens(3 * plan::kExpandRows - 7);
  const auto absorbed = Logits(engine, Policy("f32", 1024, 7), tokens, true);
  for (const uint32_t chunk : {100u, plan::kExpandQueries, plan::kExpandQueries + 70}) {
    INFO("chunk " << chunk);
    const auto one = Logits(engine, Policy("f32", 1024, chunk), tokens, true);
    CHECK(Apart(absorbed, one) < kShapeTolerance);
    CHECK(Logits(engine, Policy("f32", 1024, chunk, 3), tokens, true) == one);
  }
}

TEST_CASE("expansion takes less memory than absorption", "[session][expand]") {
  const AlignedBytes file = Turned(), plain = [] {
    auto description = ThreeLayers();
    for (auto& spec : description.attentions) spec.key_matrix = {};
    return WriteToMemory(description);
  }();
  const auto plan = [](const AlignedBytes& model) {
    return Session::Create(EngineOn(model), Policy("f32", 4096, 512)).Take()->plan();
  };
  const plan::Plan with = plan(file), without = plan(plain);
  CHECK(with.values.total_bytes < without.values.total_bytes * 3 / 4);
  CHECK(with.packed_bytes > without.packed_bytes);
  CHECK(with.decode_read_bytes == without.decode_read_bytes);  // decode never reads the matrix
}

}  // namespace
}  // namespace headroom::test
