// Hostile files: keys in a basis. Layer 1 of the tiny model (4 query heads, 2 KV heads of 8) with
// one.
#include <algorithm>
#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include "model/hostile_graph.h"

namespace headroom::test {
namespace {

constexpr uint32_t kWidth = 8, kRows = 2 * kWidth;

const AlignedBytes& BasisFile() {
  static const AlignedBytes file = [] {
    convert::ModelDescription d = TinyDescription();
    const auto add = [&d](const char* name, DType dtype, std::vector<uint32_t> extents) {
      d.tensors.push_back({name, dtype, 0, std::move(extents)});
      return static_cast<int32_t>(d.tensors.size()) - 1;
    };
    d.attentions[1].key.basis = add("basis", DType::kF32, {kRows, kWidth});
    d.attentions[1].key.ordered = d.attentions[1].value.ordered = true;
    add("half", DType::kF16, {kRows, kWidth});
    add("turned", DType::kF32, {kWidth, kRows});
    add("long", DType::kF32, {kRows * kWidth});
    return WriteToMemory(d);
  }();
  return file;
}

void ExpectBasisRefused(std::initializer_list<Bend> bends) {
  ExpectRefused(std::span(bends.begin(), bends.size()), BasisFile());
}

fb::ProjectionT& Last(fb::ModelT& graph) { return *graph.attentions[1]->projection; }
fb::StreamT& Keys(fb::ModelT& graph) { return *Last(graph).streams[0]; }
fb::StreamT& Values(fb::ModelT& graph) { return *Last(graph).streams[1]; }
int32_t Count(fb::ModelT& graph) { return static_cast<int32_t>(graph.tensors.size()); }

TEST_CASE("a basis opens as it was written", "[model]") {
  const auto opened = model::Model::OpenMemory(BasisFile().data(), BasisFile().size(), {});
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const model::AttentionSpec& spec = opened.value()->attentions[1];
  REQUIRE(spec.key.basis != model::kNone);
  CHECK(opened.value()->tensors[static_cast<size_t>(spec.key.basis)].name == "basis");
  CHECK(spec.key.ordered);
  CHECK(spec.value.ordered);
  CHECK(spec.value.basis == model::kNone);
  CHECK_FALSE(opened.value()->attentions[0].key.ordered);
}

TEST_CASE("group 14: a basis of another shape or place is refused", "[model][hostile]") {
  ExpectBasisRefused({
      {"no tensor", kCorrupt, "basis -2 is not in", [](auto& g) { Keys(g).basis = -2; }},
      {"beyond", kCorrupt, "is not in", [](auto& g) { Keys(g).basis = Count(g); }},
      {"of halves", kCorrupt, "basis is f16 [16, 8] of rank 2, not f32 [16, 8]",
       [](auto& g) { Keys(g).basis = Count(g) - 3; }},
      {"turned", kCorrupt, "basis is f32 [8, 16] of rank 2, not f32 [16, 8]",
       [](auto& g) { Keys(g).basis = Count(g) - 2; }},
      {"a vector", kCorrupt, "basis is f32 [128, 1] of rank 1",
       [](auto& g) { Keys(g).basis = Count(g) - 1; }},
      {"of values", kUnsupported, "a basis of values",
       [](auto& g) { Values(g).basis = Keys(g).basis; }},
      {"of a latent", kUnsupported, "that are values too",
       [](auto& g) {
         Last(g).streams.pop_back();
         Last(g).value_stream = 0;
         Keys(g).rope = -1;
       }},
      {"an ordered latent", kUnsupported, "that are values too",
       [](auto& g) {
         Last(g).streams.pop_back();
         Last(g).value_stream = 0;
         Keys(g).rope = Keys(g).basis = -1;
       }},
  });
}

// The floats of the basis in a copy of the file.
AlignedBytes WithBasis(void (*change)(float* basis)) {
  AlignedBytes file(BasisFile().span());
  const auto model = model::Model::OpenMemory(file.data(), file.size(), {}).Take();
  const int32_t basis = model->attentions[1].key.basis;
  const auto* at = model->tensors[static_cast<size_t>(basis)].data;
  change(reinterpret_cast<float*>(file.data() + (at - file.data())));
  return file;
}

TEST_CASE("a basis that is not orthogonal is refused", "[model][hostile]") {
  struct Case {
    void (*change)(float* basis);
    const char* text;
  };
  for (const Case& c : {
           Case{[](float* u) { u[3] += 0.1f; }, "the basis of head 0 is not orthogonal"},
           Case{[](float* u) { u[kWidth * kWidth] = NAN; },
                "the basis of head 1 is not orthogonal"},
           Case{[](float* u) { std::fill_n(u, kWidth * kWidth, 0.0f); }, "of head 0"},
           Case{[](float* u) { std::copy_n(u, kWidth, u + kWidth); }, "of head 0"},
           Case{[](float* u) {
                  for (uint32_t i = 0; i < kWidth; ++i) u[i * kWidth] *= 1.01f;
                },
                "of head 0"},
           Case{[](float* u) { u[kWidth * kWidth] = INFINITY; }, "of head 1"},
       }) {
    const AlignedBytes file = WithBasis(c.change);
    const auto opened = model::Model::OpenMemory(file.data(), file.size(), {});
    REQUIRE_FALSE(opened.ok());
    CHECK(opened.status().code() == kCorrupt);
    INFO(opened.status().message());
    CHECK(std::string(opened.status().message()).find(c.text) != std::string::npos);
  }
}

}  // namespace
}  // namespace headroom::test
