// The graph of RWKV-5, -6 and -7. The recurrences are linear attention; what they are fed with is
// ordinary operations. Formulas: arXiv 2404.05892 sections 3 and 4, 2503.14456 section 4.
#include <cmath>

#include "convert/graph_ops.h"
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
      : shape_(shape),
        rwkv_(*shape.rwkv),
        tensors_(shape, choice, plan_),
        ops_(plan_.description) {}

  GraphPlan Build() {
    ops_.AddValue(0);  // the tokens
    model::Op op;
    op.kind = OpKind::kEmbedding;
    op.weight = tensors_.AddMatrix("embedding", "", channels(),
                                   {{"emb", shape_.vocabulary, 0, shape_.vocabulary}}, false,
                                   tensors_.VocabularyFormat(), tensors_.TableBlock(false));
    residual_ = Norm("embedding.norm", "blocks.0.ln0", ops_.Add("embedding", op, channels(), {0}));
    for (size_t i = 0; i < shape_.layers.size(); ++i) Layer(i);
    const int32_t normed = Norm("final_norm", "ln_out", residual_);
    const WeightRef head = tensors_.AddMatrix("head", "", channels(),
                                              {{"head", shape_.vocabulary, 0, shape_.vocabulary}},
                                              false, tensors_.HeadFormat());
    ops_.description().logits = ops_.Project("head", head, normed);
    return std::move(plan_);
  }

 private:
  uint32_t channels() const { return shape_.channels; }
  uint32_t heads() const { return shape_.query_heads; }

  // ---- Operations; `name` is also that of their tensors

  int32_t HeadProduct(const std::string& name, int32_t a, int32_t b, int32_t c) {
    model::Op op;
    op.kind = OpKind::kHeadProduct;
    op.heads = heads();
    return ops_.Add(name, op, channels(), {a, b, c});
  }
  int32_t Norm(const std::string& name, const std::string& source, int32_t x) {
    return ops_.Norm(name, tensors_.AddNorm(name, source, channels(), true), x);
  }
  // x * vector + addend
  int32_t Mix(const std::string& name, int32_t x, int32_t vector, int32_t addend) {
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    op.factor = vector;
    return ops_.Add(name, op, channels(), {x, addend});
  }
  // Matrix [rows, columns] of NAME.weight.
  int32_t Dense(const std::string& name, const std::string& source, uint32_t rows, int32_t x) {
    const uint32_t columns = ops_.width(x);
    return ops_.Project(name,
                        tensors_.AddMatrix(name, "", columns, {{source, rows, 0, rows}}, false), x);
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
    const uint32_t columns = ops_.width(x);
    return ops_.Project(name, Small(name, {source, rows, 0, rows}, columns), x);
  }
  // up(act(down x)) + bias
  int32_t LowRank(const std::string& name, const std::string& source, uint32_t rank,
                  std::optional<Activation> activation, bool bias, int32_t x) {
    int32_t low = SmallDense(name + ".down", source + "1", rank, x);
    if (activation) low = ops_.Activate(name + ".activation", *activation, low);
    WeightRef up = Small(name + ".up", {source + "2", channels(), 0, channels()}, rank);
    // RWKV-6 keeps the decay's without a number.
    const std::string from =
        rwkv_.version == 6 ? source.substr(0, source.size() - 2) : source + "0";
    if (bias) up.bias = Vector(name + ".bias", from);
    return ops_.Project(name + ".up", up, low);
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
    return ops_.Add(name, op, channels(), {x});
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
    residual_ = ops_.Sum(name + "time_mix.add", residual_, mixed);
    const int32_t y = Norm(name + "channel_mix.norm", source + "ln2", residual_);
    residual_ = ops_.Sum(name + "channel_mix.add", residual_,
                         ChannelMix(name + "channel_mix.", source + "ffn.", y));
    // The matrices behind are smaller by as much, so that f16 does not overflow.
    if (rwkv_.rescale_every != 0 && (i + 1) % rwkv_.rescale_every == 0) {
      residual_ = ops_.Scale(name + "rescale", 0.5f, residual_);
    }
  }

  int32_t ChannelMix(const std::string& name, const std::string& source, int32_t x) {
    const int32_t shift = Shift(name + "shift", x);
    const int32_t key = Dense(name + "key", source + "key", shape_.inner,
                              Shared(name + "key.mix", source, 'k', x, shift));
    const int32_t value = Dense(name + "value", source + "value", channels(),
                                ops_.Activate(name + "activation", Activation::kReluSquared, key));
    if (rwkv_.version == 7) return value;
    const int32_t gate = Dense(name + "receptance", source + "receptance", channels(),
                               Shared(name + "receptance.mix", source, 'r', x, shift));
    return ops_.Multiply(name + "gate", value,
                         ops_.Activate(name + "sigmoid", Activation::kSigmoid, gate));
  }

  int32_t Linear(const std::string& name, model::LinearSpec spec,
                 std::initializer_list<int32_t> inputs) {
    spec.heads = spec.key_heads = heads();
    spec.key_width = spec.value_width = shape_.head_width;
    model::Op op;
    op.kind = OpKind::kLinearAttention;
    op.linear = static_cast<int32_t>(ops_.description().linears.size());
    ops_.description().linears.push_back(spec);
    return ops_.Add(name, op, channels(), inputs);
  }

  int32_t HeadNorm(const std::string& name, const std::string& source, int32_t x) {
    model::NormSpec norm = tensors_.AddNorm(name, source, channels(), true);
    norm.epsilon = kHeadEpsilon;
    norm.groups = heads();
    return ops_.Norm(name, norm, x);
  }

  // RWKV-6: the shares depend on the token, too, by matrices of low rank.
  int32_t Dynamic(const std::string& name, const std::string& source, int part, int32_t x,
                  int32_t shift, int32_t base) {
    static constexpr char kParts[] = "wkvrg";
    const uint32_t rank = rwkv_.mix_rank;
    const RowPart down{source + "time_maa_w1", uint64_t{5} * rank,
                       uint64_t{rank} * static_cast<uint64_t>(part), rank};
    const int32_t low =
        ops_.Activate(name + ".activation", Activation::kTanh,
                      ops_.Project(name + ".down", Small(name + ".down", down, channels()), base));
    RowPart up{source + "time_maa_w2", channels(), 0, channels()};
    up.matrices = 5;
    up.matrix = static_cast<uint64_t>(part);
    WeightRef weight = Small(name + ".up", up, rank);
    weight.bias = Vector(name + ".bias", source + "time_maa_" + kParts[part]);
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    return ops_.Add(name, op, channels(), {shift, ops_.Project(name + ".up", weight, low), x});
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
      log_decay = ops_.Scale(name + "decay.negative", -1.0f,
                             ops_.Activate(name + "decay.exp", Activation::kExp, decay));
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
        ops_.Activate(name + "gate.silu", Activation::kSilu,
                      Dense(name + "gate", source + "gate", channels(), mixed(4, "gate")));
    const int32_t out = HeadNorm(name + "head_norm", source + "ln_x",
                                 Linear(name + "state", spec, {query, key, value, log_decay}));
    return Dense(name + "output", source + "output", channels(),
                 ops_.Multiply(name + "gated", out, gate));
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
    const int32_t log_decay =
        ops_.Scale(name + "decay.scale", -std::exp(-0.5f),
                   ops_.Activate(name + "decay.sigmoid", Activation::kSigmoid, decay));
    const int32_t key = Dense(name + "key", source + "key", channels(), mixed("key", 'k'));
    const int32_t of_value = mixed("value", 'v');
    const int32_t value = FirstValue(name, source, layer, of_value,
                                     Dense(name + "value", source + "value", channels(), of_value));
    const int32_t rate = ops_.Activate(name + "rate.sigmoid", Activation::kSigmoid,
                                       LowRank(name + "rate", source + "a", rwkv_.rate_rank,
                                               std::nullopt, true, mixed("rate", 'a')));
    const int32_t gate = LowRank(name + "gate", source + "g", rwkv_.gate_rank, Activation::kSigmoid,
                                 false, mixed("gate", 'g'));
    const int32_t removal = UnitKey(name + "removal", source, key);
    const int32_t written = ops_.Multiply(name + "written", removal, rate);
    const int32_t kept = KeyAtRate(name + "key_at_rate", source, key, rate);
    model::LinearSpec spec;
    spec.decay = model::DecayKind::kChannelDynamic;
    spec.update = model::StateUpdate::kDeltaUndecayed;
    const int32_t state = Linear(name + "state", spec,
                                 {query, kept, value, log_decay, kNone,
                                  ops_.Scale(name + "removed", -1.0f, removal), written});
    const int32_t out = HeadNorm(name + "head_norm", source + "ln_x", state);
    const int32_t weighed =
        Mix(name + "bonus", query, Vector(name + "bonus", source + "r_k"), kNone);
    const int32_t own = HeadProduct(name + "own", weighed, kept, value);
    const int32_t both = ops_.Sum(name + "with_own", out, own);
    return Dense(name + "output", source + "output", channels(),
                 ops_.Multiply(name + "gated", both, gate));
  }

  // value + (first - value) * sigmoid(...), first the value of the first layer
  int32_t FirstValue(const std::string& name, const std::string& source, size_t layer, int32_t of,
                     int32_t value) {
    if (layer == 0) return first_value_ = value;
    const int32_t share = ops_.Activate(
        name + "first_value.sigmoid", Activation::kSigmoid,
        LowRank(name + "first_value", source + "v", rwkv_.value_rank, std::nullopt, true, of));
    const int32_t apart = ops_.Sum(name + "first_value.apart", first_value_,
                                   ops_.Scale(name + "first_value.negative", -1.0f, value));
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    return ops_.Add(name + "first_value", op, channels(), {apart, share, value});
  }

  // Of each head, key * k_k over its length: an Rms norm with weight 1 / sqrt(D).
  int32_t UnitKey(const std::string& name, const std::string& source, int32_t key) {
    const float width = static_cast<float>(shape_.head_width);
    model::NormSpec norm;
    norm.weight = tensors_.AddFixed(name + ".norm",
                                    std::vector<float>(shape_.head_width, 1.0f / std::sqrt(width)));
    norm.epsilon = 1e-24f / width;
    norm.groups = heads();
    norm.shared = true;
    const int32_t scaled =
        Mix(name + ".scaled", key,
            Vector(name + ".scale", source + "k_k", nullptr, TensorRole::kNorm), kNone);
    return ops_.Norm(name, norm, scaled);
  }

  // key * (1 + (rate - 1) * k_a)
  int32_t KeyAtRate(const std::string& name, const std::string& source, int32_t key, int32_t rate) {
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    op.factor = Vector(name + ".share", source + "k_a");
    op.addend = Vector(name + ".rest", source + "k_a", [](float share) { return 1.0f - share; });
    const int32_t factor = ops_.Add(name + ".factor", op, channels(), {rate});
    return ops_.Multiply(name, key, factor);
  }

  const ModelShape& shape_;
  const RwkvShape& rwkv_;
  GraphPlan plan_;
  TensorPlanner tensors_;
  OpWriter ops_;
  int32_t residual_ = kNone, first_value_ = kNone;
};

}  // namespace

GraphPlan BuildRwkvGraph(const ModelShape& shape, const WeightChoice& choice) {
  return Builder(shape, choice).Build();
}

}  // namespace headroom::convert
