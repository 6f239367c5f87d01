// Hostile files: mixtures of experts (6 experts of 2 x 32 and 32 rows, 2 chosen, 3 groups).
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>

#include "model/hostile.h"

namespace headroom::test {
namespace {

fb::MixtureOpT& Mixture(fb::ModelT& graph) { return FirstOp<fb::MixtureOpT>(graph); }

TEST_CASE("group 5: a mixture without its weights is refused", "[model][hostile][mixture]") {
  ExpectRefused({
      {"router", kCorrupt, "router is missing", [](auto& g) { Mixture(g).router.reset(); }},
      {"gate_up", kCorrupt, "gate_up is missing", [](auto& g) { Mixture(g).gate_up.reset(); }},
      {"down", kCorrupt, "down is missing", [](auto& g) { Mixture(g).down.reset(); }},
      {"score", kCorrupt, "no expert score",
       [](auto& g) { Mixture(g).score = fb::ExpertScore::None; }},
      {"activation", kCorrupt, "no activation",
       [](auto& g) { Mixture(g).activation = fb::ActivationKind::None; }},
  });
}

TEST_CASE("group 11: experts whose rows are not there are refused", "[model][hostile][mixture]") {
  ExpectRefused({
      {"gate_up beyond its tensor", kCorrupt, "gate_up takes rows 1 + 384 of 384",
       [](auto& g) { Mixture(g).gate_up->row_begin = 1; }},
      {"rows of 2^32 - 1", kCorrupt, "gate_up takes rows 0 + 4294967295 of 384",
       [](auto& g) { Mixture(g).gate_up->rows = UINT32_MAX; }},
      {"gate_up of five and a half experts", kCorrupt,
       "gate_up has 352 rows, no multiple of twice 6 experts",
       [](auto& g) { Mixture(g).gate_up->rows = 352; }},
      {"gate_up of narrower experts", kCorrupt, "down has 32 columns, its input has 16",
       [](auto& g) { Mixture(g).gate_up->rows = 192; }},
      {"down of five experts", kCorrupt, "down has 160 rows, 6 experts take 32 each",
       [](auto& g) { Mixture(g).down->rows = 160; }},
      {"down beyond its tensor", kCorrupt, "down takes rows 4294967295 + 192",
       [](auto& g) { Mixture(g).down->row_begin = UINT32_MAX; }},
      {"router beyond its tensor", kCorrupt, "router takes rows 0 + 7 of 6",
       [](auto& g) { Mixture(g).router->rows = 7; }},
      {"router of fewer experts", kCorrupt, "choice bias is f32 of rank 1, 6 long, not f32 [5]",
       [](auto& g) { Mixture(g).router->rows = 5; }},
      {"bias of another length", kCorrupt, "bias is f32 of rank 1",
       [](auto& g) { Mixture(g).down->bias = Mixture(g).gate_up->bias; }},
      {"tensor beyond", kCorrupt, "gate_up 9999 is not in",
       [](auto& g) { Mixture(g).gate_up->tensor = 9999; }},
      {"a vector as router", kCorrupt, "not a matrix",
       [](auto& g) { Mixture(g).router->tensor = 0; }},
  });
}

TEST_CASE("group 18: choices that cannot be made are refused", "[model][hostile][mixture]") {
  ExpectRefused({
      {"none chosen", kCorrupt, "0 of 6 experts a token", [](auto& g) { Mixture(g).chosen = 0; }},
      {"more than there are", kCorrupt, "7 of 6 experts a token",
       [](auto& g) { Mixture(g).chosen = 7; }},
      {"2^32 - 1 chosen", kCorrupt, "4294967295 of 6 experts",
       [](auto& g) { Mixture(g).chosen = UINT32_MAX; }},
      {"more than the groups allowed hold", kCorrupt, "5 experts chosen from 2 groups of 2",
       [](auto& g) { Mixture(g).chosen = 5; }},
      {"no groups", kCorrupt, "6 experts are no multiple of 0 groups",
       [](auto& g) { Mixture(g).groups = 0; }},
      {"groups that do not divide", kCorrupt, "6 experts are no multiple of 4 groups",
       [](auto& g) { Mixture(g).groups = 4; }},
      {"more groups than experts", kCorrupt, "6 experts are no multiple of 4294967295 groups",
       [](auto& g) { Mixture(g).groups = UINT32_MAX; }},
      {"no group allowed", kCorrupt, "the best 0 of 3 groups",
       [](auto& g) { Mixture(g).top_groups = 0; }},
      {"more allowed than there are", kCorrupt, "the best 4 of 3 groups",
       [](auto& g) { Mixture(g).top_groups = 4; }},
      {"groups judged by none", kCorrupt, "groups of 2 experts judged by 0",
       [](auto& g) { Mixture(g).group_best = 0; }},
      {"groups judged by more than they have", kCorrupt, "groups of 2 experts judged by 3",
       [](auto& g) { Mixture(g).group_best = 3; }},
      {"choice bias of another length", kCorrupt, "choice bias is f32 of rank 1, 4 long",
       [](auto& g) { Mixture(g).choice_bias = 0; }},
      {"choice bias -2", kCorrupt, "choice bias -2 is not in",
       [](auto& g) { Mixture(g).choice_bias = -2; }},
  });
}

TEST_CASE("group 14: factors of a mixture that are no numbers are refused",
          "[model][hostile][mixture]") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  ExpectRefused({
      {"scale 0", kCorrupt, "scale 0 is not", [](auto& g) { Mixture(g).scale = 0.0f; }},
      {"scale NaN", kCorrupt, "scale nan", [](auto& g) { Mixture(g).scale = kNan; }},
      {"limit -1", kCorrupt, "limit -1", [](auto& g) { Mixture(g).limit = -1.0f; }},
      {"limit infinite", kCorrupt, "limit inf", [](auto& g) { Mixture(g).limit = kInfinity; }},
      {"limit NaN", kCorrupt, "limit nan", [](auto& g) { Mixture(g).limit = kNan; }},
      {"offset NaN", kCorrupt, "up offset nan", [](auto& g) { Mixture(g).up_offset = kNan; }},
  });
}

TEST_CASE("group 13: mixtures and products of unknown kinds or shapes are refused",
          "[model][hostile][mixture]") {
  ExpectRefused({
      {"unknown score", kUnsupported, "expert score 200 is unknown",
       [](auto& g) { Mixture(g).score = static_cast<fb::ExpertScore>(200); }},
      {"unknown activation", kUnsupported, "activation 200 is unknown",
       [](auto& g) { Mixture(g).activation = static_cast<fb::ActivationKind>(200); }},
      {"activation of none's", kUnsupported, "activation HardSwish",
       [](auto& g) { Mixture(g).activation = fb::ActivationKind::HardSwish; }},
      {"changed width", kCorrupt, "maps 32 to 64 values, it should map 32 to 32",
       [](auto& g) {
         for (auto& op : g.ops) {
           if (!op->attributes.AsMixtureOp()) continue;
           g.values[static_cast<size_t>(op->outputs[0])]->dims[1] =
               fb::Dim(fb::DimSymbol::Constant, 64);
         }
       }},
      {"product of unlike widths", kCorrupt, "multiplies 32 and 64 values",
       [](auto& g) {
         int32_t wide = 0;
         for (auto& op : g.ops) {
           if (op->attributes.AsProjectionOp() && wide == 0) wide = op->outputs[0];
           if (op->attributes.AsMultiplyOp()) op->inputs[1] = wide;
         }
       }},
      {"product of one", kCorrupt, "1 inputs and 1 outputs, not 2 and 1",
       [](auto& g) {
         for (auto& op : g.ops) {
           if (op->attributes.AsMultiplyOp()) op->inputs.pop_back();
         }
       }},
      {"two inputs of a mixture", kCorrupt, "2 inputs and 1 outputs, not 1 and 1",
       [](auto& g) {
         for (auto& op : g.ops) {
           if (op->attributes.AsMixtureOp()) op->inputs.push_back(1);
         }
       }},
  });
}

TEST_CASE("a file of more experts than any model has is refused", "[model][hostile][mixture]") {
  convert::ModelDescription description = test::TinyDescription();
  model::MixtureSpec& spec = description.mixtures[0];
  constexpr uint32_t kMany = model::kMaxExperts + 1;
  auto grow = [&](model::WeightRef& weight, uint32_t rows) {
    description.tensors[static_cast<size_t>(weight.tensor)].extents[0] = rows;
    weight.rows = rows;
    weight.bias = model::kNone;
  };
  grow(spec.router, kMany);
  test::ExpectStatus("4097 experts", test::OpenStatus(test::WriteToMemory(description).span()),
                     kCorrupt, "4097 experts > 4096");
}

}  // namespace
}  // namespace headroom::test
