// The experts step: every weight type, few rows and many, any number of threads, against the
// oracle.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <catch2/catch_test_macros.hpp>

#include "model/tiny_model.h"
#include "oracle/mixture.h"
#include "oracle/projection.h"
#include "session/golden.h"
#include "support/stored_matrix.h"

namespace headroom::test {
namespace {

using session::Session;

constexpr uint32_t kWidth = 64;  // C, V and H * D

struct MixtureCase {
  DType dtype = DType::kF32;
  uint16_t block = 0;
  uint32_t experts = 4, chosen = 2, inner = 32;
  bool bias = false;
  float limit = 0.0f;
  uint32_t tokens = 13;
};

std::string Describe(const MixtureCase& c) {
  return std::string(DTypeName(c.dtype)) + " block " + std::to_string(c.block) + " E " +
         std::to_string(c.experts) + " k " + std::to_string(c.chosen) + " F " +
         std::to_string(c.inner) + (c.bias ? " bias" : "") + " limit " + std::to_string(c.limit) +
         " T " + std::to_string(c.tokens);
}

// logits = mixture(embedding) + 0 * attention(mixture(embedding)): the attention is there so that
// chunks of many rows go through the mixture.
convert::ModelDescription Description(const MixtureCase& c) {
  convert::ModelDescription d = TinyDescription();
  d.tensors.clear();
  d.values.assign(1, {0});
  d.values.resize(5, {kWidth});
  d.ops.clear();
  d.mixtures.clear();
  auto tensor = [&](const char* name, DType dtype, std::vector<uint32_t> extents,
                    uint16_t block = 0) {
    d.tensors.push_back({name, dtype, block, std::move(extents)});
    return static_cast<int32_t>(d.tensors.size()) - 1;
  };
  auto matrix = [&](const char* name, DType dtype, uint32_t rows, uint32_t columns,
                    uint16_t block = 0) {
    return model::WeightRef{tensor(name, dtype, {rows, columns}, block), 0, rows, model::kNone};
  };
  model::MixtureSpec spec;
  spec.experts = c.experts;
  spec.chosen = c.chosen;
  spec.inner = c.inner;
  spec.router = matrix("router", DType::kF32, c.experts, kWidth);
  spec.gate_up = matrix("gate_up", c.dtype, c.experts * 2 * c.inner, kWidth, c.block);
  spec.down = matrix("down", c.dtype, c.experts * kWidth, c.inner, c.block);
  if (c.bias) {
    spec.router.bias = tensor("router.bias", DType::kF32, {c.experts});
    spec.gate_up.bias = tensor("gate_up.bias", DType::kF32, {spec.gate_up.rows});
    spec.down.bias = tensor("down.bias", DType::kF32, {spec.down.rows});
  }
  spec.score = model::ExpertScore::kSoftmax;
  spec.scale = 1.25f;
  spec.limit = c.limit;
  spec.up_offset = c.limit != 0.0f ? 1.0f : 0.0f;
  d.mixtures = {spec};

  model::AttentionSpec attention;
  attention.query_heads = 2;
  attention.query.weight = matrix("query", DType::kF32, kWidth, kWidth);
  attention.key = {2, kWidth / 2, matrix("key", DType::kF32, kWidth, kWidth), {}, {}};
  attention.value = {2, kWidth / 2, matrix("value", DType::kF32, kWidth, kWidth), {}, {}};
  attention.views = {{0, 0, 0}, {1, 0, 1}};
  attention.output = matrix("output zeros", DType::kF32, kWidth, kWidth);
  attention.head_map = {0, 1};
  d.attentions = {attention};

  auto add = [&](model::OpKind kind, int32_t first, int32_t second, int32_t output) {
    model::Op op;
    op.kind = kind;
    op.inputs[0] = first;
    op.inputs[1] = second;
    op.output = output;
    if (kind == model::OpKind::kEmbedding) {
      op.weight = matrix("embedding", DType::kF32, kWidth, kWidth);
    }
    if (kind == model::OpKind::kMixture) op.mixture = 0;
    if (kind == model::OpKind::kAttention) op.attention = 0;
    d.ops.push_back({op, ""});
  };
  add(model::OpKind::kEmbedding, 0, model::kNone, 1);
  add(model::OpKind::kMixture, 1, model::kNone, 2);
  add(model::OpKind::kAttention, 2, model::kNone, 3);
  add(model::OpKind::kAdd, 2, 3, 4);
  d.logits = 4;
  d.metadata.vocabulary = kWidth;
  d.metadata.context_tokens = 1024;
  return d;
}

struct Fixture {
  explicit Fixture(const MixtureCase& c) : file(WriteToMemory(Description(c))) {
    auto model = model::Model::OpenMemory(file.data(), file.size(), {});
    INFO(model.status().message());
    REQUIRE(model.ok());
    engine = session::Engine::Create(model.Take(), {}).Take();
    for (uint32_t t = 0; t < c.tokens; ++t) {
      tokens.push_back(static_cast<int32_t>((t * 29 + t / 7) % kWidth));
    }
  }
  std::vector<float> Run(uint32_t chunk, uint32_t threads) const {
    auto limits = TestLimits(512, chunk, plan::CodecChoice::kF32, threads);
    auto session = Session::Create(engine, limits);
    INFO(session.status().message());
    REQUIRE(session.ok());
    std::vector<float> logits(tokens.size() * kWidth);
    REQUIRE(session.value()->Append(tokens, logits.data()).ok());
    return logits;
  }

  AlignedBytes file;
  std::shared_ptr<session::Engine> engine;
  std::vector<int32_t> tokens;
};

oracle::Matrix Rows(const model::Model& m, int32_t tensor, uint32_t begin, uint32_t rows) {
  const oracle::StoredMatrix stored = StoredMatrixOf(m.tensors[static_cast<size_t>(tensor)]);
  oracle::Matrix out;
  for (uint32_t r = 0; r < rows; ++r) out.push_back(oracle::StoredRow(stored, begin + r));
  return out;
}

std::vector<double> Vector(const model::Model& m, int32_t tensor, uint32_t begin, uint32_t count) {
  if (tensor == model::kNone) return {};
  const float* data = m.tensors[static_cast<size_t>(tensor)].f32() + begin;
  return {data, data + count};
}

oracle::Mixture OracleOf(const model::Model& m) {
  const model::MixtureSpec& spec = m.mixtures[0];
  const uint32_t inner = spec.inner;
  oracle::Mixture out;
  out.router.experts = spec.experts;
  out.router.chosen = spec.chosen;
  out.router.scale = spec.scale;
  out.router_weight = Rows(m, spec.router.tensor, 0, spec.experts);
  out.router_bias = Vector(m, spec.router.bias, 0, spec.experts);
  out.activation = oracle::Silu;
  out.limit = spec.limit;
  out.up_offset = spec.up_offset;
  for (uint32_t e = 0; e < spec.experts; ++e) {
    oracle::Expert expert;
    expert.gate = Rows(m, spec.gate_up.tensor, e * 2 * inner, inner);
    expert.up = Rows(m, spec.gate_up.tensor, e * 2 * inner + inner, inner);
    expert.down = Rows(m, spec.down.tensor, e * kWidth, kWidth);
    expert.gate_bias = Vector(m, spec.gate_up.bias, e * 2 * inner, inner);
    expert.up_bias = Vector(m, spec.gate_up.bias, e * 2 * inner + inner, inner);
    expert.down_bias = Vector(m, spec.down.bias, e * kWidth, kWidth);
    out.experts.push_back(std::move(expert));
  }
  return out;
}

std::vector<double> OracleLogits(const Fixture& f) {
  const model::Model& m = f.engine->model();
  const oracle::Mixture mixture = OracleOf(m);
  const oracle::Matrix table = Rows(m, m.ops[0].weight.tensor, 0, kWidth);
  std::vector<double> logits;
  for (const int32_t token : f.tokens) {
    const auto row = oracle::Mix(mixture, table[static_cast<size_t>(token)]);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

// Float weights: two sums of up to C and F terms and a few roundings of what stands between.
// Integer weights take activations in 8 bits, twice: each value off by at most half of 1/255 of its
// range.
double Allowance(const MixtureCase& c, double largest) {
  if (c.dtype == DType::kI8 || c.dtype == DType::kI4) return 0.03 * largest;
  const double terms = std::sqrt(static_cast<double>(kWidth)) + std::sqrt(1.0 * c.inner);
  return 10 * terms * std::numeric_limits<float>::epsilon() * largest;
}

const std::vector<MixtureCase> kCases = {
    {DType::kF32, 0, 4, 2, 32, false, 0.0f, 13}, {DType::kF32, 0, 9, 4, 40, true, 0.5f, 40},
    {DType::kF32, 0, 1, 1, 16, true, 0.0f, 5},   {DType::kF32, 0, 3, 3, 24, true, 0.0f, 300},
    {DType::kF16, 0, 5, 2, 33, true, 0.5f, 150}, {DType::kI8, 0, 6, 2, 32, true, 0.5f, 40},
    {DType::kI8, 0, 2, 1, 24, false, 0.0f, 300}, {DType::kI4, 32, 8, 4, 64, true, 0.0f, 40},
    {DType::kI4, 0, 5, 3, 48, false, 0.0f, 17}};

TEST_CASE("a mixture of experts is what the oracle says, one token or many", "[session][mixture]") {
  for (const MixtureCase& c : kCases) {
    const Fixture f(c);
    const std::vector<double> exact = OracleLogits(f);
    double largest = 0;
    for (const double x : exact) largest = std::max(largest, std::fabs(x));
    for (const uint32_t chunk : {1u, 7u, 512u}) {
      const std::vector<float> found = f.Run(chunk, 1);
      double worst = 0;
      for (size_t i = 0; i < exact.size(); ++i) {
        const double error = std::fabs(found[i] - exact[i]);
        worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
      }
      INFO(Describe(c) << " chunk " << chunk << ": " << worst << " of " << largest);
      CHECK(largest > 0);
      CHECK(worst <= Allowance(c, largest));
    }
  }
}

TEST_CASE("threads change nothing in a mixture, bit for bit", "[session][mixture]") {
  // Wide enough that operators are shared between threads.
  std::vector<MixtureCase> cases = kCases;
  cases.push_back({DType::kI4, 32, 4, 2, 4096, false, 0.0f, 20});
  cases.push_back({DType::kF32, 0, 4, 3, 2048, true, 0.0f, 20});
  for (const MixtureCase& c : cases) {
    const Fixture f(c);
    for (const uint32_t chunk : {1u, 16u}) {
      INFO(Describe(c) << " chunk " << chunk);
      const std::vector<float> one = f.Run(chunk, 1);
      CHECK((one == f.Run(chunk, 2)));
      CHECK((one == f.Run(chunk, 3)));
    }
  }
}

TEST_CASE("decoding is planned to read the chosen experts only", "[session][mixture]") {
  const MixtureCase few{DType::kI8, 0, 8, 2, 64};
  MixtureCase all = few;
  all.chosen = all.experts;
  for (const DType dtype : {DType::kI8, DType::kF16}) {
    MixtureCase a = few, b = all;
    a.dtype = b.dtype = dtype;
    const Fixture chosen(a), every(b);
    const auto limits = TestLimits(512, 8);
    const plan::Plan less = session::PlanSession(*chosen.engine, limits).Take();
    const plan::Plan more = session::PlanSession(*every.engine, limits).Take();
    const uint64_t weights = uint64_t{8} * 3 * 64 * kWidth * (dtype == DType::kI8 ? 1 : 2);
    INFO(DTypeName(dtype));
    CHECK(more.decode_read_bytes - less.decode_read_bytes >= weights * 6 / 8);
    CHECK(more.decode_read_bytes - less.decode_read_bytes <= weights);
    CHECK(less.weight_bytes + less.packed_bytes == more.weight_bytes + more.packed_bytes);
  }
}

}  // namespace
}  // namespace headroom::test
