// Graphs that no converter of ours makes today but a file may hold.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "base/half.h"
#include "model/tiny_model.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using session::Session;

constexpr uint32_t kWidth = 32, kVocabulary = 32;

// logits = C int8 (B f16 (A int8 (embedding))). B's output takes the place of A's input.
convert::ModelDescription Chain() {
  convert::ModelDescription d = TinyDescription();
  d.tensors = {{"embedding", DType::kF32, 0, {kVocabulary, kWidth}},
               {"a", DType::kI8, 0, {kWidth, kWidth}},
               {"b", DType::kF16, 0, {kWidth, kWidth}},
               {"c", DType::kI8, 0, {kVocabulary, kWidth}}};
  d.values = {{0}, {kWidth}, {kWidth}, {kWidth}, {kVocabulary}};
  d.attentions.clear();
  d.ops.clear();
  for (int32_t i = 0; i < 4; ++i) {
    model::Op op;
    op.kind = i == 0 ? model::OpKind::kEmbedding : model::OpKind::kProjection;
    op.weight = {i, 0, i == 0 || i == 3 ? kVocabulary : kWidth, model::kNone};
    op.inputs[0] = i;
    op.output = i + 1;
    d.ops.push_back({op, d.tensors[static_cast<size_t>(i)].name});
  }
  d.logits = 4;
  d.metadata.vocabulary = kVocabulary;
  return d;
}

std::shared_ptr<session::Engine> EngineOn(const AlignedBytes& file,
                                          session::EngineOptions options = {}) {
  auto model = model::Model::OpenMemory(file.data(), file.size(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  auto engine = session::Engine::Create(model.Take(), std::move(options));
  REQUIRE(engine.ok());
  return engine.Take();
}

double Element(const TensorView& t, uint32_t row, uint32_t column) {
  const size_t i = size_t{row} * t.columns() + column;
  switch (t.dtype) {
    case DType::kF32:
      return t.f32()[i];
    case DType::kF16:
      return HalfToFloat(reinterpret_cast<const uint16_t*>(t.data)[i]);
    default:
      return reinterpret_cast<const int8_t*>(t.data)[i] *
             static_cast<double>(reinterpret_cast<const float*>(t.scales)[row]);
  }
}

std::vector<double> Times(const TensorView& weight, const std::vector<double>& x) {
  std::vector<double> out(weight.rows(), 0.0);
  for (uint32_t n = 0; n < weight.rows(); ++n) {
    for (uint32_t k = 0; k < weight.columns(); ++k) out[n] += Element(weight, n, k) * x[k];
  }
  return out;
}

TEST_CASE("a projection whose output takes an older input's place is multiplied anew",
          "[session][graph]") {
  const AlignedBytes file = WriteToMemory(Chain());
  const auto engine = EngineOn(file);
  auto session = Session::Create(engine, TestLimits(16, 8)).Take();
  const std::vector<int32_t> tokens = {3, 17, 31};
  REQUIRE(session->Append(tokens, nullptr).ok());
  const auto& tensors = engine->model().tensors;
  std::vector<double> x(kWidth);
  for (uint32_t k = 0; k < kWidth; ++k) x[k] = Element(tensors[0], 31, k);
  for (const int t : {1, 2, 3}) x = Times(tensors[static_cast<size_t>(t)], x);
  double largest = 0, difference = 0;
  for (uint32_t i = 0; i < kVocabulary; ++i) {
    largest = std::max(largest, std::abs(x[i]));
    difference = std::max(difference, std::abs(x[i] - session->logits()[i]));
  }
  // Two inputs rounded to 8 bits, each off by at most half of 1/255 of its range.
  CHECK(difference < 0.03 * largest);
}

TEST_CASE("damaged weights are refused before they reach the packed cache", "[session][graph]") {
  const AlignedBytes good = WriteToMemory(Chain());
  AlignedBytes bad(good.span());
  const auto model = model::Model::OpenMemory(good.data(), good.size(), {}).Take();
  const auto offset = static_cast<size_t>(model->tensors[1].data - good.data());
  bad.data()[offset + 5] ^= std::byte{0x55};

  session::EngineOptions options;
  options.cache_directory = ScratchPath("poison");
  const auto refused = Session::Create(EngineOn(bad, options), TestLimits(16, 8));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kCorrupt);

  const std::vector<int32_t> tokens = {3, 17, 31};
  auto cached = Session::Create(EngineOn(good, options), TestLimits(16, 8)).Take();
  auto plain = Session::Create(EngineOn(good), TestLimits(16, 8)).Take();
  REQUIRE(cached->Append(tokens, nullptr).ok());
  REQUIRE(plain->Append(tokens, nullptr).ok());
  CHECK(LargestDifference(cached->logits().data(), plain->logits().data(), kVocabulary) == 0.0f);
}

TEST_CASE("a chunk longer than any step can use is refused", "[session][graph]") {
  const AlignedBytes file = WriteToMemory(Chain());
  const auto refused = Session::Create(EngineOn(file), TestLimits(16, 65537));
  REQUIRE_FALSE(refused.ok());
  CHECK(std::string(refused.status().message()).find("chunk 65537 > 65536") != std::string::npos);
}

}  // namespace
}  // namespace headroom::test
