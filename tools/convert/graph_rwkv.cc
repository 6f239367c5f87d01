// The graph of RWKV-5, -6 and -7. The recurrences are linear attention; what they are fed with is
// ordinary operations. Formulas: arXiv 2404.05892 sections 3 and 4, 2503.14456 section 4.
#include <cmath>

#include "convert/graph_tensors.h"
#include "convert/rwkv.h"

namespace headroom::convert {
namespace {

using model::Activation;
using model::kNone;
using model::OpKind;
using model::WeightRef;

constexpr float kHeadEpsilon = 64e-5f;  // of the norm of every head: 1e-5 times 8^2

class Builder {
 public:
  Builder(const ModelShape& shape, const WeightChoice& choice)
      : shape_(shape), rwkv_(*shape.rwkv), tensors_(shape, choice, plan_) {}

  GraphPlan Build() {
    AddValue(0);  // the tokens
    model::Op op;
    op.kind = OpKind::kEmbedding;
    op.weight = tensors_.AddMatrix("embedding", "", channels(),
                                   {{"emb", shape_.vocabulary, 0, shape_.vocabulary}}, false,
                                   tensors_.VocabularyFormat(), tensors_.TableBlock(false));
    residual_ = Norm("embedding.norm", "blocks.0.ln0", AddOp("embedding", op, channels(), {0}));
    for (size_t i = 0; i < shape_.layers.size(); ++i) Layer(i);
    const int32_t normed = Norm("final_norm", "ln_out", residual_);
    const WeightRef head = tensors_.AddMatrix("head", "", channels(),
                                              {{"head", shape_.vocabulary, 0, shape_.vocabulary}},
                                              false, tensors_.HeadFormat());
    description().logits = Project("head", head, normed);
    return std::move(plan_);
  }

 private:
  ModelDescription& description() { return plan_.description; }
  uint32_t channels() const { return shape_.channels; }
  uint32_t heads() const { return shape_.query_heads; }

  // ---- Operations; `name` is also that of their tensors

  int32_t AddValue(uint32_t width) {
    description().values.push_back({width});
    return static_cast<int32_t>(description().values.size() - 1);
  }
  int32_t AddOp(const std::string& name, model::Op op, uint32_t width,
                const std::vector<int32_t>& inputs) {
    for (size_t i = 0; i < inputs.size(); ++i) op.inputs[i] = inputs[i];
    op.output = AddValue(width);
    description().ops.push_back({op, name});
    return op.output;
  }
  int32_t Simple(const std::string& name, OpKind kind, const std::vector<int32_t>& inputs) {
    model::Op op;
    op.kind = kind;
    op.heads = kind == OpKind::kHeadProduct ? heads() : 0;
    return AddOp(name, op, channels(), inputs);
  }
  int32_t Activate(const std::string& name, Activation activation, int32_t x) {
    model::Op op;
    op.kind = OpKind::kActivation;
    op.activation = activation;
    return AddOp(name, op, description().values[static_cast<size_t>(x)].width, {x});
  }
  int32_t Scale(const std::string& name, float scale, int32_t x) {
    model::Op op;
    op.kind = OpKind::kScale;
    op.scale = scale;
    return AddOp(name, op, channels(), {x});
  }
  int32_t Project(const std::string& name, const WeightRef& weight, int32_t x) {
    model::Op op;
    op.kind = OpKind::kProjection;
    op.weight = weight;
    return AddOp(name, op, weight.rows, {x});
  }
  int32_t Norm(const std::string& name, const std::string& source, int32_t x) {
    model::Op op;
    op.kind = OpKind::kNorm;
    op.norm = tensors_.AddNorm(name, source, channels(), true);
    return AddOp(name, op, channels(), {x});
  }
  // x * vector + addend
  int32_t Mix(const std::string& name, int32_t x, int32_t vector, int32_t addend) {
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    op.factor = vector;
    std::vector<int32_t> inputs = {x};
    if (addend != kNone) inputs.push_back(addend);
    return AddOp(name, op, channels(), inputs);
  }
  // Matrix [rows, columns] of NAME.weight.
  int32_t Dense(const std::string& name, const std::string& source, uint32_t rows, int32_t x) {
    const uint32_t columns = description().values[static_cast<size_t>(x)].width;
    return Project(name, tensors_.AddMatrix(name, "", columns, {{source, rows, 0, rows}}, false),
                   x);
  }
  int32_t Vector(const std::string& name, const std::string& source, float (*map)(float) = nullptr,
                 TensorRole role = TensorRole::kBias) {
    const int32_t tensor = tensors_.AddVector(name, role, {{source, channels(), 0, channels()}});
    plan_.tensors[static_cast<size_t>(tensor)].map = map;
    return tensor;
  }
  // Of a matrix that decides about others, [columns, rows] in the checkpoint. Of several, `part`.
  WeightRef Small(const std::string& name, RowPart part, uint32_t columns) {
    part.transposed = !rwkv_.turned;
    WeightFormat format = tensors_.choice().format;
    if (format != WeightFormat::kKeep) format = std::min(format, WeightFormat::kF16);
    return tensors_.AddParts(name, columns, {std::move(part)}, format);
  }
  int32_t SmallDense(const std::string& name, const std::string& source, uint32_t rows, int32_t x) {
    const uint32_t columns = description().values[static_cast<size_t>(x)].width;
    return Project(name, Small(name, {source, rows, 0, rows}, columns), x);
  }
  // up(act(down x)) + bias
  int32_t LowRank(const std::string& name, const std::string& source, uint32_t rank,
                  std::optional<Activation> activation, bool bias, int32_t x) {
    int32_t low = SmallDense(name + ".down", source + "1", rank, x);
    if (activation) low = Activate(name + ".activation", *activation, low);
    WeightRef up = Small(name + ".up", {source + "2", channels(), 0, channels()}, rank);
    // RWKV-6 keeps the decay's without a number.
    const std::string from =
        rwkv_.version == 6 ? source.substr(0, source.size() - 2) : source + "0";
    if (bias) up.bias = Vector(name + ".bias", from);
    return Project(name + ".up", up, low);
  }

  // The token before minus the token: a convolution of two taps.
  int32_t Shift(const std::string& name, int32_t x) {
    TensorPlan plan;
    plan.role = TensorRole::kFixed;
    plan.fixed.assign(2 * size_t{channels()}, 1.0f);
    std::fill_n(plan.fixed.begin() + channels(), channels(), -1.0f);
    model::Op op;
    op.kind = OpKind::kConvolution;
    op.kernel = 2;
    op.weight = {tensors_.AddTensor({name, DType::kF32, 0, {2, channels()}}, std::move(plan)), 0, 2,
                 kNone};
    return AddOp(name, op, channels(), {x});
  }

  // ---- Layers

  // What a token is mixed with by a constant share a channel. RWKV-5 keeps the share of the token
  // itself, the others that of the token before.
  int32_t Shared(const std::string& name, const std::string& prefix, char of, int32_t x,
                 int32_t shift) {
    static constexpr const char* kNames[] = {"time_mix_", "time_maa_", "x_"};
    const std::string source = prefix + kNames[rwkv_.version - 5] + of;
    float (*const map)(float) = rwkv_.version == 5 ? [](float share) { return 1.0f - share; }
                                                   : static_cast<float (*)(float)>(nullptr);
    return Mix(name, shift, Vector(name, source, map), x);
  }

  void Layer(size_t i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    const std::string source = "blocks." + std::to_string(i) + ".";
    const int32_t x = Norm(name + "time_mix.norm", source + "ln1", residual_);
    const int32_t mixed = rwkv_.version == 7 ? TimeMix7(name + "time_mix.", source + "att.", i, x)
                                             : TimeMix(name + "time_mix.", source + "att.", x);
    residual_ = Simple(name + "time_mix.add", OpKind::kAdd, {residual_, mixed});
    const int32_t y = Norm(name + "channel_mix.norm", source + "ln2", residual_);
    residual_ = Simple(name + "channel_mix.add", OpKind::kAdd,
                       {residual_, ChannelMix(name + "channel_mix.", source + "ffn.", y)});
    // The matrices behind are smaller by as much, so that f16 does not overflow.
    if (rwkv_.rescale_every != 0 && (i + 1) % rwkv_.rescale_every == 0) {
      residual_ = Scale(name + "rescale", 0.5f, residual_);
    }
  }

  int32_t ChannelMix(const std::string& name, const std::string& source, int32_t x) {
    const int32_t shift = Shift(name + "shift", x);
    const int32_t key = Dense(name + "key", source + "key", shape_.inner,
                              Shared(name + "key.mix", source, 'k', x, shift));
    const int32_t value = Dense(name + "value", source + "value", channels(),
                                Activate(name + "activation", Activation::kReluSquared, key));
    if (rwkv_.version == 7) return value;
    const int32_t gate = Dense(name + "receptance", source + "receptance", channels(),
                               Shared(name + "receptance.mix", source, 'r', x, shift));
    return Simple(name + "gate", OpKind::kMultiply,
                  {value, Activate(name + "sigmoid", Activation::kSigmoid, gate)});
  }

  int32_t Linear(const std::string& name, model::LinearSpec spec,
                 const std::vector<int32_t>& inputs) {
    spec.heads = spec.key_heads = heads();
    spec.key_width = spec.value_width = shape_.head_width;
    model::Op op;
    op.kind = OpKind::kLinearAttention;
    op.linear = static_cast<int32_t>(description().linears.size());
    description().linears.push_back(spec);
    return AddOp(name, op, channels(), inputs);
  }

  int32_t HeadNorm(const std::string& name, const std::string& source, int32_t x) {
    model::Op op;
    op.kind = OpKind::kNorm;
    op.norm = tensors_.AddNorm(name, source, channels(), true);
    op.norm.epsilon = kHeadEpsilon;
    op.norm.groups = heads();
    return AddOp(name, op, channels(), {x});
  }

  // RWKV-6: the shares depend on the token, too, by matrices of low rank.
  int32_t Dynamic(const std::string& name, const std::string& source, int part, int32_t x,
                  int32_t shift, int32_t base) {
    static constexpr char kParts[] = "wkvrg";
    const uint32_t rank = rwkv_.mix_rank;
    const RowPart down{source + "time_maa_w1", uint64_t{5} * rank,
                       uint64_t{rank} * static_cast<uint64_t>(part), rank};
    const int32_t low =
        Activate(name + ".activation", Activation::kTanh,
                 Project(name + ".down", Small(name + ".down", down, channels()), base));
    RowPart up{source + "time_maa_w2", channels(), 0, channels()};
    up.matrices = 5;
    up.matrix = static_cast<uint64_t>(part);
    WeightRef weight = Small(name + ".up", up, rank);
    weight.bias = Vector(name + ".bias", source + "time_maa_" + kParts[part]);
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    return AddOp(name, op, channels(), {shift, Project(name + ".up", weight, low), x});
  }

  // RWKV-5 and 6: read before the update, with a bonus for the token itself.
  int32_t TimeMix(const std::string& name, const std::string& source, int32_t x) {
    static constexpr char kParts[] = "wkvrg";
    const bool dynamic = rwkv_.version == 6;
    const int32_t shift = Shift(name + "shift", x);
    const int32_t base =
        dynamic ? Mix(name + "mix", shift, Vector(name + "mix", source + "time_maa_x"), x) : kNone;
    const auto mixed = [&](int part, const std::string& of) {
      return dynamic ? Dynamic(name + of + ".mix", source, part, x, shift, base)
                     : Shared(name + of + ".mix", source, kParts[part], x, shift);
    };
    model::LinearSpec spec;
    spec.bonus = Vector(name + "bonus", source + "time_faaaa");
    int32_t log_decay = kNone;
    if (dynamic) {
      const int32_t decay = LowRank(name + "decay", source + "time_decay_w", rwkv_.decay_rank,
                                    Activation::kTanh, true, mixed(0, "decay"));
      spec.decay = model::DecayKind::kChannelDynamic;
      log_decay = Scale(name + "decay.negative", -1.0f,
                        Activate(name + "decay.exp", Activation::kExp, decay));
    } else {
      spec.decay = model::DecayKind::kChannelConstant;
      spec.log_decay = Vector(name + "log_decay", source + "time_decay",
                              [](float decay) { return -std::exp(decay); });
    }
    const int32_t key = Dense(name + "key", source + "key", channels(), mixed(1, "key"));
    const int32_t value = Dense(name + "value", source + "value", channels(), mixed(2, "value"));
    const int32_t query =
        Dense(name + "receptance", source + "receptance", channels(), mixed(3, "receptance"));
    const int32_t gate =
        Activate(name + "gate.silu", Activation::kSilu,
                 Dense(name + "gate", source + "gate", channels(), mixed(4, "gate")));
    const int32_t out = HeadNorm(name + "head_norm", source + "ln_x",
                                 Linear(name + "state", spec, {query, key, value, log_decay}));
    return Dense(name + "output", source + "output", channels(),
                 Simple(name + "gated", OpKind::kMultiply, {out, gate}));
  }

  // RWKV-7: what a normed key recalls is removed and, at a rate, written back.
  int32_t TimeMix7(const std::string& name, const std::string& source, size_t layer, int32_t x) {
    const int32_t shift = Shift(name + "shift", x);
    const auto mixed = [&](const std::string& of, char part) {
      return Shared(name + of + ".mix", source, part, x, shift);
    };
    const int32_t query =
        Dense(name + "receptance", source + "receptance", channels(), mixed("receptance", 'r'));
    const int32_t decay = LowRank(name + "decay", source + "w", rwkv_.decay_rank, Activation::kTanh,
                                  true, mixed("decay", 'w'));
    // exp(-exp(-log(1 + exp(-z)) - 1/2)) = exp(-exp(-1/2) sigmoid(z))
    const int32_t log_decay = Scale(name + "decay.scale", -std::exp(-0.5f),
                                    Activate(name + "decay.sigmoid", Activation::kSigmoid, decay));
    const int32_t key = Dense(name + "key", source + "key", channels(), mixed("key", 'k'));
    const int32_t of_value = mixed("value", 'v');
    const int32_t value = FirstValue(name, source, layer, of_value,
                                     Dense(name + "value", source + "value", channels(), of_value));
    const int32_t rate = Activate(name + "rate.sigmoid", Activation::kSigmoid,
                                  LowRank(name + "rate", source + "a", rwkv_.rate_rank,
                                          std::nullopt, true, mixed("rate", 'a')));
    const int32_t gate = LowRank(name + "gate", source + "g", rwkv_.gate_rank, Activation::kSigmoid,
                                 false, mixed("gate", 'g'));
    const int32_t removal = UnitKey(name + "removal", source, key);
    const int32_t written = Simple(name + "written", OpKind::kMultiply, {removal, rate});
    const int32_t kept = KeyAtRate(name + "key_at_rate", source, key, rate);
    model::LinearSpec spec;
    spec.decay = model::DecayKind::kChannelDynamic;
    spec.update = model::StateUpdate::kDeltaUndecayed;
    const int32_t state = Linear(
        name + "state", spec,
        {query, kept, value, log_decay, kNone, Scale(name + "removed", -1.0f, removal), written});
    const int32_t out = HeadNorm(name + "head_norm", source + "ln_x", state);
    const int32_t weighed =
        Mix(name + "bonus", query, Vector(name + "bonus", source + "r_k"), kNone);
    const int32_t own = Simple(name + "own", OpKind::kHeadProduct, {weighed, kept, value});
    const int32_t both = Simple(name + "with_own", OpKind::kAdd, {out, own});
    return Dense(name + "output", source + "output", channels(),
                 Simple(name + "gated", OpKind::kMultiply, {both, gate}));
  }

  // value + (first - value) * sigmoid(...), first the value of the first layer
  int32_t FirstValue(const std::string& name, const std::string& source, size_t layer, int32_t of,
                     int32_t value) {
    if (layer == 0) return first_value_ = value;
    const int32_t share = Activate(
        name + "first_value.sigmoid", Activation::kSigmoid,
        LowRank(name + "first_value", source + "v", rwkv_.value_rank, std::nullopt, true, of));
    const int32_t apart =
        Simple(name + "first_value.apart", OpKind::kAdd,
               {first_value_, Scale(name + "first_value.negative", -1.0f, value)});
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    return AddOp(name + "first_value", op, channels(), {apart, share, value});
  }

  // Of each head, key * k_k over its length: an Rms norm with weight 1 / sqrt(D).
  int32_t UnitKey(const std::string& name, const std::string& source, int32_t key) {
    const float width = static_cast<float>(shape_.head_width);
    TensorPlan plan;
    plan.role = TensorRole::kFixed;
    plan.fixed.assign(shape_.head_width, 1.0f / std::sqrt(width));
    model::Op op;
    op.kind = OpKind::kNorm;
    op.norm.weight =
        tensors_.AddTensor({name + ".norm", DType::kF32, 0, {shape_.head_width}}, std::move(plan));
    op.norm.epsilon = 1e-24f / width;
    op.norm.groups = heads();
    op.norm.shared = true;
    const int32_t scaled =
        Mix(name + ".scaled", key,
            Vector(name + ".scale", source + "k_k", nullptr, TensorRole::kNorm), kNone);
    return AddOp(name, op, channels(), {scaled});
  }

  // key * (1 + (rate - 1) * k_a)
  int32_t KeyAtRate(const std::string& name, const std::string& source, int32_t key, int32_t rate) {
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    op.factor = Vector(name + ".share", source + "k_a");
    op.addend = Vector(name + ".rest", source + "k_a", [](float share) { return 1.0f - share; });
    const int32_t factor = AddOp(name + ".factor", op, channels(), {rate});
    return Simple(name, OpKind::kMultiply, {key, factor});
  }

  const ModelShape& shape_;
  const RwkvShape& rwkv_;
  GraphPlan plan_;
  TensorPlanner tensors_;
  int32_t residual_ = kNone, first_value_ = kNone;
};

}  // namespace

GraphPlan BuildRwkvGraph(const ModelShape& shape, const WeightChoice& choice) {
  return Builder(shape, choice).Build();
}

}  // namespace headroom::convert
