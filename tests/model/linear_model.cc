#include "model/linear_model.h"

namespace headroom::test {
namespace {

using model::Activation;
using model::OpKind;

constexpr uint32_t kChannels = 32, kVocabulary = 40, kHeads = 4, kWidth = 8;

class Builder {
 public:
  int32_t Tensor(const std::string& name, std::vector<uint32_t> extents) {
    d.tensors.push_back({name, DType::kF32, 0, std::move(extents)});
    return static_cast<int32_t>(d.tensors.size()) - 1;
  }
  int32_t Add(model::Op op, std::vector<int32_t> inputs, uint32_t width) {
    for (size_t i = 0; i < inputs.size(); ++i) op.inputs[i] = inputs[i];
    d.values.push_back({width});
    op.output = static_cast<int32_t>(d.values.size()) - 1;
    d.ops.push_back({op, "op" + std::to_string(d.ops.size())});
    return op.output;
  }
  std::string Name(const char* what) { return what + std::to_string(d.tensors.size()); }

  int32_t Project(int32_t x, uint32_t rows) {
    model::Op op;
    op.kind = OpKind::kProjection;
    op.weight.tensor = Tensor(Name("w"), {rows, d.values[static_cast<size_t>(x)].width});
    op.weight.rows = rows;
    op.weight.bias = Tensor(Name("b"), {rows});
    return Add(op, {x}, rows);
  }
  int32_t Activate(int32_t x, Activation activation) {
    model::Op op;
    op.kind = OpKind::kActivation;
    op.activation = activation;
    return Add(op, {x}, d.values[static_cast<size_t>(x)].width);
  }
  int32_t Norm(int32_t x, uint32_t groups, bool shared, model::NormKind kind) {
    model::Op op;
    op.kind = OpKind::kNorm;
    op.norm.kind = kind;
    op.norm.groups = groups;
    op.norm.shared = shared;
    op.norm.weight = Tensor(Name("n"), {shared ? kChannels / groups : kChannels});
    return Add(op, {x}, kChannels);
  }
  int32_t Convolve(int32_t x, uint32_t taps, bool silu) {
    model::Op op;
    op.kind = OpKind::kConvolution;
    op.kernel = taps;
    op.weight = {Tensor(Name("c"), {taps, kChannels}), 0, taps, model::kNone};
    if (silu) op.addend = Tensor(Name("cb"), {kChannels});
    op.activated = silu;
    return Add(op, {x}, kChannels);
  }
  // x * factor + addend, a vector as factor where there is none.
  int32_t MultiplyAdd(int32_t x, int32_t factor, int32_t addend, bool offset = false) {
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    std::vector<int32_t> inputs = {x};
    const uint32_t width = d.values[static_cast<size_t>(x)].width;
    if (factor == model::kNone) op.factor = Tensor(Name("log_decay.factor"), {width});
    if (factor != model::kNone) inputs.push_back(factor);
    if (addend != model::kNone) inputs.push_back(addend);
    if (offset) op.addend = Tensor(Name("offset"), {width});
    return Add(op, inputs, width);
  }
  int32_t Simple(OpKind kind, std::vector<int32_t> inputs) {
    model::Op op;
    op.kind = kind;
    op.heads = kind == OpKind::kHeadProduct ? kHeads : 0;
    return Add(op, inputs, d.values[static_cast<size_t>(inputs[0])].width);
  }
  // Below 0.
  int32_t LogDecay(int32_t x, uint32_t width) {
    return MultiplyAdd(Activate(Project(x, width), Activation::kSoftplus), model::kNone,
                       model::kNone);
  }
  int32_t Linear(model::LinearSpec spec, std::vector<int32_t> inputs) {
    model::Op op;
    op.kind = OpKind::kLinearAttention;
    op.linear = static_cast<int32_t>(d.linears.size());
    d.linears.push_back(spec);
    return Add(op, std::move(inputs), spec.heads * spec.value_width);
  }
  void Residual(int32_t branch) {
    x = Simple(OpKind::kAdd, {x, Norm(branch, 1, false, model::NormKind::kRms)});
  }

  void Shifted();
  void Delta();
  void Attends();
  void Removal();
  void Element();
  void SumOfKeys();

  convert::ModelDescription d;
  int32_t x = 0;
};

constexpr model::LinearSpec kSpec = {kHeads, kHeads, kWidth, kWidth};

void Builder::Shifted() {
  const int32_t mixed = MultiplyAdd(Convolve(x, 2, false), model::kNone, x);
  model::LinearSpec spec = kSpec;
  spec.decay = model::DecayKind::kChannelConstant;
  spec.log_decay = Tensor(Name("log_decay"), {kChannels});
  spec.bonus = Tensor(Name("bonus"), {kChannels});
  const int32_t out =
      Linear(spec, {Project(mixed, kChannels), Project(mixed, kChannels), Project(x, kChannels)});
  const int32_t gate = Activate(Project(x, kChannels), Activation::kSilu);
  Residual(Simple(OpKind::kMultiply, {Norm(out, kHeads, false, model::NormKind::kLayer), gate}));
}

void Builder::Delta() {
  const auto mixed = [&] { return Convolve(Project(x, kChannels), 4, true); };
  model::LinearSpec spec = kSpec;
  spec.key_heads = 2;
  spec.key_width = 2 * kWidth;
  spec.decay = model::DecayKind::kHeadDynamic;
  spec.update = model::StateUpdate::kDeltaDecayed;
  const int32_t q = Norm(mixed(), 2, true, model::NormKind::kRms);
  // Keys of length below 1, so that the delta rule contracts.
  model::Op scale;
  scale.kind = OpKind::kScale;
  scale.scale = 0.25f;
  const int32_t k = Add(scale, {Norm(mixed(), 2, true, model::NormKind::kRms)}, kChannels);
  const int32_t strength = Activate(Project(x, kHeads), Activation::kSigmoid);
  Residual(Linear(spec, {q, k, mixed(), LogDecay(x, kHeads), strength}));
}

void Builder::Attends() {
  model::AttentionSpec spec;
  spec.query_heads = kHeads;
  spec.query.width = spec.key.width = spec.value.width = kWidth;
  spec.key.heads = spec.value.heads = 2;
  const uint32_t rows = 2 * kWidth;
  const auto matrix = [&](uint32_t count) {
    return model::WeightRef{Tensor(Name("a"), {count, kChannels}), 0, count, model::kNone};
  };
  spec.query.weight = matrix(kChannels);
  spec.key.weight = matrix(rows);
  spec.value.weight = matrix(rows);
  spec.output = matrix(kChannels);
  spec.views = {{0, 0, 0}, {1, 0, 1}};
  spec.head_map = {0, 0, 1, 1};
  spec.left = 15;
  spec.scale = 0.5f;
  model::Op op;
  op.kind = OpKind::kAttention;
  op.attention = 0;
  d.attentions.push_back(spec);
  Residual(Add(op, {x}, kChannels));
}

void Builder::Removal() {
  model::LinearSpec spec = kSpec;
  spec.decay = model::DecayKind::kChannelDynamic;
  spec.update = model::StateUpdate::kDeltaUndecayed;
  const auto key = [&] {
    model::Op op;
    op.kind = OpKind::kScale;
    op.scale = 0.2f;
    return Add(op, {Activate(Project(x, kChannels), Activation::kTanh)}, kChannels);
  };
  const int32_t q = Project(x, kChannels), k = key(), v = Project(x, kChannels);
  const int32_t out = Linear(spec, {q, k, v, LogDecay(x, kChannels), model::kNone, key(), key()});
  Residual(Simple(OpKind::kAdd, {out, Simple(OpKind::kHeadProduct, {q, k, v})}));
}

void Builder::Element() {
  model::LinearSpec spec = kSpec;
  spec.heads = spec.key_heads = 1;
  spec.value_width = kChannels;
  spec.decay = model::DecayKind::kDeltaTimesA;
  spec.log_decay = Tensor(Name("log_decay"), {kWidth, kChannels});
  const int32_t inner = Convolve(x, 3, true);
  const int32_t strength = Activate(Project(inner, kChannels), Activation::kSoftplus);
  const int32_t out =
      Linear(spec, {Project(inner, kWidth), Project(inner, kWidth), inner, model::kNone, strength});
  Residual(MultiplyAdd(inner, model::kNone, out));
}

void Builder::SumOfKeys() {
  model::LinearSpec spec = kSpec;
  spec.decay = model::DecayKind::kHeadConstant;
  spec.log_decay = Tensor(Name("log_decay"), {kHeads});
  spec.sum_keys = true;
  spec.epsilon = 1e-6f;
  const auto feature = [&] { return Activate(Project(x, kChannels), Activation::kEluPlus1); };
  const int32_t out = Linear(spec, {feature(), feature(), Project(x, kChannels)});
  const int32_t wide = Activate(Project(out, 2 * kChannels), Activation::kReluSquared);
  Residual(MultiplyAdd(Project(wide, kChannels), model::kNone, model::kNone, true));
}

}  // namespace

convert::ModelDescription LinearDescription(bool attends) {
  Builder b;
  b.d.values.push_back({0});
  model::Op op;
  op.kind = OpKind::kEmbedding;
  op.weight = {b.Tensor("embedding", {kVocabulary, kChannels}), 0, kVocabulary, model::kNone};
  op.scale = 2.0f;
  b.x = b.Add(op, {0}, kChannels);
  b.Shifted();
  b.Delta();
  if (attends) b.Attends();
  b.Removal();
  b.Element();
  b.SumOfKeys();
  op = {};
  op.kind = OpKind::kProjection;
  op.weight = {b.Tensor("head", {kVocabulary, kChannels}), 0, kVocabulary, model::kNone};
  b.d.logits = b.Add(op, {b.x}, kVocabulary);
  b.d.metadata = {"linear", "Test", "Apache-2.0", "made by a test", 512, kVocabulary};
  return std::move(b.d);
}

}  // namespace headroom::test
