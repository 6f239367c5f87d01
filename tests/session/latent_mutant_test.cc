// Wrong latent attention, judged by what judges the right one: the forward pass in double and the
// logits of transformers. What the data let pass would be a hole in the tests.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>

#include "session/attention_reference.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using model::AttentionSpec;
using session::Session;

// A wrong program must miss by so many times what a right one may.
constexpr double kFar = 1000;

TEST_CASE("every wrong latent attention misses its forward pass in double", "[session][mutant]") {
  const AlignedBytes file = WriteToMemory(OneLatent());
  const auto model = model::Model::OpenMemory(file.data(), file.size(), {}).Take();
  const auto right = AttentionReference(*model).Logits();
  double largest = 0;
  for (const double logit : right) largest = std::max(largest, std::abs(logit));
  const auto miss = [&](LatentMistake mistake) {
    const auto wrong = AttentionReference(*model, mistake).Logits();
    double difference = 0;
    for (size_t i = 0; i < right.size(); ++i) {
      difference = std::max(difference, std::abs(right[i] - wrong[i]));
    }
    return difference / (kShapeTolerance * largest);
  };
  CHECK(miss(LatentMistake::kNone) == 0);
  CHECK(miss(LatentMistake::kRotatedKeysAveraged) > kFar);
  CHECK(miss(LatentMistake::kRotatedQueriesAveraged) > kFar);
  CHECK(miss(LatentMistake::kNormAfterCaching) > kFar);
  CHECK(miss(LatentMistake::kKeyHalfForValues) > kFar);
}

// ---- Against the logits of transformers

AlignedBytes ReadConverted(const std::string& name) {
  LoadGolden(name);  // converts
  std::ifstream file(ScratchPath(name + "-f32.hrm"), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  return AlignedBytes(std::as_bytes(std::span(bytes)));
}

// Of the largest difference that a right program may have, what the model bent by `bend` has.
double MissOfGolden(const std::string& name, const std::function<void(model::Model&)>& bend) {
  const Golden& golden = LoadGolden(name);
  const AlignedBytes file = ReadConverted(name);
  auto model = model::Model::OpenMemory(file.data(), file.size(), {}).Take();
  bend(*model);
  const auto engine = session::Engine::Create(std::move(model), {}).Take();
  const auto session = Session::Create(engine, TestLimits()).Take();
  std::vector<float> logits(golden.logits.size());
  REQUIRE(session->Append(golden.tokens, logits.data()).ok());
  const float difference =
      LargestDifference(logits.data(), golden.logits.data(), golden.logits.size());
  return static_cast<double>(difference / golden.Allowance());
}

float* FloatsOf(const model::Model& model, const model::HeadMatrix& matrix) {
  const TensorView& tensor = model.tensors[static_cast<size_t>(matrix.weight.tensor)];
  return const_cast<float*>(tensor.f32()) + size_t{matrix.weight.row_begin} * tensor.columns();
}

// The rows of kv_b that make keys, in place of those that make values. Key matrices are stored
// turned round.
void UseKeyHalf(model::Model& model) {
  for (const AttentionSpec& spec : model.attentions) {
    const uint32_t rank = spec.query.matrix.rows, values = spec.value_matrix.rows;
    const uint32_t keys = spec.query.width - spec.tail.width;
    REQUIRE(keys >= values);
    const float* key = FloatsOf(model, spec.query.matrix);
    float* value = FloatsOf(model, spec.value_matrix);
    for (uint32_t h = 0; h < spec.query_heads; ++h, key += rank * keys) {
      for (uint32_t i = 0; i < values; ++i) {
        for (uint32_t r = 0; r < rank; ++r) *value++ = key[r * keys + i];
      }
    }
  }
}

// Scores without the square of YaRN's magnitude.
void DropMagnitude(model::Model& model) {
  for (AttentionSpec& spec : model.attentions) {
    const float plain = 1.0f / std::sqrt(static_cast<float>(spec.query.width));
    REQUIRE(spec.scale > 1.05f * plain);
    spec.scale = plain;
  }
}

TEST_CASE("every wrong latent attention misses the logits of transformers", "[session][mutant]") {
  const std::string name = GENERATE("deepseek-v2-groups", "deepseek-v3");
  INFO(name);
  CHECK(MissOfGolden(name, [](model::Model&) {}) <= 1);
  CHECK(MissOfGolden(name, UseKeyHalf) > kFar);
  CHECK(MissOfGolden(name, DropMagnitude) > kFar);
}

}  // namespace
}  // namespace headroom::test
