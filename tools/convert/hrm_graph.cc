#include "convert/hrm_graph.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <unordered_map>

#include "convert/hrm_images.h"

namespace headroom::convert {
namespace {

std::unique_ptr<fb::WeightT> ToSchema(const model::WeightRef& weight) {
  if (!weight.present()) return nullptr;
  auto out = std::make_unique<fb::WeightT>();
  out->tensor = weight.tensor;
  out->row_begin = weight.row_begin;
  out->rows = weight.rows;
  out->bias = weight.bias;
  return out;
}

std::unique_ptr<fb::NormT> ToSchema(const model::NormSpec& norm) {
  if (!norm.present()) return nullptr;
  auto out = std::make_unique<fb::NormT>();
  const bool rms = norm.kind == model::NormKind::kRms;
  out->kind = rms ? fb::NormKind::Rms : fb::NormKind::Layer;
  if (norm.groups != 1 || norm.shared)
    out->kind = rms ? fb::NormKind::GroupRms : fb::NormKind::Group;
  out->groups = norm.groups;
  out->weight = norm.weight;
  out->bias = norm.bias;
  out->epsilon = norm.epsilon;
  out->whole_row = norm.whole_row;
  return out;
}

fb::ExpertScore ToSchema(model::ExpertScore score) {
  switch (score) {
    case model::ExpertScore::kSoftmax:
      return fb::ExpertScore::Softmax;
    case model::ExpertScore::kChosenSoftmax:
      return fb::ExpertScore::ChosenSoftmax;
    case model::ExpertScore::kSigmoid:
      return fb::ExpertScore::Sigmoid;
  }
  return fb::ExpertScore::None;
}

fb::MixtureOpT ToSchema(const model::MixtureSpec& spec) {
  fb::MixtureOpT out;
  out.router = ToSchema(spec.router);
  out.score = ToSchema(spec.score);
  out.chosen = spec.chosen;
  out.renormalise = spec.renormalise;
  out.scale = spec.scale;
  out.choice_bias = spec.choice_bias;
  out.groups = spec.groups;
  out.top_groups = spec.top_groups;
  out.group_best = spec.group_best;
  out.gate_up = ToSchema(spec.gate_up);
  out.down = ToSchema(spec.down);
  out.activation = convert::ToSchema(spec.activation);
  out.limit = spec.limit;
  out.up_offset = spec.up_offset;
  return out;
}

fb::LinearAttentionOpT ToSchema(const model::LinearSpec& spec) {
  fb::LinearAttentionOpT out;
  out.key_heads = spec.key_heads;
  out.heads = spec.heads;
  out.key_width = spec.key_width;
  out.value_width = spec.value_width;
  out.mix = std::make_unique<fb::LinearMixT>();
  out.mix->decay = std::make_unique<fb::DecayT>();
  out.mix->decay->kind = static_cast<fb::DecayKind>(spec.decay);
  out.mix->decay->log_decay = spec.log_decay;
  out.mix->update = static_cast<fb::StateUpdate>(spec.update);
  out.mix->bonus = spec.bonus;
  if (spec.bonus != model::kNone) out.mix->read = fb::StateRead::BeforeWithBonus;
  if (spec.sum_keys) out.mix->normaliser = fb::Normaliser::SumKey;
  out.mix->epsilon = spec.epsilon;
  return out;
}

fb::ConvolutionOpT ConvolutionOf(const ModelDescription& model, const model::Op& op) {
  fb::ConvolutionOpT out;
  out.weight = ToSchema(op.weight);
  out.weight->bias = op.addend;
  out.kernel = {op.kernel};
  out.groups = model.values[static_cast<size_t>(op.output)].width;
  out.causal = true;
  if (op.activated) out.activation = convert::ToSchema(op.activation);
  return out;
}

void SetAttributes(const ModelDescription& model, const model::Op& op, fb::OpAttributesUnion& out) {
  switch (op.kind) {
    case model::OpKind::kEmbedding: {
      fb::EmbeddingOpT attributes;
      attributes.weight = ToSchema(op.weight);
      attributes.scale = op.scale;
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kNorm: {
      fb::NormOpT attributes;
      attributes.norm = ToSchema(op.norm);
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kProjection: {
      fb::ProjectionOpT attributes;
      attributes.weight = ToSchema(op.weight);
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kAttention: {
      fb::AttentionOpT attributes;
      attributes.attention = static_cast<uint32_t>(op.attention);
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kGatedActivation: {
      fb::GatedActivationOpT attributes;
      attributes.activation = convert::ToSchema(op.activation);
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kActivation: {
      fb::ActivationOpT attributes;
      attributes.activation = convert::ToSchema(op.activation);
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kMixture:
      return out.Set(ToSchema(model.mixtures[static_cast<size_t>(op.mixture)]));
    case model::OpKind::kAdd:
      return out.Set(fb::AddOpT());
    case model::OpKind::kMultiply:
      return out.Set(fb::MultiplyOpT());
    case model::OpKind::kMultiplyAdd: {
      fb::MultiplyAddOpT attributes;
      attributes.factor = op.factor;
      attributes.addend = op.addend;
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kHeadProduct: {
      fb::HeadProductOpT attributes;
      attributes.heads = op.heads;
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kConvolution:
      return out.Set(ConvolutionOf(model, op));
    case model::OpKind::kLinearAttention:
      return out.Set(ToSchema(model.linears[static_cast<size_t>(op.linear)]));
    case model::OpKind::kScale: {
      fb::ScaleOpT attributes;
      attributes.scale = op.scale;
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kSoftcap: {
      fb::SoftcapOpT attributes;
      attributes.cap = op.scale;
      return out.Set(std::move(attributes));
    }
    case model::OpKind::kPositionEmbedding: {
      fb::PositionEmbeddingOpT attributes;
      attributes.weight = ToSchema(op.weight);
      return out.Set(std::move(attributes));
    }
  }
}

std::unique_ptr<fb::OpT> ToSchema(const ModelDescription& model, const OpDescription& description) {
  auto out = std::make_unique<fb::OpT>();
  out->name = description.name;
  SetAttributes(model, description.op, out->attributes);
  for (const int32_t input : description.op.inputs) {
    // Of linear attention the place says which it is.
    const bool placed = description.op.kind == model::OpKind::kLinearAttention;
    if (placed || input != model::kNone) out->inputs.push_back(input);
  }
  out->outputs.push_back(description.op.output);
  return out;
}

// Index of the rope in `graph.ropes`, added when new; -1 when there is no rotation.
int32_t AddRope(const model::RopeSpec& rope, fb::ModelT& graph) {
  if (rope.dims == 0) return model::kNone;
  auto entry = std::make_unique<fb::RopeT>();
  entry->dims = rope.dims;
  entry->offset = rope.offset;
  entry->layout = rope.layout == model::RopeLayout::kHalfSplit ? fb::RopeLayout::HalfSplit
                                                               : fb::RopeLayout::Interleaved;
  entry->inverse_frequencies = rope.inverse_frequencies;
  entry->attention_factor = rope.attention_factor;
  for (size_t i = 0; i < graph.ropes.size(); ++i) {
    const fb::RopeT& other = *graph.ropes[i];
    if (other.dims == entry->dims && other.offset == entry->offset &&
        other.layout == entry->layout && other.inverse_frequencies == entry->inverse_frequencies &&
        other.attention_factor == entry->attention_factor) {
      return static_cast<int32_t>(i);
    }
  }
  graph.ropes.push_back(std::move(entry));
  return static_cast<int32_t>(graph.ropes.size()) - 1;
}

std::unique_ptr<fb::StreamT> MakeStream(const char* name, const model::StreamSpec& spec,
                                        fb::ModelT& graph) {
  auto out = std::make_unique<fb::StreamT>();
  out->name = name;
  out->heads = spec.heads;
  out->width = spec.width;
  out->weight = ToSchema(spec.weight);
  out->norm = ToSchema(spec.norm);
  out->rope = AddRope(spec.rope, graph);
  out->basis = spec.basis;
  out->ordered = spec.ordered;
  return out;
}

std::unique_ptr<fb::WeightT> ToSchema(const model::HeadMatrix& matrix) {
  return matrix.present() ? ToSchema(matrix.weight) : nullptr;
}

std::unique_ptr<fb::QueryT> MakeQuery(const model::QuerySpec& spec, fb::ModelT& graph) {
  auto out = std::make_unique<fb::QueryT>();
  out->weight = ToSchema(spec.weight);
  switch (spec.kind) {
    case model::QueryKind::kDense:
      out->kind = fb::QueryKind::Dense;
      break;
    case model::QueryKind::kLowRank:
      out->kind = fb::QueryKind::LowRank;
      out->down = ToSchema(spec.down);
      out->down_norm = ToSchema(spec.down_norm);
      break;
    case model::QueryKind::kGated:
      out->kind = fb::QueryKind::Gated;
      out->down = ToSchema(spec.down);
      out->gate = ToSchema(spec.gate);
      out->up = ToSchema(spec.up);
      out->activation = convert::ToSchema(spec.activation);
      break;
  }
  out->norm = ToSchema(spec.norm);
  out->rope = AddRope(spec.rope, graph);
  out->factors = spec.factors;
  return out;
}

// What the rows of `stream` are scored against; `offset`: in a head's query.
void AddScore(uint32_t stream, uint32_t offset, uint32_t width, const model::HeadMatrix& matrix,
              fb::ProjectionT& out) {
  auto score = std::make_unique<fb::ScoreSegmentT>();
  score->stream = stream;
  score->width = width;
  score->query_offset = offset;
  score->query_matrix = ToSchema(matrix);
  out.scores.push_back(std::move(score));
}

// For each query head the head of keys, and of values where those differ.
void MakeMaps(const model::AttentionSpec& spec, fb::ProjectionT& out) {
  bool same = true;
  for (const uint16_t view : spec.head_map) {
    const model::ViewHeads& heads = spec.views[view];
    out.key_map.push_back(std::max(heads.key, heads.tail));
    out.value_map.push_back(heads.value);
    same = same && (out.key_map.back() == heads.value || !spec.value.present());
  }
  if (same) out.value_map.clear();
}

std::unique_ptr<fb::ProjectionT> MakeProjection(const model::AttentionSpec& spec,
                                                fb::ModelT& graph) {
  auto out = std::make_unique<fb::ProjectionT>();
  out->query_heads = spec.query_heads;
  out->kv_heads = spec.kv_heads();
  out->query = MakeQuery(spec.query, graph);
  out->value_width = spec.value_width();
  const bool own = spec.source_attention == model::kNone;
  AddScore(0, 0, spec.key.width, spec.query.matrix, *out);
  if (own) out->streams.push_back(MakeStream("key", spec.key, graph));
  if (spec.tail.present()) {
    AddScore(1, spec.query_part(), spec.tail.width, {}, *out);
    if (own) out->streams.push_back(MakeStream("tail", spec.tail, graph));
  }
  if (spec.value.present()) {
    out->value_stream = static_cast<uint32_t>(out->scores.size());
    if (own) out->streams.push_back(MakeStream("value", spec.value, graph));
  }
  MakeMaps(spec, *out);
  out->value_matrix = ToSchema(spec.value_matrix);
  out->key_matrix = ToSchema(spec.key_matrix);
  out->output = ToSchema(spec.output);
  return out;
}

std::unique_ptr<fb::ViewT> MakeView(const model::AttentionSpec& spec) {
  auto group = std::make_unique<fb::ViewGroupT>();
  auto window = std::make_unique<fb::SpanTermT>();
  if (spec.left == kUnlimited) {
    window->kind = fb::TermKind::All;
  } else {
    window->kind = fb::TermKind::Axis;
    auto axis = std::make_unique<fb::AxisSpanT>();
    axis->left = spec.left;
    axis->right = 0;
    window->axes.push_back(std::move(axis));
  }
  group->terms.push_back(std::move(window));
  if (spec.sinks != 0) {
    auto prefix = std::make_unique<fb::SpanTermT>();
    prefix->kind = fb::TermKind::Prefix;
    prefix->prefix = spec.sinks;
    group->terms.push_back(std::move(prefix));
  }
  auto out = std::make_unique<fb::ViewT>();
  out->groups.push_back(std::move(group));
  return out;
}

std::unique_ptr<fb::AttentionPlanT> ToSchema(const model::AttentionSpec& spec, fb::ModelT& graph) {
  auto out = std::make_unique<fb::AttentionPlanT>();
  out->projection = MakeProjection(spec, graph);
  if (spec.source_attention != model::kNone) {
    out->store = std::make_unique<fb::StoreT>();
    out->store->source = fb::KvSourceKind::Alias;
    out->store->source_attention = spec.source_attention;
  }
  out->view = MakeView(spec);
  fb::SoftmaxMixT mix;
  mix.scale = spec.scale;
  mix.softcap = spec.softcap;
  mix.sink_logits = spec.sink_logits;
  out->mix.Set(std::move(mix));
  return out;
}

Status AddMerges(const TokenizerDescription& from, fb::TokenizerT& to) {
  to.merges.reserve(from.merges.size());
  for (size_t rank = 0; rank < from.merges.size(); ++rank) {
    const auto [left, right, result] = from.merges[rank];
    if (std::max({left, right, result}) >= from.tokens.size()) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "merge %zu of tokens %u and %u to %u of %zu", rank, left, right, result,
                          from.tokens.size());
    }
    if (from.tokens[left] + from.tokens[right] != from.tokens[result]) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "merge %zu of tokens %u and %u does not make token %u", rank, left, right,
                          result);
    }
    to.merges.emplace_back(left, right, result);
  }
  return {};
}

fb::TokenizerKind ToSchema(model::TokenizerKind kind) {
  switch (kind) {
    case model::TokenizerKind::kNone:
      return fb::TokenizerKind::None;
    case model::TokenizerKind::kByteBpe:
      return fb::TokenizerKind::ByteBpe;
    case model::TokenizerKind::kCharacterBpe:
      return fb::TokenizerKind::CharacterBpe;
    case model::TokenizerKind::kUnigram:
      return fb::TokenizerKind::Unigram;
    case model::TokenizerKind::kLongest:
      return fb::TokenizerKind::Longest;
  }
  return fb::TokenizerKind::None;
}

void AddSentencePiece(const TokenizerDescription& from, fb::TokenizerT& to) {
  to.space = from.space;
  to.space_prefix = static_cast<fb::SpacePrefix>(from.space_prefix);
  to.strip_spaces = from.strip_spaces;
  to.byte_tokens = from.byte_tokens;
  to.unknown_token = from.unknown_token;
  to.fuse_unknown = from.fuse_unknown;
  for (const AddedTokenDescription& added : from.added_tokens) {
    auto token = std::make_unique<fb::AddedTokenT>();
    token->token = added.token.token;
    token->text = added.text;
    token->special = added.token.special;
    token->normalised = added.token.normalised;
    token->strip_left = added.token.strip_left;
    token->strip_right = added.token.strip_right;
    token->single_word = added.token.single_word;
    to.added_tokens.push_back(std::move(token));
  }
  const bool exact = std::all_of(from.scores.begin(), from.scores.end(), [](double score) {
    return std::abs(score) <= std::numeric_limits<float>::max() &&
           static_cast<double>(static_cast<float>(score)) == score;
  });
  if (exact) {
    to.scores.assign(from.scores.begin(), from.scores.end());
  } else {
    to.double_scores = from.scores;
  }
}

// A normal form alone is written as readers of the first builds know it, and so are plain patterns.
void AddNormalSteps(const TokenizerDescription& from, fb::TokenizerT& to) {
  const auto& steps = from.normal_steps;
  if (steps.size() == 1 && steps[0].step.kind == model::NormalStepKind::kNormalForm) {
    to.normal_form = static_cast<fb::NormalForm>(steps[0].step.form);
    return;
  }
  for (const NormalStepDescription& described : steps) {
    auto step = std::make_unique<fb::NormalStepT>();
    step->kind = static_cast<fb::NormalStepKind>(described.step.kind);
    step->form = static_cast<fb::NormalForm>(described.step.form);
    step->pattern = described.pattern;
    step->text = described.text;
    step->left = described.step.left;
    step->right = described.step.right;
    step->charsmap.assign(described.charsmap.begin(), described.charsmap.end());
    step->graphemes = described.step.graphemes;
    to.normal_steps.push_back(std::move(step));
  }
}

void AddSplits(const TokenizerDescription& from, fb::TokenizerT& to) {
  const bool plain = std::all_of(from.splits.begin(), from.splits.end(), [](const auto& split) {
    return !split.pattern.empty() && !split.invert &&
           split.behaviour == model::SplitBehaviour::kIsolated;
  });
  for (const SplitDescription& described : from.splits) {
    if (plain) {
      to.patterns.push_back(described.pattern);
      continue;
    }
    auto split = std::make_unique<fb::SplitT>();
    split->pattern = described.pattern;
    split->behaviour = static_cast<fb::SplitBehaviour>(described.behaviour);
    split->invert = described.invert;
    to.splits.push_back(std::move(split));
  }
}

Status AddTokenizer(const TokenizerDescription& from, fb::ModelT& graph) {
  if (from.kind == model::TokenizerKind::kNone && from.end_tokens.empty()) return {};
  auto to = std::make_unique<fb::TokenizerT>();
  to->kind = ToSchema(from.kind);
  for (const std::string& token : from.tokens) {
    to->token_bytes.insert(to->token_bytes.end(), token.begin(), token.end());
    to->token_ends.push_back(static_cast<uint32_t>(to->token_bytes.size()));
  }
  HR_RETURN_IF_ERROR(AddMerges(from, *to));
  to->special_tokens = from.special_tokens;
  to->end_tokens = from.end_tokens;
  to->begin_token = from.begin_token;
  to->add_begin = from.add_begin;
  to->add_prefix_space = from.add_prefix_space;
  to->ignore_merges = from.ignore_merges;
  AddNormalSteps(from, *to);
  AddSplits(from, *to);
  to->chat_template = from.chat_template;
  to->chat_format = from.chat_format;
  AddSentencePiece(from, *to);
  graph.tokenizer = std::move(to);
  return {};
}

void AddValues(const ModelDescription& description, fb::ModelT& graph) {
  for (size_t i = 0; i < description.values.size(); ++i) {
    auto value = std::make_unique<fb::ValueT>();
    value->dtype = i == 0 ? fb::DType::I32 : fb::DType::F32;
    value->dims.emplace_back(fb::DimSymbol::T, 1);
    if (i != 0) value->dims.emplace_back(fb::DimSymbol::Constant, description.values[i].width);
    graph.values.push_back(std::move(value));
  }
}

// Values and operations on tokens.
void AddSequences(const ModelDescription& description, fb::ModelT& graph) {
  AddValues(description, graph);
  for (const OpDescription& op : description.ops) {
    graph.ops.push_back(ToSchema(description, op));
  }
  for (const model::AttentionSpec& spec : description.attentions) {
    graph.attentions.push_back(ToSchema(spec, graph));
  }
  graph.logits = description.logits;
}

void AddFacts(const ModelDescription& description, fb::ModelT& graph) {
  const MetadataDescription& facts = description.metadata;
  graph.metadata = std::make_unique<fb::MetadataT>();
  graph.metadata->name = facts.name;
  graph.metadata->architecture = facts.architecture;
  graph.metadata->license = facts.license;
  graph.metadata->source = facts.source;
  graph.metadata->context_tokens = facts.context_tokens;
  graph.metadata->vocabulary = facts.vocabulary;
  const model::SamplingHints& hints = description.sampling;
  graph.sampling = std::make_unique<fb::SamplingT>();
  graph.sampling->temperature = hints.temperature;
  graph.sampling->top_k = hints.top_k;
  graph.sampling->top_p = hints.top_p;
  graph.sampling->min_p = hints.min_p;
  graph.sampling->repetition_penalty = hints.repetition_penalty;
}

}  // namespace

fb::ActivationKind ToSchema(model::Activation activation) {
  switch (activation) {
    case model::Activation::kSilu:
      return fb::ActivationKind::Silu;
    case model::Activation::kGeluErf:
      return fb::ActivationKind::GeluErf;
    case model::Activation::kGeluTanh:
      return fb::ActivationKind::GeluTanh;
    case model::Activation::kRelu:
      return fb::ActivationKind::Relu;
    case model::Activation::kQuickGelu:
      return fb::ActivationKind::QuickGelu;
    case model::Activation::kSigmoid:
      return fb::ActivationKind::Sigmoid;
    case model::Activation::kTanh:
      return fb::ActivationKind::Tanh;
    case model::Activation::kSoftplus:
      return fb::ActivationKind::Softplus;
    case model::Activation::kExp:
      return fb::ActivationKind::Exp;
    case model::Activation::kEluPlus1:
      return fb::ActivationKind::EluPlus1;
    case model::Activation::kReluSquared:
      return fb::ActivationKind::ReluSquared;
  }
  return fb::ActivationKind::None;
}

fb::DType ToSchema(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return fb::DType::F32;
    case DType::kF16:
      return fb::DType::F16;
    case DType::kBF16:
      return fb::DType::BF16;
    case DType::kI8:
      return fb::DType::I8;
    case DType::kI4:
      return fb::DType::I4;
    case DType::kI32:
      return fb::DType::I32;
  }
  return fb::DType::None;
}

Result<fb::ModelT> BuildGraph(const ModelDescription& description) {
  fb::ModelT graph;
  for (const TensorDescription& tensor : description.tensors) {
    auto entry = std::make_unique<fb::TensorT>();
    entry->name = tensor.name;
    entry->dtype = ToSchema(tensor.dtype);
    entry->extents = tensor.extents;
    entry->block = tensor.block;
    entry->source_type = tensor.source_type;
    // Not measured yet, but not the default either: the size of the graph must not change any more.
    if (!tensor.source_type.empty()) entry->source_error = -2.0f;
    graph.tensors.push_back(std::move(entry));
  }
  if (description.image.empty()) {
    AddSequences(description, graph);
  } else {
    AddImages(description, graph);
  }
  HR_RETURN_IF_ERROR(AddTokenizer(description.tokenizer, graph));
  AddFacts(description, graph);
  return graph;
}

}  // namespace headroom::convert
