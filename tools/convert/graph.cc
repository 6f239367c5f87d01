#include "convert/graph.h"

#include <algorithm>
#include <cmath>

#include "convert/checkpoint_fit.h"

namespace headroom::convert {
namespace {

using model::NormSpec;
using model::OpKind;
using model::WeightRef;

class Builder {
 public:
  Builder(const ModelShape& shape, const WeightChoice& choice) : shape_(shape), choice_(choice) {}

  GraphPlan Build() {
    plan_.notes = shape_.notes;
    AddValue(0);  // the tokens
    AddRopes();
    Embed();
    for (size_t i = 0; i < shape_.layers.size(); ++i) Layer(i);
    Head();
    return std::move(plan_);
  }

 private:
  const Recipe& recipe() const { return *shape_.recipe; }
  const TensorNames& names() const { return shape_.recipe->names; }
  ModelDescription& description() { return plan_.description; }

  // ---- Tensors

  int32_t AddTensor(TensorDescription tensor, TensorPlan plan) {
    description().tensors.push_back(std::move(tensor));
    plan_.tensors.push_back(std::move(plan));
    return static_cast<int32_t>(plan_.tensors.size() - 1);
  }

  int32_t AddVector(const std::string& name, TensorRole role, std::vector<RowPart> parts,
                    float add = 0.0f) {
    uint64_t rows = 0;
    for (const RowPart& part : parts) rows += part.rows;
    return AddTensor({name, DType::kF32, 0, {static_cast<uint32_t>(rows)}},
                     {role, std::move(parts), add, {}});
  }

  // A vocabulary matrix stays at int8 in an int4 file unless the user says otherwise: its rows are
  // looked up and scored one by one, and it is where four bits cost the most quality.
  WeightFormat VocabularyFormat() const {
    return choice_.format == WeightFormat::kInt4 ? WeightFormat::kInt8 : choice_.format;
  }
  WeightFormat HeadFormat() const { return choice_.head.value_or(VocabularyFormat()); }
  bool HeadIsEmbedding() const { return shape_.tied && HeadFormat() == VocabularyFormat(); }

  // Of a table that rows are looked up in. Beside int4 matrices it takes blocks, which lose less;
  // as a head it would be slower by them.
  std::optional<uint32_t> TableBlock(bool head) const {
    if (choice_.format == WeightFormat::kInt4 && !head) return 32;
    return std::nullopt;
  }

  // The storage of a matrix of K columns.
  TensorDescription Stored(const std::string& name, uint32_t rows, uint32_t columns,
                           WeightFormat format, uint32_t wanted) {
    TensorDescription tensor{name, DType::kF32, 0, {rows, columns}};
    switch (format) {
      case WeightFormat::kF32:
        return tensor;
      case WeightFormat::kF16:
        tensor.dtype = DType::kF16;
        return tensor;
      case WeightFormat::kInt8:
        tensor.dtype = DType::kI8;
        break;
      case WeightFormat::kInt4:
        tensor.dtype = columns % 2 != 0 ? DType::kI8 : DType::kI4;
        break;
      case WeightFormat::kKeep:
        break;  // Kept() made another format of it
    }
    uint32_t block = wanted;
    while (block != 0 && columns % block != 0) block = block > 32 ? block / 2 : 0;
    tensor.block = static_cast<uint16_t>(block);
    const bool odd_int4 = format == WeightFormat::kInt4 && tensor.dtype != DType::kI4;
    if (odd_int4 || block != wanted) Note(tensor, wanted);
    return tensor;
  }

  uint32_t BlockOf(WeightFormat format) const {
    if (format == WeightFormat::kInt4) return choice_.block.value_or(32);
    if (choice_.format == WeightFormat::kKeep) return 32;  // that of the sources' own blocks
    return choice_.format == WeightFormat::kInt8 ? choice_.block.value_or(0) : 0;
  }

  // The form that keeps what the parts hold, the finest of them where they differ.
  WeightFormat Kept(const std::vector<RowPart>& parts) const {
    static const std::pair<std::string_view, WeightFormat> kForms[] = {
        {"F32", WeightFormat::kF32},
        {"F16", WeightFormat::kF16},
        {"BF16", WeightFormat::kF16},
        {"Q4_0", WeightFormat::kInt4}};
    WeightFormat finest = WeightFormat::kInt4;
    for (const RowPart& part : parts) {
      const SourceTensor* source = FindTensor(*choice_.checkpoint, recipe(), part.source);
      if (!source && !part.mxfp4) continue;  // found missing later, by its name
      WeightFormat form = WeightFormat::kInt8;
      for (const auto& [type, kept] : kForms) {
        if (source && source->type->name == type) form = kept;
      }
      finest = std::min(finest, form);
    }
    return finest;
  }

  void Note(const TensorDescription& tensor, uint32_t wanted) {
    const std::string block =
        tensor.block ? " in blocks of " + std::to_string(tensor.block) : " per row";
    plan_.notes.push_back(tensor.name + " is stored as " + DTypeName(tensor.dtype) + block +
                          ": its " + std::to_string(tensor.extents[1]) +
                          " columns are no multiple of the block of " + std::to_string(wanted));
  }

  struct MatrixSource {
    std::string_view name;  // in the checkpoint, without ".weight"
    uint64_t source_rows;
    uint64_t begin, rows;
  };

  // A matrix of the sources' rows one below the other, with their biases when `bias`.
  WeightRef AddMatrix(const std::string& name, const std::string& prefix, uint32_t columns,
                      const std::vector<MatrixSource>& sources, bool bias) {
    return AddMatrix(name, prefix, columns, sources, bias, choice_.format);
  }
  WeightRef AddMatrix(const std::string& name, const std::string& prefix, uint32_t columns,
                      const std::vector<MatrixSource>& sources, bool bias, WeightFormat format,
                      std::optional<uint32_t> block = std::nullopt) {
    TensorPlan plan;
    std::vector<RowPart> bias_parts;
    WeightRef weight;
    const bool transposed = recipe().layers_transposed && !prefix.empty();
    for (const MatrixSource& source : sources) {
      const std::string from = prefix + std::string(source.name);
      plan.parts.push_back(
          {from + ".weight", source.source_rows, source.begin, source.rows, transposed});
      if (bias) {
        bias_parts.push_back({from + ".bias", source.source_rows, source.begin, source.rows});
      }
      weight.rows += static_cast<uint32_t>(source.rows);
    }
    if (format == WeightFormat::kKeep) format = Kept(plan.parts);
    weight.tensor =
        AddTensor(Stored(name, weight.rows, columns, format, block.value_or(BlockOf(format))),
                  std::move(plan));
    if (bias) weight.bias = AddVector(name + ".bias", TensorRole::kBias, std::move(bias_parts));
    return weight;
  }

  NormSpec AddNorm(const std::string& name, const std::string& source, uint32_t width, bool bias) {
    NormSpec norm;
    norm.kind = recipe().norm;
    norm.epsilon = shape_.epsilon;
    norm.weight = AddVector(name, TensorRole::kNorm, {{source + ".weight", width, 0, width}},
                            recipe().norm_plus_one ? 1.0f : 0.0f);
    if (bias) {
      norm.bias =
          AddVector(name + ".bias", TensorRole::kBias, {{source + ".bias", width, 0, width}});
    }
    return norm;
  }

  void AddRopes() {
    for (size_t i = 0; i < shape_.ropes.size(); ++i) {
      RopeFrequencies rope = ComputeRope(shape_.ropes[i]);
      model::RopeSpec spec;
      spec.dims = shape_.ropes[i].dims;
      spec.layout = recipe().rope_layout;
      spec.attention_factor = rope.attention_factor;
      if (spec.dims > 0) {
        TensorPlan plan;
        plan.role = TensorRole::kFixed;
        plan.fixed = std::move(rope.inverse_frequencies);
        spec.inverse_frequencies = AddTensor(
            {"rope." + std::to_string(i) + ".inverse_frequencies", DType::kF32, 0, {spec.dims / 2}},
            std::move(plan));
      }
      ropes_.push_back(spec);
    }
  }

  // ---- Operations

  int32_t AddValue(uint32_t width) {
    description().values.push_back({width});
    return static_cast<int32_t>(description().values.size() - 1);
  }

  int32_t AddOp(const std::string& name, model::Op op, uint32_t width, int32_t first,
                int32_t second = model::kNone) {
    op.inputs[0] = first;
    op.inputs[1] = second;
    op.output = AddValue(width);
    description().ops.push_back({op, name});
    return op.output;
  }

  // x itself where the architecture has no such norm.
  int32_t Norm(const std::string& name, const std::string& prefix, std::string_view source,
               int32_t x) {
    if (source.empty()) return x;
    model::Op op;
    op.kind = OpKind::kNorm;
    op.norm = AddNorm(name, prefix + std::string(source), shape_.channels, recipe().norm_bias);
    return AddOp(name, op, shape_.channels, x);
  }

  int32_t Add(const std::string& name, int32_t x, int32_t y) {
    model::Op op;
    op.kind = OpKind::kAdd;
    return AddOp(name, op, shape_.channels, x, y);
  }

  // residual + scale * branch; `name` is the branch's.
  int32_t AddToResidual(const std::string& name, int32_t branch) {
    if (shape_.residual_scale != 1.0f) {
      model::Op op;
      op.kind = OpKind::kScale;
      op.scale = shape_.residual_scale;
      branch = AddOp(name + ".scale", op, shape_.channels, branch);
    }
    return Add(name + ".add", residual_, branch);
  }

  int32_t Project(const std::string& name, const WeightRef& weight, int32_t x) {
    model::Op op;
    op.kind = OpKind::kProjection;
    op.weight = weight;
    return AddOp(name, op, weight.rows, x);
  }

  void Embed() {
    model::Op op;
    op.kind = OpKind::kEmbedding;
    op.weight = AddMatrix("embedding", "", shape_.channels,
                          {{names().embedding, shape_.vocabulary, 0, shape_.vocabulary}}, false,
                          VocabularyFormat(), TableBlock(HeadIsEmbedding()));
    op.scale = shape_.embedding_scale;
    embedding_ = op.weight;
    residual_ = AddOp("embedding", op, shape_.channels, 0);
    if (!names().positions.empty()) EmbedPositions();
  }

  void EmbedPositions() {
    model::Op op;
    op.kind = OpKind::kPositionEmbedding;
    op.weight = AddMatrix("positions", "", shape_.channels,
                          {{names().positions, shape_.trained_tokens, 0, shape_.context_tokens}},
                          false, VocabularyFormat(), TableBlock(false));
    residual_ =
        Add("embedding.add", residual_, AddOp("embedding.positions", op, shape_.channels, 0));
  }

  void Layer(size_t i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    std::string source(names().layer);
    source.replace(source.find("{}"), 2, std::to_string(i));
    const int32_t normed = Norm(name + "attention.norm", source, names().attention_norm, residual_);
    const int32_t attended = Norm(name + "attention.post_norm", source, names().attention_post_norm,
                                  Attention(name + "attention", source, i, normed));
    const int32_t before = residual_;
    residual_ = AddToResidual(name + "attention", attended);
    int32_t mlp_input = normed;
    if (!shape_.parallel || !recipe().parallel_shares_norm) {
      mlp_input =
          Norm(name + "mlp.norm", source, names().mlp_norm, shape_.parallel ? before : residual_);
    }
    const int32_t mlp = Norm(name + "mlp.post_norm", source, names().mlp_post_norm,
                             MlpOrMixture(name + "mlp", source, i, mlp_input));
    residual_ = AddToResidual(name + "mlp", mlp);
  }

  std::vector<MatrixSource> QueryKeyValueSources() const {
    const uint64_t query_rows = uint64_t{shape_.query_heads} * shape_.head_width;
    const uint64_t kv_rows = uint64_t{shape_.kv_heads} * shape_.head_width;
    if (names().query_key_value.empty()) {
      return {{names().query, query_rows, 0, query_rows},
              {names().key, kv_rows, 0, kv_rows},
              {names().value, kv_rows, 0, kv_rows}};
    }
    if (recipe().fused_rows == FusedRows::kByKind) {
      const uint64_t rows = query_rows + 2 * kv_rows;
      return {{names().query_key_value, rows, 0, rows}};
    }
    std::vector<MatrixSource> sources;
    const uint64_t width = shape_.head_width;
    for (uint64_t part = 0; part < 3; ++part) {
      for (uint64_t head = 0; head < shape_.query_heads; ++head) {
        sources.push_back(
            {names().query_key_value, 3 * query_rows, (head * 3 + part) * width, width});
      }
    }
    return sources;
  }

  int32_t Attention(const std::string& name, const std::string& source, size_t layer, int32_t x) {
    const uint32_t query_rows = shape_.query_heads * shape_.head_width;
    const uint32_t kv_rows = shape_.kv_heads * shape_.head_width;
    model::AttentionSpec spec;
    spec.query_heads = shape_.query_heads;
    spec.key.heads = spec.value.heads = shape_.kv_heads;
    spec.key.width = spec.value.width = shape_.head_width;
    const WeightRef fused = AddMatrix(name + ".qkv", source, shape_.channels,
                                      QueryKeyValueSources(), shape_.query_key_value_bias);
    spec.query.weight = {fused.tensor, 0, query_rows, fused.bias};
    spec.key.weight = {fused.tensor, query_rows, kv_rows, fused.bias};
    spec.value.weight = {fused.tensor, query_rows + kv_rows, kv_rows, fused.bias};
    spec.output = AddMatrix(name + ".output", source, query_rows,
                            {{names().attention_output, shape_.channels, 0, shape_.channels}},
                            shape_.attention_output_bias);
    if (!names().query_norm.empty()) {
      const bool over_row = recipe().head_norms_over_row;
      const uint32_t width = shape_.head_width;
      spec.query.norm = AddNorm(name + ".query_norm", source + std::string(names().query_norm),
                                over_row ? query_rows : width, false);
      spec.key.norm = AddNorm(name + ".key_norm", source + std::string(names().key_norm),
                              over_row ? kv_rows : width, false);
      spec.query.norm.whole_row = spec.key.norm.whole_row = over_row;
    }
    if (!names().sinks.empty()) {
      spec.sink_logits = AddVector(
          name + ".sinks", TensorRole::kBias,
          {{source + std::string(names().sinks), shape_.query_heads, 0, shape_.query_heads}});
    }
    spec.query.rope = spec.key.rope = ropes_[shape_.layers[layer].rope];
    for (uint32_t g = 0; g < shape_.kv_heads; ++g) {
      const auto head = static_cast<uint16_t>(g);
      spec.views.push_back({head, 0, head});
    }
    const uint32_t group = shape_.query_heads / shape_.kv_heads;
    for (uint32_t h = 0; h < shape_.query_heads; ++h) {
      spec.head_map.push_back(static_cast<uint16_t>(h / group));
    }
    spec.left = shape_.layers[layer].left;
    spec.scale = shape_.attention_scale;
    spec.softcap = shape_.attention_softcap;
    model::Op op;
    op.kind = OpKind::kAttention;
    op.attention = static_cast<int32_t>(description().attentions.size());
    description().attentions.push_back(std::move(spec));
    return AddOp(name, op, shape_.channels, x);
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
      if (gated) sources.push_back({from.gate, inner, 0, inner});
      sources.push_back({from.up, inner, 0, inner});
    }
    const std::string first = name + (gated ? ".gate_up" : ".up");
    const int32_t wide =
        Project(first, AddMatrix(first, source, shape_.channels, sources, shape_.mlp_bias), x);
    model::Op op;
    op.kind = gated ? OpKind::kGatedActivation : OpKind::kActivation;
    op.activation = shape_.activation;
    const int32_t active = AddOp(name + ".activation", op, inner, wide);
    return Project(name + ".down",
                   AddMatrix(name + ".down", source, inner,
                             {{from.down, shape_.channels, 0, shape_.channels}}, shape_.mlp_bias),
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
    if (recipe().mixture->shared.weight.empty()) return routed;
    return Add(name + ".add_shared", routed, Shared(name + ".shared", source, x));
  }

  // Rows of the experts' matrices `name`, and of their biases: those of every expert in turn.
  struct ExpertPart {
    std::string_view name;
    uint64_t source_rows, begin, rows, step;
  };

  WeightRef AddExperts(const std::string& name, const std::string& prefix, uint32_t columns,
                       const std::vector<ExpertPart>& parts) {
    const ExpertNames& from = recipe().mixture->names[shape_.mixture.names];
    TensorPlan plan;
    std::vector<RowPart> biases;
    WeightRef weight;
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
        plan.parts.push_back(std::move(rows));
        weight.rows += static_cast<uint32_t>(part.rows);
      }
    }
    const WeightFormat format =
        choice_.format == WeightFormat::kKeep ? Kept(plan.parts) : choice_.format;
    weight.tensor =
        AddTensor(Stored(name, weight.rows, columns, format, BlockOf(format)), std::move(plan));
    if (recipe().mixture->bias) {
      weight.bias = AddVector(name + ".bias", TensorRole::kBias, std::move(biases));
    }
    return weight;
  }

  // What decides about others is kept better than the rest: its few rows are floats.
  WeightFormat DecisionFormat(const std::string& source) const {
    WeightFormat format = choice_.format;
    if (format == WeightFormat::kKeep) {
      RowPart part;
      part.source = source + ".weight";
      format = Kept({part});
    }
    return std::min(format, WeightFormat::kF16);
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
    spec.activation = shape_.activation;
    if (shape_.mixture.limit != 0.0f) {
      spec.activation = model::Activation::kQuickGelu;
      spec.limit = shape_.mixture.limit;
      spec.up_offset = 1.0f;
    }
    spec.router = AddMatrix(name + ".router", source, shape_.channels,
                            {{from.router, spec.experts, 0, spec.experts}}, mixture.bias,
                            DecisionFormat(source + std::string(from.router)));
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
    return AddOp(name, op, shape_.channels, x);
  }

  // sigmoid(weight x) * mlp(x)
  int32_t Shared(const std::string& name, const std::string& source, int32_t x) {
    const SharedExpert& shared = recipe().mixture->shared;
    const int32_t out = Mlp(name, source, {shared.gate, shared.up, "", shared.down},
                            shape_.mixture.shared_inner, x);
    const int32_t logit =
        Project(name + ".weight",
                AddMatrix(name + ".weight", source, shape_.channels, {{shared.weight, 1, 0, 1}},
                          false, DecisionFormat(source + std::string(shared.weight))),
                x);
    model::Op op;
    op.kind = OpKind::kActivation;
    op.activation = model::Activation::kSigmoid;
    const int32_t factor = AddOp(name + ".sigmoid", op, 1, logit);
    op = {};
    op.kind = OpKind::kMultiply;
    return AddOp(name + ".multiply", op, shape_.channels, out, factor);
  }

  void Head() {
    const int32_t normed = Norm("final_norm", "", names().final_norm, residual_);
    WeightRef weight = embedding_;
    const std::vector<MatrixSource> source = {
        {shape_.tied ? names().embedding : names().head, shape_.vocabulary, 0, shape_.vocabulary}};
    if (!HeadIsEmbedding()) {
      const bool bias = recipe().head_bias && !shape_.tied;
      weight = AddMatrix("head", "", shape_.channels, source, bias, HeadFormat());
    }
    if (shape_.tied && recipe().head_bias) {
      weight.bias = AddVector(
          "head.bias", TensorRole::kBias,
          {{std::string(names().head) + ".bias", shape_.vocabulary, 0, shape_.vocabulary}});
    }
    int32_t logits = Project("head", weight, normed);
    if (shape_.logit_scale != 1.0f) {
      model::Op op;
      op.kind = OpKind::kScale;
      op.scale = shape_.logit_scale;
      logits = AddOp("logit_scale", op, shape_.vocabulary, logits);
    }
    if (shape_.logit_softcap != 0.0f) {
      model::Op op;
      op.kind = OpKind::kSoftcap;
      op.scale = shape_.logit_softcap;
      logits = AddOp("logit_softcap", op, shape_.vocabulary, logits);
    }
    description().logits = logits;
  }

  const ModelShape& shape_;
  const WeightChoice choice_;
  GraphPlan plan_;
  std::vector<model::RopeSpec> ropes_;
  WeightRef embedding_;
  int32_t residual_ = model::kNone;
};

}  // namespace

GraphPlan BuildGraphPlan(const ModelShape& shape, const WeightChoice& choice) {
  GraphPlan plan = Builder(shape, choice).Build();
  plan.description.tokenizer.end_tokens = shape.end_tokens;
  plan.description.metadata.architecture = shape.recipe->architecture;
  plan.description.metadata.context_tokens = shape.context_tokens;
  plan.description.metadata.vocabulary = shape.vocabulary;
  return plan;
}

}  // namespace headroom::convert
