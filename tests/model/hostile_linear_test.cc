// Hostile files: linear attention, causal convolutions, products. The file has, in this order,
// states of 4 heads of 8 x 8 with a decay a channel and a bonus; 2 of 16 keys, 4 of 8 values,
// delta; 4 of 8 x 8, removal; 1 of 8 x 32 with element decay; 4 of 8 x 8 with the sum of keys.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "model/hostile.h"
#include "model/linear_model.h"

namespace headroom::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const AlignedBytes& File() {
  static const AlignedBytes file = WriteToMemory(LinearDescription());
  return file;
}

void Refused(std::initializer_list<Bend> bends) {
  ExpectRefused(std::span(bends.begin(), bends.size()), File());
}

template <typename Attributes>
fb::OpT& OpOf(fb::ModelT& graph, int number = 0) {
  for (auto& op : graph.ops) {
    if (op->attributes.type != fb::OpAttributesUnionTraits<Attributes>::enum_value) continue;
    if (number-- == 0) return *op;
  }
  std::abort();
}

fb::OpT& LinearOp(fb::ModelT& graph, int number = 0) {
  return OpOf<fb::LinearAttentionOpT>(graph, number);
}
fb::LinearAttentionOpT& Linear(fb::ModelT& graph, int number = 0) {
  return *LinearOp(graph, number).attributes.AsLinearAttentionOp();
}
fb::LinearMixT& Mix(fb::ModelT& graph, int number = 0) { return *Linear(graph, number).mix; }
fb::ConvolutionOpT& Convolution(fb::ModelT& graph) { return FirstOp<fb::ConvolutionOpT>(graph); }
fb::MultiplyAddOpT& MultiplyAdd(fb::ModelT& graph) { return FirstOp<fb::MultiplyAddOpT>(graph); }

TEST_CASE("the file that is bent is a good one", "[model][hostile][linear]") {
  CHECK(OpenStatus(File().span()).ok());
}

TEST_CASE("group 11: states whose sizes cannot be are refused", "[model][hostile][linear]") {
  Refused({
      {"no heads", kCorrupt, "4 heads of keys for 0 heads", [](auto& g) { Linear(g).heads = 0; }},
      {"no keys", kCorrupt, "0 heads of keys for 4", [](auto& g) { Linear(g).key_heads = 0; }},
      {"heads that do not divide", kCorrupt, "3 heads of keys for 4",
       [](auto& g) { Linear(g).key_heads = 3; }},
      {"heads of 2^32 - 1", kCorrupt, "heads of keys for 4294967295",
       [](auto& g) { Linear(g).heads = UINT32_MAX; }},
      {"keys of 0", kCorrupt, "a state of 0 x 8", [](auto& g) { Linear(g).key_width = 0; }},
      {"keys of 2^32 - 1", kCorrupt, "a state of 4294967295 x 8",
       [](auto& g) { Linear(g).key_width = UINT32_MAX; }},
      {"values of 0", kCorrupt, "a state of 8 x 0", [](auto& g) { Linear(g).value_width = 0; }},
      {"values of 2^32 - 1", kCorrupt, "a state of 8 x 4294967295",
       [](auto& g) { Linear(g).value_width = UINT32_MAX; }},
      {"narrower values", kCorrupt, "input 2 is 32 wide, not 16",
       [](auto& g) { Linear(g).value_width = 4; }},
      {"no mix", kCorrupt, "no mix", [](auto& g) { Linear(g).mix.reset(); }},
  });
}

TEST_CASE("group 5: linear attention without its inputs is refused", "[model][hostile][linear]") {
  Refused({
      {"six inputs", kCorrupt, "6 inputs and 1 outputs, not 7",
       [](auto& g) { LinearOp(g).inputs.pop_back(); }},
      {"no queries", kCorrupt, "input value -1", [](auto& g) { LinearOp(g).inputs[0] = -1; }},
      {"no values", kCorrupt, "input 2 is missing", [](auto& g) { LinearOp(g).inputs[2] = -1; }},
      {"input -2", kCorrupt, "input value -2", [](auto& g) { LinearOp(g).inputs[1] = -2; }},
      {"input beyond", kCorrupt, "input value 9999", [](auto& g) { LinearOp(g).inputs[1] = 9999; }},
      {"tokens as keys", kCorrupt, "reads the token ids",
       [](auto& g) { LinearOp(g).inputs[1] = 0; }},
      {"a decay nobody asked for", kCorrupt, "input 3 is 32 wide, not 0",
       [](auto& g) { LinearOp(g).inputs[3] = LinearOp(g).inputs[2]; }},
      {"no decay", kCorrupt, "input 3 is missing", [](auto& g) { LinearOp(g, 1).inputs[3] = -1; }},
      {"a decay a channel for one a head", kCorrupt, "input 3 is 32 wide, not 4",
       [](auto& g) { LinearOp(g, 1).inputs[3] = LinearOp(g, 1).inputs[2]; }},
      {"no removal keys", kCorrupt, "input 5 is missing",
       [](auto& g) { LinearOp(g, 2).inputs[5] = -1; }},
      {"no write keys", kCorrupt, "input 6 is missing",
       [](auto& g) { LinearOp(g, 2).inputs[6] = -1; }},
      {"no strength where the decay is made of it", kCorrupt, "input 4 is missing",
       [](auto& g) { LinearOp(g, 3).inputs[4] = -1; }},
      {"an output of another width", kCorrupt, "writes 40 values, its heads make 32",
       [](auto& g) {
         const auto output = static_cast<size_t>(LinearOp(g).outputs[0]);
         g.values[output]->dims[1] = fb::Dim(fb::DimSymbol::Constant, 40);
       }},
  });
}

TEST_CASE("group 13: mixes of unknown or contrary parts are refused", "[model][hostile][linear]") {
  Refused({
      {"unknown decay", kUnsupported, "decay 200 is unknown",
       [](auto& g) { Mix(g).decay->kind = static_cast<fb::DecayKind>(200); }},
      {"unknown update", kUnsupported, "state update 200 is unknown",
       [](auto& g) { Mix(g).update = static_cast<fb::StateUpdate>(200); }},
      {"unknown read", kUnsupported, "state read 200 is unknown",
       [](auto& g) { Mix(g).read = static_cast<fb::StateRead>(200); }},
      {"unknown normaliser", kUnsupported, "normaliser 200 is unknown",
       [](auto& g) { Mix(g).normaliser = static_cast<fb::Normaliser>(200); }},
      {"a normaliser of images", kUnsupported, "normaliser Mala",
       [](auto& g) { Mix(g).normaliser = fb::Normaliser::Mala; }},
      {"a bonus read after", kCorrupt, "a bonus and no read before",
       [](auto& g) { Mix(g).read = fb::StateRead::After; }},
      {"read before without a bonus", kCorrupt, "a bonus and no read before",
       [](auto& g) { Mix(g).bonus = -1; }},
      {"bonus of another length", kCorrupt, "bonus is f32",
       [](auto& g) { Mix(g).bonus = Mix(g, 4).decay->log_decay; }},
      {"bonus beyond", kCorrupt, "bonus 9999", [](auto& g) { Mix(g).bonus = 9999; }},
      {"decays of another length", kCorrupt, "log decay is f32",
       [](auto& g) { Mix(g).decay->log_decay = Mix(g, 4).decay->log_decay; }},
      {"no decays", kCorrupt, "log decay -1", [](auto& g) { Mix(g).decay->log_decay = -1; }},
      {"decays of the file and of the tokens", kCorrupt, "a tensor of log decays",
       [](auto& g) { Mix(g, 1).decay->log_decay = Mix(g).decay->log_decay; }},
      {"a decay by low-rank matrices", kUnsupported, "operations of its own",
       [](auto& g) { Mix(g).decay->lora_down = 1; }},
      {"a matrix of decays turned round", kCorrupt, "log decay is f32 of rank 2",
       [](auto& g) {
         auto& extents = g.tensors[static_cast<size_t>(Mix(g, 3).decay->log_decay)]->extents;
         std::swap(extents[0], extents[1]);
       }},
      {"delta read before", kUnsupported, "a delta rule read before",
       [](auto& g) { Mix(g).update = fb::StateUpdate::DeltaDecayed; }},
      {"epsilon 0", kCorrupt, "epsilon 0", [](auto& g) { Mix(g, 4).epsilon = 0.0f; }},
      {"epsilon NaN", kCorrupt, "epsilon nan", [](auto& g) { Mix(g, 4).epsilon = kNan; }},
      {"not causal", kUnsupported, "not causal", [](auto& g) { Mix(g).causal = false; }},
      {"state in f16", kUnsupported, "a state in f16", [](auto& g) { Mix(g).state_f16 = true; }},
      {"a window inside", kUnsupported, "not as operations of their own",
       [](auto& g) { Mix(g).window = 64; }},
      {"a feature map inside", kUnsupported, "not as operations of their own",
       [](auto& g) {
         Mix(g).key_feature = std::make_unique<fb::FeatureT>();
         Mix(g).key_feature->kind = fb::FeatureMap::Silu;
       }},
      {"a scale of queries", kUnsupported, "not as operations of their own",
       [](auto& g) { Mix(g).query_scale = 0.5f; }},
      {"a summary", kUnsupported, "state execution Summary",
       [](auto& g) { Mix(g).execution = fb::StateExecution::Summary; }},
  });
}

TEST_CASE("group 14: decays that grow or are no numbers are refused", "[model][hostile][linear]") {
  for (const float decay : {0.5f, kNan, -std::numeric_limits<float>::infinity()}) {
    for (const int number : {0, 3, 4}) {
      OpenedFile opened(File());
      const auto tensor = static_cast<size_t>(Mix(opened.graph, number).decay->log_decay);
      const fb::TensorT& entry = *opened.graph.tensors[tensor];
      const uint64_t at = opened.graph.segments[entry.segment].offset() -
                          opened.graph.segments[0].offset() + entry.data_offset;
      std::memcpy(opened.payload.data() + at + 4, &decay, sizeof(decay));
      const auto made = opened.Assemble();
      const auto model = model::Model::OpenMemory(made.data(), made.size(), {});
      REQUIRE_FALSE(model.ok());
      ExpectStatus("log decay", model.status(), kCorrupt, "log decay 1 is");
    }
  }
}

TEST_CASE("group 11: convolutions that cannot be run are refused", "[model][hostile][linear]") {
  Refused({
      {"not causal", kUnsupported, "a convolution that is not causal",
       [](auto& g) { Convolution(g).causal = false; }},
      {"not depthwise", kUnsupported, "depthwise", [](auto& g) { Convolution(g).groups = 1; }},
      {"two axes", kUnsupported, "of one axis",
       [](auto& g) {
         Convolution(g).kernel = {2, 2};
       }},
      {"no axis", kUnsupported, "of one axis", [](auto& g) { Convolution(g).kernel.clear(); }},
      {"stride 2", kUnsupported, "stride", [](auto& g) { Convolution(g).stride = {2}; }},
      {"dilation 2", kUnsupported, "dilation", [](auto& g) { Convolution(g).dilation = {2}; }},
      {"no taps", kCorrupt, "0 taps, not 1..8", [](auto& g) { Convolution(g).kernel = {0}; }},
      {"nine taps", kCorrupt, "9 taps, not 1..8", [](auto& g) { Convolution(g).kernel = {9}; }},
      {"more taps than weights", kCorrupt, "not f32 [3, 32]",
       [](auto& g) { Convolution(g).kernel = {3}; }},
      {"no weight", kCorrupt, "no weight", [](auto& g) { Convolution(g).weight.reset(); }},
      {"a part of the taps", kCorrupt, "1 of 2 taps",
       [](auto& g) { Convolution(g).weight->rows = 1; }},
      {"weight beyond", kCorrupt, "weight 9999",
       [](auto& g) { Convolution(g).weight->tensor = 9999; }},
      {"bias of another length", kCorrupt, "bias is f32 of rank 2",
       [](auto& g) { Convolution(g).weight->bias = Convolution(g).weight->tensor; }},
      {"unknown activation", kUnsupported, "activation 200",
       [](auto& g) { Convolution(g).activation = static_cast<fb::ActivationKind>(200); }},
  });
}

TEST_CASE("group 13: products of too much or too little are refused", "[model][hostile][linear]") {
  Refused({
      {"no addend", kCorrupt, "a product without an addend",
       [](auto& g) { MultiplyAdd(g).factor = -1; }},
      {"a third input for a vector", kCorrupt, "3 inputs, not 1..2",
       [](auto& g) { OpOf<fb::MultiplyAddOpT>(g).inputs.push_back(1); }},
      {"four inputs", kCorrupt, "4 inputs",
       [](auto& g) {
         OpOf<fb::MultiplyAddOpT>(g).inputs.push_back(1);
         OpOf<fb::MultiplyAddOpT>(g).inputs.push_back(1);
       }},
      {"factor of another length", kCorrupt, "factor is f32",
       [](auto& g) { MultiplyAdd(g).factor = Mix(g, 4).decay->log_decay; }},
      {"addend beyond", kCorrupt, "addend 9999", [](auto& g) { MultiplyAdd(g).addend = 9999; }},
      {"heads that do not divide", kCorrupt, "32 values in 5 heads",
       [](auto& g) { FirstOp<fb::HeadProductOpT>(g).heads = 5; }},
      {"no heads", kCorrupt, "32 values in 0 heads",
       [](auto& g) { FirstOp<fb::HeadProductOpT>(g).heads = 0; }},
      {"two factors", kCorrupt, "2 inputs and 1 outputs, not 3",
       [](auto& g) { OpOf<fb::HeadProductOpT>(g).inputs.pop_back(); }},
  });
}

fb::NormT& GroupNorm(fb::ModelT& graph) {
  for (auto& op : graph.ops) {
    auto* norm = op->attributes.AsNormOp();
    if (norm != nullptr && norm->norm->kind == fb::NormKind::Group) return *norm->norm;
  }
  std::abort();
}

TEST_CASE("group 13: norms in groups that cannot be are refused", "[model][hostile][linear]") {
  Refused({
      {"no groups", kCorrupt, "32 values in 0 groups", [](auto& g) { GroupNorm(g).groups = 0; }},
      {"groups that do not divide", kCorrupt, "32 values in 5 groups",
       [](auto& g) { GroupNorm(g).groups = 5; }},
      {"a weight of neither length", kCorrupt, "not f32 [8]",
       [](auto& g) { GroupNorm(g).weight = Mix(g, 4).decay->log_decay; }},
      {"without a weight", kUnsupported, "without a weight",
       [](auto& g) { GroupNorm(g).weight = -1; }},
      {"L2", kUnsupported, "L2 norm", [](auto& g) { GroupNorm(g).kind = fb::NormKind::L2; }},
  });
}

TEST_CASE("linear attention comes back whole", "[model][linear]") {
  const convert::ModelDescription expected = LinearDescription();
  const auto model = model::Model::OpenMemory(File().data(), File().size(), {}).Take();
  REQUIRE(model->linears.size() == expected.linears.size());
  for (size_t i = 0; i < expected.linears.size(); ++i) {
    const model::LinearSpec &a = model->linears[i], &b = expected.linears[i];
    CHECK(a.key_heads == b.key_heads);
    CHECK(a.heads == b.heads);
    CHECK(a.key_width == b.key_width);
    CHECK(a.value_width == b.value_width);
    CHECK(a.decay == b.decay);
    CHECK(a.log_decay == b.log_decay);
    CHECK(a.update == b.update);
    CHECK(a.bonus == b.bonus);
    CHECK(a.sum_keys == b.sum_keys);
    CHECK(a.epsilon == b.epsilon);
  }
  REQUIRE(model->ops.size() == expected.ops.size());
  for (size_t i = 0; i < expected.ops.size(); ++i) {
    const model::Op &a = model->ops[i], &b = expected.ops[i].op;
    CHECK(std::equal(std::begin(a.inputs), std::end(a.inputs), std::begin(b.inputs)));
    CHECK(a.linear == b.linear);
    CHECK(a.factor == b.factor);
    CHECK(a.addend == b.addend);
    CHECK(a.kernel == b.kernel);
    CHECK(a.activated == b.activated);
    CHECK(a.heads == b.heads);
    CHECK(a.activation == b.activation);
    CHECK(a.norm.groups == b.norm.groups);
    CHECK(a.norm.shared == b.norm.shared);
  }
}

}  // namespace
}  // namespace headroom::test
