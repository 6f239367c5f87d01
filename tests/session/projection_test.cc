// Shapes of attention that no converter of ours makes today, and identities between shapes, against
// a forward pass in double.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <utility>

#include "session/attention_reference.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using convert::ModelDescription;
using model::AttentionSpec;
using model::kNone;
using model::QueryKind;
using model::WeightRef;
using session::Session;

constexpr uint32_t kChannels = kShapeChannels;

// Six heads of 8 over two heads of keys and three of values of 6; queries through a gate.
ModelDescription DifferentHeads() {
  AttentionShapes s;
  AttentionSpec spec;
  spec.query_heads = 6;
  spec.scale = 1.3f;
  spec.query.kind = QueryKind::kGated;
  spec.query.width = 8;
  spec.query.weight = s.Matrix(48, kChannels);
  const WeightRef both = s.Matrix(2 * 20, 48);
  spec.query.gate = {both.tensor, 0, 20, kNone};
  spec.query.up = {both.tensor, 20, 20, kNone};
  spec.query.down = s.Matrix(48, 20);
  spec.key = s.Stream(2, 8);
  spec.value = s.Stream(3, 6);
  spec.query.rope = spec.key.rope = s.Rope(8, 0, model::RopeLayout::kHalfSplit);
  spec.views = {{0, 0, 0}, {0, 0, 1}, {1, 0, 1}, {1, 0, 2}};
  spec.head_map = {0, 0, 1, 2, 3, 3};
  spec.output = s.Matrix(kChannels, 36);
  s.Attend(std::move(spec));
  return s.Done();
}

// One wide head of keys and values, queries of low rank with a norm between.
ModelDescription WideHead() {
  AttentionShapes s;
  AttentionSpec spec;
  spec.query_heads = 5;
  spec.scale = 0.7f;
  spec.query.kind = QueryKind::kLowRank;
  spec.query.width = 20;
  spec.query.down = s.Matrix(14, kChannels);
  spec.query.down_norm = s.Norm(14);
  spec.query.weight = s.Matrix(100, 14);
  spec.key = s.Stream(1, 20);
  spec.value = s.Stream(1, 20);
  spec.query.rope = spec.key.rope = s.Rope(20, 0, model::RopeLayout::kHalfSplit);
  spec.views = {{0, 0, 0}};
  spec.head_map.assign(5, 0);
  spec.output = s.Matrix(kChannels, 100);
  s.Attend(std::move(spec));
  return s.Done();
}

// Runs of unequal length read one KV head each; one KV head is read by nobody.
ModelDescription RaggedGroups() {
  AttentionShapes s;
  AttentionSpec spec;
  spec.query_heads = 6;
  spec.scale = 1.1f;
  spec.query.width = 8;
  spec.query.weight = s.Matrix(48, kChannels);
  spec.key = s.Stream(4, 8);
  spec.value = s.Stream(4, 8);
  spec.views = {{0, 0, 0}, {1, 0, 1}, {2, 0, 2}, {3, 0, 3}};
  spec.head_map = {0, 0, 0, 1, 3, 3};
  spec.output = s.Matrix(kChannels, 48);
  s.Attend(std::move(spec));
  return s.Done();
}

// A second attention on the rows of the first, with queries, matrices and a map of its own.
ModelDescription SharedLatent() {
  AttentionShapes s;
  AttentionSpec first = LatentByGroups(s), second = LatentByGroups(s);
  second.source_attention = 0;
  second.head_map = {1, 0, 1, 0};
  second.key = {1, 18, {}, {}, {}};
  second.tail = {2, 4, {}, {}, {}};
  s.Attend(std::move(first));
  s.Attend(std::move(second));
  return s.Done();
}

std::vector<float> Logits(const std::shared_ptr<session::Engine>& engine, uint32_t chunk) {
  auto session = Session::Create(engine, TestLimits(32, chunk)).Take();
  std::vector<float> logits(kShapeTokens.size() * kShapeWords);
  REQUIRE(session->Append(kShapeTokens, logits.data()).ok());
  return logits;
}

void ExpectAsReference(const ModelDescription& description) {
  const AlignedBytes file = WriteToMemory(description);
  const auto engine = EngineOn(file);
  const auto expected = AttentionReference(engine->model()).Logits();
  for (const uint32_t chunk : {1u, 4u, 32u}) {
    INFO("chunk " << chunk);
    CHECK(Deviation(expected, Logits(engine, chunk)) < kShapeTolerance);
  }
}

TEST_CASE("keys and values of different heads, queries through a gate", "[session][projection]") {
  ExpectAsReference(DifferentHeads());
}
TEST_CASE("low-rank normed queries on one wide head", "[session][projection]") {
  ExpectAsReference(WideHead());
}
TEST_CASE("groups of unequal length", "[session][projection]") {
  ExpectAsReference(RaggedGroups());
}
TEST_CASE("a latent with a rotated key for each KV head", "[session][projection]") {
  ExpectAsReference(OneLatent());
}
TEST_CASE("a second attention on the same rows", "[session][projection]") {
  ExpectAsReference(SharedLatent());
}

// ---- Layers of two kinds, of which the last read the rows of the last before them of their kind
// (Gemma 3n's num_kv_shared_layers)

constexpr uint32_t kWindow = 4;

// The source of every layer; `windowed` says each one's kind.
std::vector<int32_t> SharedByKind(const std::vector<bool>& windowed, size_t shared) {
  const size_t first = windowed.size() - shared;
  std::vector<int32_t> sources(windowed.size(), kNone);
  for (size_t i = first; i < windowed.size(); ++i) {
    for (size_t j = 0; j < first; ++j) {
      if (windowed[j] == windowed[i]) sources[i] = static_cast<int32_t>(j);
    }
  }
  return sources;
}

ModelDescription TwoKinds(const std::vector<bool>& windowed, const std::vector<int32_t>& sources) {
  AttentionShapes s;
  model::RopeSpec ropes[2] = {s.Rope(8, 0, model::RopeLayout::kHalfSplit),
                              s.Rope(4, 0, model::RopeLayout::kHalfSplit)};
  for (size_t i = 0; i < windowed.size(); ++i) {
    AttentionSpec spec;
    spec.query_heads = 4;
    spec.scale = 1.1f;
    spec.query.width = 8;
    spec.query.weight = s.Matrix(32, kChannels);
    spec.query.norm = s.Norm(8);
    spec.query.rope = ropes[windowed[i]];
    spec.source_attention = sources[i];
    if (spec.source_attention == kNone) {
      spec.key = s.Stream(2, 8);
      spec.value = s.Stream(2, 8);
      spec.key.norm = s.Norm(8);
      spec.key.rope = spec.query.rope;
    } else {
      spec.key = spec.value = {2, 8, {}, {}, {}};
    }
    if (windowed[i]) spec.left = kWindow - 1;
    spec.views = {{0, 0, 0}, {1, 0, 1}};
    spec.head_map = {0, 0, 1, 1};
    spec.output = s.Matrix(kChannels, 32);
    s.Attend(std::move(spec));
  }
  return s.Done();
}

TEST_CASE("the last layers read the rows of the last before them of their kind",
          "[session][projection]") {
  const std::vector<bool> windowed = {true, true, false, true, false, true, true, false};
  const std::vector<int32_t> sources = SharedByKind(windowed, 3);
  REQUIRE(sources == std::vector<int32_t>{-1, -1, -1, -1, -1, 3, 3, 4});
  const PlaceRule window = [](const AttentionSpec& spec, PlacePair* pair) {
    return spec.left == kUnlimited || pair->query - pair->key <= spec.left;
  };
  const AlignedBytes file = WriteToMemory(TwoKinds(windowed, sources));
  const auto engine = EngineOn(file);
  const auto expected = AttentionReference(engine->model(), kShapeTokens, window).Logits();
  for (const uint32_t chunk : {1u, 4u, 32u}) {
    CHECK(Deviation(expected, Logits(engine, chunk)) < kShapeTolerance);
  }
  // Rows of layers that have them take memory, and no others.
  const plan::Plan plan = session::PlanSession(*engine, TestLimits(32, 4)).Take();
  for (size_t i = 0; i < sources.size(); ++i) {
    CHECK((store::LayerBytes(plan.layers[i]) == 0) == (sources[i] != kNone));
  }
  // The first of the kind, or another layer, is told from the last.
  const AlignedBytes wrong = WriteToMemory(TwoKinds(windowed, {-1, -1, -1, -1, -1, 1, 1, 2}));
  const auto wrong_engine = EngineOn(wrong);
  const auto other = AttentionReference(wrong_engine->model(), kShapeTokens, window).Logits();
  CHECK(Deviation(other, Logits(engine, 4)) > 1e-3);
  // A layer with a window cannot read rows of one without, or the other way round.
  const AlignedBytes mixed = WriteToMemory(TwoKinds(windowed, {-1, -1, -1, -1, -1, 4, 3, 4}));
  const auto refused = model::Model::OpenMemory(mixed.data(), mixed.size(), {});
  REQUIRE_FALSE(refused.ok());
  CHECK(std::string(refused.status().message()).find("a view of 3 rows") != std::string::npos);
}

// What the heads have mixed, and a projection behind it, in place of the output matrix.
ModelDescription OutputBehind(ModelDescription d) {
  const uint32_t mixed = d.attentions[0].query_heads * d.attentions[0].value_width();
  d.values.push_back({mixed});
  convert::OpDescription output = d.ops[1];
  output.op = {};
  output.op.kind = model::OpKind::kProjection;
  output.op.weight = std::exchange(d.attentions[0].output, {});
  output.op.output = std::exchange(d.ops[1].op.output, static_cast<int32_t>(d.values.size()) - 1);
  output.op.inputs[0] = d.ops[1].op.output;
  d.ops.insert(d.ops.begin() + 2, output);
  return d;
}

TEST_CASE("an attention without an output matrix makes what its heads have mixed",
          "[session][projection]") {
  for (const ModelDescription& whole : {DifferentHeads(), WideHead(), RaggedGroups()}) {
    const AlignedBytes file = WriteToMemory(whole), behind = WriteToMemory(OutputBehind(whole));
    for (const uint32_t chunk : {1u, 4u, 32u}) {
      CHECK(Logits(EngineOn(behind), chunk) == Logits(EngineOn(file), chunk));
    }
  }
  ModelDescription wide = OutputBehind(WideHead());
  ++wide.values.back().width;
  const AlignedBytes file = WriteToMemory(wide);
  const auto refused = model::Model::OpenMemory(file.data(), file.size(), {});
  REQUIRE_FALSE(refused.ok());
  CHECK(std::string(refused.status().message()).find("it should map 24 to 100") !=
        std::string::npos);
}

// ---- Grouped heads as a latent: its rows are all keys and all values side by side, and the
// matrices of heads pick theirs.

float* FloatsOf(const AlignedBytes& file, const model::Model& model, int32_t tensor) {
  const auto* at = model.tensors[static_cast<size_t>(tensor)].data;
  return reinterpret_cast<float*>(file.data() + (at - file.data()));
}

TEST_CASE("a latent of full rank with picking matrices is grouped heads", "[session][projection]") {
  constexpr uint32_t kHeads = 6, kGroups = 2, kWidth = 8, kRank = 2 * kGroups * kWidth;
  AttentionShapes plain, made;
  AttentionSpec grouped, latent;
  grouped.query_heads = latent.query_heads = kHeads;
  grouped.scale = latent.scale = 1.2f;
  grouped.query.width = latent.query.width = kWidth;
  grouped.query.weight = plain.Matrix(kHeads * kWidth, kChannels);
  latent.query.weight = made.Matrix(kHeads * kWidth, kChannels);
  grouped.key = plain.Stream(kGroups, kWidth);
  grouped.value = plain.Stream(kGroups, kWidth);
  latent.key = made.Stream(1, kRank);
  latent.value.width = kRank;
  latent.query.matrix = {made.Matrix(kHeads * kRank, kWidth), kHeads, kRank};
  latent.value_matrix = {made.Matrix(kHeads * kWidth, kRank), kHeads, kWidth};
  grouped.views = {{0, 0, 0}, {1, 0, 1}};
  grouped.head_map = {0, 0, 0, 1, 1, 1};
  latent.views = {{0, 0, 0}};
  latent.head_map.assign(kHeads, 0);
  grouped.output = plain.Matrix(kChannels, kHeads * kWidth);
  latent.output = made.Matrix(kChannels, kHeads * kWidth);
  plain.Attend(grouped);
  made.Attend(latent);
  const AlignedBytes a = WriteToMemory(plain.Done()), b = WriteToMemory(made.Done());
  const auto from = model::Model::OpenMemory(a.data(), a.size(), {}).Take();
  const auto to = model::Model::OpenMemory(b.data(), b.size(), {}).Take();
  const auto copy = [&](const WeightRef& source, const WeightRef& target, uint32_t row) {
    const uint32_t columns = from->tensors[static_cast<size_t>(source.tensor)].columns();
    std::memcpy(FloatsOf(b, *to, target.tensor) + row * columns, FloatsOf(a, *from, source.tensor),
                source.rows * columns * sizeof(float));
  };
  copy(from->ops[0].weight, to->ops[0].weight, 0);
  copy(from->ops.back().weight, to->ops.back().weight, 0);
  copy(grouped.query.weight, latent.query.weight, 0);
  copy(grouped.output, latent.output, 0);
  copy(grouped.key.weight, latent.key.weight, 0);
  copy(grouped.value.weight, latent.key.weight, kGroups * kWidth);
  float* pick_key = FloatsOf(b, *to, latent.query.matrix.weight.tensor);
  float* pick_value = FloatsOf(b, *to, latent.value_matrix.weight.tensor);
  for (uint32_t h = 0; h < kHeads; ++h) {
    const uint32_t first = h / (kHeads / kGroups) * kWidth;
    for (uint32_t r = 0; r < kRank; ++r) {
      for (uint32_t i = 0; i < kWidth; ++i) {
        pick_key[(h * kRank + r) * kWidth + i] = r == first + i ? 1.0f : 0.0f;
        pick_value[(h * kWidth + i) * kRank + r] = r == kGroups * kWidth + first + i ? 1.0f : 0.0f;
      }
    }
  }
  const auto expected = Logits(EngineOn(a), 4);
  float largest = 0;
  for (const float v : expected) largest = std::max(largest, std::abs(v));
  for (const uint32_t chunk : {1u, 4u, 32u}) {
    const auto logits = Logits(EngineOn(b), chunk);
    CHECK(LargestDifference(logits.data(), expected.data(), logits.size()) < 1e-5f * largest);
  }
}

}  // namespace
}  // namespace headroom::test
