#include "convert/graph.h"

#include <algorithm>
#include <cmath>

#include "convert/graph_attention.h"
#include "convert/graph_linear.h"
#include "convert/graph_ops.h"
#include "convert/graph_tensors.h"
#include "convert/rwkv.h"

namespace headroom::convert {
namespace {

using model::OpKind;
using model::WeightRef;

class Builder {
 public:
  Builder(const ModelShape& shape, const WeightChoice& choice)
      : shape_(shape), tensors_(shape, choice, plan_), ops_(plan_.description) {}

  GraphPlan Build() {
    plan_.notes = shape_.notes;
    ops_.AddValue(0);  // the tokens
    ropes_ = tensors_.AddRopes();
    Embed();
    for (size_t i = 0; i < shape_.layers.size(); ++i) Layer(i);
    Head();
    return std::move(plan_);
  }

 private:
  const Recipe& recipe() const { return *shape_.recipe; }
  const TensorNames& names() const { return shape_.recipe->names; }
  ModelDescription& description() { return plan_.description; }

  // ---- Operations

  // x itself where the architecture has no such norm.
  int32_t Norm(const std::string& name, const std::string& prefix, std::string_view source,
               int32_t x) {
    if (source.empty()) return x;
    return ops_.Norm(
        name,
        tensors_.AddNorm(name, prefix + std::string(source), shape_.channels, recipe().norm_bias),
        x);
  }

  // Both multiplied by what the architecture says; `name` is the branch's.
  int32_t AddToResidual(const std::string& name, const BranchScales& scales, int32_t branch) {
    const int32_t before = ops_.Scale(name + ".residual", scales.residual, residual_);
    const float scale = scales.branch * shape_.residual_scale;
    return ops_.Sum(name + ".add", before, ops_.Scale(name + ".scale", scale, branch));
  }

  void Embed() {
    model::Op op;
    op.kind = OpKind::kEmbedding;
    op.weight = tensors_.AddMatrix("embedding", "", shape_.channels,
                                   {{names().embedding, shape_.vocabulary, 0, shape_.vocabulary}},
                                   false, tensors_.VocabularyFormat(),
                                   tensors_.TableBlock(tensors_.HeadIsEmbedding()));
    op.scale = shape_.embedding_scale;
    embedding_ = op.weight;
    residual_ = ops_.Add("embedding", op, shape_.channels, {0});
    if (!names().positions.empty()) EmbedPositions();
  }

  void EmbedPositions() {
    model::Op op;
    op.kind = OpKind::kPositionEmbedding;
    op.weight =
        tensors_.AddMatrix("positions", "", shape_.channels,
                           {{names().positions, shape_.trained_tokens, 0, shape_.context_tokens}},
                           false, tensors_.VocabularyFormat(), tensors_.TableBlock(false));
    residual_ = ops_.Sum("embedding.add", residual_,
                         ops_.Add("embedding.positions", op, shape_.channels, {0}));
  }

  void Layer(size_t i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    std::string source(names().layer);
    source.replace(source.find("{}"), 2, std::to_string(i));
    const int32_t normed = Norm(name + "attention.norm", source, names().attention_norm, residual_);
    const int32_t attended = Norm(name + "attention.post_norm", source, names().attention_post_norm,
                                  Mix(name + "attention", source, i, normed));
    const int32_t before = residual_;
    if (recipe().residual_is_normed) residual_ = normed;
    const bool linear = shape_.layers[i].linear;
    residual_ = AddToResidual(name + "attention",
                              linear ? shape_.linear_branch : shape_.attention_branch, attended);
    if (names().down.empty()) return;
    int32_t mlp_input = normed;
    if (!shape_.parallel || !recipe().parallel_shares_norm) {
      mlp_input =
          Norm(name + "mlp.norm", source, names().mlp_norm, shape_.parallel ? before : residual_);
    }
    const int32_t mlp = Norm(name + "mlp.post_norm", source, names().mlp_post_norm,
                             MlpOrMixture(name + "mlp", source, i, mlp_input));
    if (recipe().residual_is_normed) residual_ = mlp_input;
    residual_ = AddToResidual(name + "mlp", shape_.mlp_branch, mlp);
  }

  // What mixes the tokens of a layer: attention, linear attention or the sum of both.
  int32_t Mix(const std::string& name, const std::string& source, size_t layer, int32_t x) {
    const LayerShape& shape = shape_.layers[layer];
    int32_t linear = model::kNone;
    const std::string linear_name = shape.attention ? name + ".linear" : name;
    if (shape.linear) linear = PlanLinear(tensors_, ops_, {linear_name, source, layer}, x);
    if (!shape.attention) return linear;
    const int32_t attended = Attention({name, source, layer}, x);
    return shape.linear ? ops_.Sum(name + ".sum", linear, attended) : attended;
  }

  int32_t Attention(const LayerPlace& place, int32_t x) {
    model::Op op;
    op.kind = OpKind::kAttention;
    op.attention = static_cast<int32_t>(description().attentions.size());
    const GatedAttention planned = PlanAttention(tensors_, ropes_, place);
    description().attentions.push_back(planned.attention);
    if (!planned.gate.present()) return ops_.Add(place.name, op, shape_.channels, {x});
    const std::string gate = place.name + ".gate";
    const int32_t open = ops_.Activate(gate + ".activation", model::Activation::kSigmoid,
                                       ops_.Project(gate, planned.gate, x));
    const int32_t heads = ops_.Add(place.name, op, planned.gate.rows, {x});
    return ops_.Project(place.name + ".output", planned.output,
                        ops_.Multiply(place.name + ".gated", heads, open));
  }

  struct MlpNames {
    std::string_view gate, up, gate_up, down;
  };

  int32_t Mlp(const std::string& name, const std::string& source, const MlpNames& from,
              uint32_t inner, int32_t x) {
    const bool fused = !from.gate_up.empty();
    const bool gated = fused || !from.gate.empty();
    const uint64_t both = 2 * uint64_t{inner};
    std::vector<MatrixSource> sources;
    if (fused) {
      sources.push_back({from.gate_up, both, 0, both});
    } else {
      if (gated) {
        const float scale = shape_.mlp_gate_scale;
        sources.push_back({from.gate, inner, 0, inner, {}, scale, scale});
      }
      sources.push_back({from.up, inner, 0, inner});
    }
    const std::string first = name + (gated ? ".gate_up" : ".up");
    const int32_t wide = ops_.Project(
        first, tensors_.AddMatrix(first, source, shape_.channels, sources, shape_.mlp_bias), x);
    const int32_t active = gated ? ops_.ActivateGated(name + ".activation", shape_.activation, wide)
                                 : ops_.Activate(name + ".activation", shape_.activation, wide);
    const MatrixSource down = {from.down,        shape_.channels, 0, shape_.channels, {},
                               shape_.mlp_scale, shape_.mlp_scale};
    return ops_.Project(name + ".down",
                        tensors_.AddMatrix(name + ".down", source, inner, {down}, shape_.mlp_bias),
                        active);
  }

  // ---- Mixtures of experts

  int32_t MlpOrMixture(const std::string& name, const std::string& source, size_t layer,
                       int32_t x) {
    if (!shape_.layers[layer].mixture) {
      return Mlp(name, source, {names().gate, names().up, names().gate_up, names().down},
                 shape_.inner, x);
    }
    const int32_t routed = Mixture(name, source, x);
    if (shape_.mixture.shared_inner == 0) return routed;
    return ops_.Sum(name + ".add_shared", routed, Shared(name + ".shared", source, x));
  }

  // Rows of the experts' matrices `name`, and of their biases: those of every expert in turn.
  struct ExpertPart {
    std::string_view name;
    uint64_t source_rows, begin, rows, step;
  };

  WeightRef AddExperts(const std::string& name, const std::string& prefix, uint32_t columns,
                       const std::vector<ExpertPart>& parts) {
    const ExpertNames& from = recipe().mixture->names[shape_.mixture.names];
    std::vector<RowPart> experts, biases;
    for (uint32_t e = 0; e < shape_.mixture.experts; ++e) {
      for (const ExpertPart& part : parts) {
        std::string source = prefix + std::string(part.name);
        const size_t number = source.rfind("{}");
        const bool stacked = number == std::string::npos;
        if (!stacked) source.replace(number, 2, std::to_string(e));
        RowPart rows{source + std::string(from.ending), part.source_rows, part.begin, part.rows};
        rows.step = part.step;
        rows.matrices = stacked ? shape_.mixture.experts : 0;
        rows.matrix = stacked ? e : 0;
        if (recipe().mixture->bias) {
          biases.push_back(rows);
          biases.back().source = source + std::string(from.bias_ending);
        }
        rows.transposed = from.transposed;
        rows.mxfp4 = from.mxfp4;
        experts.push_back(std::move(rows));
      }
    }
    WeightRef weight =
        tensors_.AddParts(name, columns, std::move(experts), tensors_.choice().format);
    if (recipe().mixture->bias) {
      weight.bias = tensors_.AddVector(name + ".bias", TensorRole::kBias, std::move(biases));
    }
    return weight;
  }

  int32_t Mixture(const std::string& name, const std::string& source, int32_t x) {
    const MixtureRecipe& mixture = *recipe().mixture;
    const ExpertNames& from = mixture.names[shape_.mixture.names];
    const uint64_t inner = shape_.mixture.inner;
    model::MixtureSpec spec;
    spec.experts = shape_.mixture.experts;
    spec.chosen = shape_.mixture.chosen;
    spec.inner = shape_.mixture.inner;
    spec.score = mixture.score;
    spec.renormalise = shape_.mixture.renormalise;
    spec.scale = shape_.mixture.scale;
    spec.groups = shape_.mixture.groups;
    spec.top_groups = shape_.mixture.top_groups;
    spec.group_best = mixture.group_best;
    if (!mixture.choice_bias.empty()) {
      spec.choice_bias = tensors_.AddVector(
          name + ".choice_bias", TensorRole::kBias,
          {{source + std::string(mixture.choice_bias), spec.experts, 0, spec.experts}});
    }
    spec.activation = shape_.activation;
    if (shape_.mixture.limit != 0.0f) {
      spec.activation = model::Activation::kQuickGelu;
      spec.limit = shape_.mixture.limit;
      spec.up_offset = 1.0f;
    }
    spec.router = tensors_.AddMatrix(name + ".router", source, shape_.channels,
                                     {{from.router, spec.experts, 0, spec.experts}}, mixture.bias,
                                     tensors_.DecisionFormat(source + std::string(from.router)));
    std::vector<ExpertPart> parts;
    if (from.gate_up.empty()) {
      parts = {{from.gate, inner, 0, inner, 1}, {from.up, inner, 0, inner, 1}};
    } else if (from.interleaved) {
      parts = {{from.gate_up, 2 * inner, 0, inner, 2}, {from.gate_up, 2 * inner, 1, inner, 2}};
    } else {
      parts = {{from.gate_up, 2 * inner, 0, 2 * inner, 1}};
    }
    spec.gate_up = AddExperts(name + ".gate_up", source, shape_.channels, parts);
    spec.down = AddExperts(name + ".down", source, spec.inner,
                           {{from.down, shape_.channels, 0, shape_.channels, 1}});
    model::Op op;
    op.kind = OpKind::kMixture;
    op.mixture = static_cast<int32_t>(description().mixtures.size());
    description().mixtures.push_back(spec);
    return ops_.Add(name, op, shape_.channels, {x});
  }

  // sigmoid(weight x) * mlp(x), or mlp(x)
  int32_t Shared(const std::string& name, const std::string& source, int32_t x) {
    const SharedExpert& shared = recipe().mixture->shared;
    const int32_t out = Mlp(name, source, {shared.gate, shared.up, "", shared.down},
                            shape_.mixture.shared_inner, x);
    if (shared.weight.empty()) return out;
    const int32_t logit = ops_.Project(
        name + ".weight",
        tensors_.AddMatrix(name + ".weight", source, shape_.channels, {{shared.weight, 1, 0, 1}},
                           false, tensors_.DecisionFormat(source + std::string(shared.weight))),
        x);
    return ops_.Multiply(name + ".multiply", out,
                         ops_.Activate(name + ".sigmoid", model::Activation::kSigmoid, logit));
  }

  void Head() {
    const int32_t normed = Norm("final_norm", "", names().final_norm, residual_);
    WeightRef weight = embedding_;
    const std::vector<MatrixSource> source = {
        {shape_.tied ? names().embedding : names().head, shape_.vocabulary, 0, shape_.vocabulary}};
    if (!tensors_.HeadIsEmbedding()) {
      const bool bias = recipe().head_bias && !shape_.tied;
      weight = tensors_.AddMatrix("head", "", shape_.channels, source, bias, tensors_.HeadFormat());
    }
    if (shape_.tied && recipe().head_bias) {
      weight.bias = tensors_.AddVector(
          "head.bias", TensorRole::kBias,
          {{std::string(names().head) + ".bias", shape_.vocabulary, 0, shape_.vocabulary}});
    }
    int32_t logits = ops_.Project("head", weight, normed);
    logits = ops_.Scale("logit_scale", shape_.logit_scale, logits);
    if (shape_.logit_softcap != 0.0f) {
      model::Op op;
      op.kind = OpKind::kSoftcap;
      op.scale = shape_.logit_softcap;
      logits = ops_.Add("logit_softcap", op, shape_.vocabulary, {logits});
    }
    description().logits = logits;
  }

  const ModelShape& shape_;
  GraphPlan plan_;
  TensorPlanner tensors_;
  OpWriter ops_;
  std::vector<model::RopeSpec> ropes_;
  WeightRef embedding_;
  int32_t residual_ = model::kNone;
};

}  // namespace

GraphPlan BuildGraphPlan(const ModelShape& shape, const WeightChoice& choice) {
  GraphPlan plan = shape.rwkv ? BuildRwkvGraph(shape, choice) : Builder(shape, choice).Build();
  plan.description.tokenizer.end_tokens = shape.end_tokens;
  plan.description.metadata.architecture = shape.recipe->architecture;
  plan.description.metadata.context_tokens = shape.context_tokens;
  plan.description.metadata.vocabulary = shape.vocabulary;
  return plan;
}

}  // namespace headroom::convert
