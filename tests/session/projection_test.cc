// Shapes of attention that no converter of ours makes today, and identities between shapes: one or
// two attentions between an embedding and a head, against a forward pass in double that makes the
// keys and values of every query head (so it knows neither lanes nor matrices on the query's side).
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "model/tiny_model.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using convert::ModelDescription;
using model::AttentionSpec;
using model::kNone;
using model::QueryKind;
using model::WeightRef;
using session::Session;
using Rows = std::vector<std::vector<double>>;

constexpr uint32_t kChannels = 24, kWords = 32;
const std::vector<int32_t> kTokens = {3, 17, 31, 4, 9, 3, 22, 30, 11, 5, 6, 28, 1, 17, 2};

// ---- Descriptions

class Shapes {
 public:
  Shapes() : d(TinyDescription()) {
    d.tensors.clear();
    d.values = {{0}};
    d.ops.clear();
    d.attentions.clear();
    d.metadata.vocabulary = kWords;
    model::Op op;
    op.kind = model::OpKind::kEmbedding;
    op.weight = Matrix(kWords, kChannels);
    AddOp(op, 0, kChannels);
  }
  int32_t Tensor(std::vector<uint32_t> extents, const char* kind = "t") {
    d.tensors.push_back({kind + std::to_string(d.tensors.size()), DType::kF32, 0, extents});
    return static_cast<int32_t>(d.tensors.size()) - 1;
  }
  WeightRef Matrix(uint32_t rows, uint32_t columns) {
    WeightRef weight;
    weight.tensor = Tensor({rows, columns});
    weight.rows = rows;
    return weight;
  }
  model::NormSpec Norm(uint32_t width) {
    model::NormSpec norm;
    norm.weight = Tensor({width});
    norm.epsilon = 1e-3f;
    return norm;
  }
  model::RopeSpec Rope(uint32_t dims, uint32_t offset, model::RopeLayout layout) {
    return {dims, offset, layout, Tensor({dims / 2}, "frequencies"), 1.0f};
  }
  model::StreamSpec Stream(uint32_t heads, uint32_t width) {
    return {heads, width, Matrix(heads * width, kChannels), {}, {}};
  }
  void AddOp(model::Op op, int32_t input, uint32_t width) {
    op.inputs[0] = input;
    d.values.push_back({width});
    op.output = static_cast<int32_t>(d.values.size()) - 1;
    d.ops.push_back({op, "op"});
  }
  void Attend(AttentionSpec spec) {
    model::Op op;
    op.kind = model::OpKind::kAttention;
    op.attention = static_cast<int32_t>(d.attentions.size());
    d.attentions.push_back(std::move(spec));
    AddOp(op, static_cast<int32_t>(d.values.size()) - 1, kChannels);
  }
  ModelDescription Done() {
    model::Op op;
    op.kind = model::OpKind::kProjection;
    op.weight = Matrix(kWords, kChannels);
    AddOp(op, static_cast<int32_t>(d.values.size()) - 1, kWords);
    d.logits = static_cast<int32_t>(d.values.size()) - 1;
    return d;
  }
  ModelDescription d;
};

// Six heads of 8 over two heads of keys and three of values of 6; queries through a gate.
ModelDescription DifferentHeads() {
  Shapes s;
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
  Shapes s;
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
  Shapes s;
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

// A normed latent for all beside a rotated key for each of two KV heads; low-rank queries without a
// norm, with factors; neighbouring heads share their matrices.
AttentionSpec LatentByGroups(Shapes& s) {
  AttentionSpec spec;
  spec.query_heads = 4;
  spec.scale = 0.9f;
  spec.query.kind = QueryKind::kLowRank;
  spec.query.width = 10;
  spec.query.down = s.Matrix(14, kChannels);
  spec.query.weight = s.Matrix(40, 14);
  spec.query.factors = s.Tensor({10});
  spec.query.rope = s.Rope(4, 6, model::RopeLayout::kInterleaved);
  spec.query.matrix = {s.Matrix(2 * 18, 6), 2, 18};
  spec.key = s.Stream(1, 18);
  spec.key.norm = s.Norm(18);
  spec.tail = s.Stream(2, 4);
  spec.tail.rope = spec.query.rope;
  spec.tail.rope.offset = 0;
  spec.value.width = 18;
  spec.value_matrix = {s.Matrix(2 * 5, 18), 2, 5};
  spec.views = {{0, 0, 0}, {0, 1, 0}};
  spec.head_map = {0, 0, 1, 1};
  spec.output = s.Matrix(kChannels, 20);
  return spec;
}

ModelDescription OneLatent() {
  Shapes s;
  s.Attend(LatentByGroups(s));
  return s.Done();
}

// A second attention on the rows of the first, with queries, matrices and a map of its own.
ModelDescription SharedLatent() {
  Shapes s;
  AttentionSpec first = LatentByGroups(s), second = LatentByGroups(s);
  second.source_attention = 0;
  second.head_map = {1, 0, 1, 0};
  second.key = {1, 18, {}, {}, {}};
  second.tail = {2, 4, {}, {}, {}};
  s.Attend(std::move(first));
  s.Attend(std::move(second));
  return s.Done();
}

// ---- The same in double

class Reference {
 public:
  explicit Reference(const model::Model& model) : model_(model) {}

  std::vector<double> Logits() {
    Rows x;
    for (const int32_t token : kTokens) x.push_back(Row(model_.ops[0].weight.tensor, token));
    for (const AttentionSpec& spec : model_.attentions) x = Attend(spec, x);
    std::vector<double> out;
    for (const auto& row : x) {
      for (const double logit : Times(model_.ops.back().weight, row)) out.push_back(logit);
    }
    return out;
  }

 private:
  std::vector<double> Row(int32_t tensor, int32_t row) const {
    const TensorView& t = model_.tensors[static_cast<size_t>(tensor)];
    const float* from = t.f32() + static_cast<size_t>(row) * t.columns();
    return {from, from + t.columns()};
  }
  std::vector<double> Vector(int32_t tensor) const {
    const TensorView& t = model_.tensors[static_cast<size_t>(tensor)];
    return {t.f32(), t.f32() + t.extents[0]};
  }
  std::vector<double> Times(const WeightRef& weight, const std::vector<double>& x) const {
    std::vector<double> out;
    for (uint32_t n = 0; n < weight.rows; ++n) {
      const auto row = Row(weight.tensor, static_cast<int32_t>(weight.row_begin + n));
      double sum = 0;
      for (size_t k = 0; k < row.size(); ++k) sum += row[k] * x[k];
      out.push_back(sum);
    }
    return out;
  }
  std::vector<double> Normed(const model::NormSpec& norm, std::vector<double> x) const {
    if (!norm.present()) return x;
    double sum = 0;
    for (const double v : x) sum += v * v;
    const double inverse =
        1 / std::sqrt(sum / static_cast<double>(x.size()) + static_cast<double>(norm.epsilon));
    const auto weight = Vector(norm.weight);
    for (size_t i = 0; i < x.size(); ++i) x[i] *= inverse * weight[i];
    return x;
  }
  void Rotate(const model::RopeSpec& rope, size_t position, std::vector<double>& x) const {
    if (rope.dims == 0) return;
    const auto frequencies = Vector(rope.inverse_frequencies);
    const bool halves = rope.layout == model::RopeLayout::kHalfSplit;
    for (uint32_t i = 0; i < rope.dims / 2; ++i) {
      double& a = x[rope.offset + (halves ? i : 2 * i)];
      double& b = x[rope.offset + (halves ? i + rope.dims / 2 : 2 * i + 1)];
      const double angle = static_cast<double>(position) * frequencies[i];
      const double turned = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = turned;
    }
  }

  // [heads][width] of a token.
  Rows Heads(const model::StreamSpec& stream, const std::vector<double>& x, size_t position) const {
    Rows out;
    if (!stream.present()) return out;
    const auto all = Times(stream.weight, x);
    for (uint32_t h = 0; h < stream.heads; ++h) {
      const auto begin = all.begin() + h * stream.width;
      out.push_back(Normed(stream.norm, {begin, begin + stream.width}));
      Rotate(stream.rope, position, out.back());
    }
    return out;
  }
  Rows Queries(const AttentionSpec& spec, const std::vector<double>& x, size_t position) const {
    const model::QuerySpec& query = spec.query;
    std::vector<double> all;
    if (query.kind == QueryKind::kLowRank) {
      all = Times(query.weight, Normed(query.down_norm, Times(query.down, x)));
    } else {
      all = Times(query.weight, x);
    }
    if (query.kind == QueryKind::kGated) {
      auto gate = Times(query.gate, all);
      const auto up = Times(query.up, all);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      all = Times(query.down, gate);
    }
    Rows out;
    for (uint32_t h = 0; h < spec.query_heads; ++h) {
      const auto begin = all.begin() + h * query.width;
      out.push_back({begin, begin + query.width});
      Rotate(query.rope, position, out.back());
      if (query.factors == kNone) continue;
      const auto factors = Vector(query.factors);
      for (uint32_t i = 0; i < query.width; ++i) out.back()[i] *= factors[i];
    }
    return out;
  }
  // Block of head h, turned round when `transposed`, times x.
  std::vector<double> Block(const model::HeadMatrix& matrix, uint32_t head, uint32_t heads,
                            const std::vector<double>& x, bool transposed) const {
    if (!matrix.present()) return x;
    const uint32_t block = head / (heads / matrix.blocks);
    const WeightRef weight = {matrix.weight.tensor, matrix.weight.row_begin + block * matrix.rows,
                              matrix.rows, kNone};
    if (!transposed) return Times(weight, x);
    std::vector<double> out(model_.tensors[static_cast<size_t>(weight.tensor)].columns(), 0.0);
    for (uint32_t n = 0; n < weight.rows; ++n) {
      const auto row = Row(weight.tensor, static_cast<int32_t>(weight.row_begin + n));
      for (size_t k = 0; k < out.size(); ++k) out[k] += row[k] * x[n];
    }
    return out;
  }

  Rows Attend(const AttentionSpec& spec, const Rows& x) {
    if (spec.source_attention == kNone) {
      keys_.clear(), tails_.clear(), values_.clear();
      for (size_t t = 0; t < x.size(); ++t) {
        keys_.push_back(Heads(spec.key, x[t], t));
        tails_.push_back(Heads(spec.tail, x[t], t));
        values_.push_back(Heads(spec.value, x[t], t));
      }
    }
    Rows out;
    for (size_t t = 0; t < x.size(); ++t) {
      const Rows queries = Queries(spec, x[t], t);
      std::vector<double> mixed;
      for (uint32_t h = 0; h < spec.query_heads; ++h) {
        for (const double v : Head(spec, h, queries[h], t)) mixed.push_back(v);
      }
      out.push_back(Times(spec.output, mixed));
    }
    return out;
  }

  std::vector<double> Head(const AttentionSpec& spec, uint32_t h, const std::vector<double>& query,
                           size_t position) const {
    const model::ViewHeads& heads = spec.views[spec.head_map[h]];
    std::vector<double> logits;
    for (size_t j = 0; j <= position; ++j) {
      auto key = Block(spec.query.matrix, h, spec.query_heads, keys_[j][heads.key], true);
      if (spec.tail.present()) {
        key.insert(key.end(), tails_[j][heads.tail].begin(), tails_[j][heads.tail].end());
      }
      double dot = 0;
      for (size_t i = 0; i < key.size(); ++i) dot += key[i] * query[i];
      logits.push_back(static_cast<double>(spec.scale) * dot);
    }
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double& logit : logits) sum += logit = std::exp(logit - most);
    std::vector<double> out;
    for (size_t j = 0; j <= position; ++j) {
      const auto& row = spec.value.present() ? values_[j][heads.value] : keys_[j][heads.key];
      const auto value = Block(spec.value_matrix, h, spec.query_heads, row, false);
      out.resize(value.size(), 0.0);
      for (size_t i = 0; i < value.size(); ++i) out[i] += logits[j] / sum * value[i];
    }
    return out;
  }

  const model::Model& model_;
  std::vector<Rows> keys_, tails_, values_;  // by token, by head
};

std::shared_ptr<session::Engine> EngineOn(const AlignedBytes& file) {
  auto model = model::Model::OpenMemory(file.data(), file.size(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  return session::Engine::Create(model.Take(), {}).Take();
}

std::vector<float> Logits(const std::shared_ptr<session::Engine>& engine, uint32_t chunk) {
  auto session = Session::Create(engine, TestLimits(32, chunk)).Take();
  std::vector<float> logits(kTokens.size() * kWords);
  REQUIRE(session->Append(kTokens, logits.data()).ok());
  return logits;
}

void ExpectAsReference(const ModelDescription& description) {
  const AlignedBytes file = WriteToMemory(description);
  const auto engine = EngineOn(file);
  const auto expected = Reference(engine->model()).Logits();
  double largest = 0;
  for (const double v : expected) largest = std::max(largest, std::abs(v));
  for (const uint32_t chunk : {1u, 4u, 32u}) {
    INFO("chunk " << chunk);
    const auto logits = Logits(engine, chunk);
    double difference = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      difference = std::max(difference, std::abs(expected[i] - static_cast<double>(logits[i])));
    }
    CHECK(difference < 1e-5 * largest);
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

// ---- Grouped heads as a latent: its rows are all keys and all values side by side, and the
// matrices of heads pick theirs.

float* FloatsOf(const AlignedBytes& file, const model::Model& model, int32_t tensor) {
  const auto* at = model.tensors[static_cast<size_t>(tensor)].data;
  return reinterpret_cast<float*>(file.data() + (at - file.data()));
}

TEST_CASE("a latent of full rank with picking matrices is grouped heads", "[session][projection]") {
  constexpr uint32_t kHeads = 6, kGroups = 2, kWidth = 8, kRank = 2 * kGroups * kWidth;
  Shapes plain, made;
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
