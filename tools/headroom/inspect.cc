// headroom inspect: what a model file says, in words. Every name comes from the file, so none of
// them reaches the terminal unescaped.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/platform.h"
#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/inspect.h"
#include "headroom/inspect_images.h"
#include "headroom/report.h"
#include "model/container.h"
#include "model/model.h"
#include "plan/expand.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Examples:\n"
    "  headroom inspect model.hrm\n"
    "  headroom inspect model.hrm --ops --tensors\n"
    "  headroom inspect model.hrm --json | jq .attention";

struct InspectArguments {
  std::string path;
  bool tensors = false;
  bool ops = false;
};

const char* OpName(model::OpKind kind) {
  switch (kind) {
    case model::OpKind::kEmbedding:
      return "embedding";
    case model::OpKind::kNorm:
      return "norm";
    case model::OpKind::kProjection:
      return "projection";
    case model::OpKind::kAttention:
      return "attention";
    case model::OpKind::kGatedActivation:
      return "gated_activation";
    case model::OpKind::kActivation:
      return "activation";
    case model::OpKind::kAdd:
      return "add";
    case model::OpKind::kScale:
      return "scale";
    case model::OpKind::kSoftcap:
      return "softcap";
    case model::OpKind::kPositionEmbedding:
      return "position_embedding";
    case model::OpKind::kMixture:
      return "mixture";
    case model::OpKind::kMultiply:
      return "multiply";
    case model::OpKind::kMultiplyAdd:
      return "multiply_add";
    case model::OpKind::kHeadProduct:
      return "head_product";
    case model::OpKind::kConvolution:
      return "convolution";
    case model::OpKind::kLinearAttention:
      return "linear_attention";
  }
  return "unknown";
}

const char* ActivationName(model::Activation activation) {
  switch (activation) {
    case model::Activation::kSilu:
      return "silu";
    case model::Activation::kGeluErf:
      return "gelu";
    case model::Activation::kGeluTanh:
      return "gelu_tanh";
    case model::Activation::kRelu:
      return "relu";
    case model::Activation::kQuickGelu:
      return "quick_gelu";
    case model::Activation::kSigmoid:
      return "sigmoid";
    case model::Activation::kTanh:
      return "tanh";
    case model::Activation::kSoftplus:
      return "softplus";
    case model::Activation::kExp:
      return "exp";
    case model::Activation::kEluPlus1:
      return "elu_plus_1";
    case model::Activation::kReluSquared:
      return "relu_squared";
  }
  return "unknown";
}

const char* NormName(const model::NormSpec& norm) {
  return norm.kind == model::NormKind::kRms ? "rms" : "layer";
}

std::string TensorName(const model::Model& model, int32_t index) {
  return index == model::kNone ? "" : std::string(model.tensors[static_cast<size_t>(index)].name);
}

Json TensorJson(const TensorView& tensor, const model::TensorOrigin& origin) {
  Json extents = Json::array();
  for (uint8_t i = 0; i < tensor.rank; ++i) extents.push_back(tensor.extents[i]);
  Json json = {{"name", tensor.name}, {"type", DTypeName(tensor.dtype)}, {"extents", extents}};
  if (tensor.scales != nullptr) json["block"] = tensor.block;
  json["data_bytes"] = tensor.data_bytes;
  json["scale_bytes"] = tensor.scale_bytes;
  if (!origin.source_type.empty()) json["source_type"] = origin.source_type;
  if (origin.error >= 0.0f) json["source_error"] = origin.error;
  return json;
}

Json WeightJson(const model::Model& model, const model::WeightRef& weight) {
  Json json = {{"tensor", TensorName(model, weight.tensor)},
               {"row_begin", weight.row_begin},
               {"rows", weight.rows}};
  if (weight.bias != model::kNone) json["bias"] = TensorName(model, weight.bias);
  return json;
}

Json NormJson(const model::Model& model, const model::NormSpec& norm) {
  if (!norm.present()) return nullptr;
  return {{"kind", NormName(norm)},
          {"epsilon", norm.epsilon},
          {"whole_row", norm.whole_row},
          {"weight", TensorName(model, norm.weight)}};
}

Json RopeJson(const model::RopeSpec& rope) {
  if (rope.dims == 0) return nullptr;
  return {{"dims", rope.dims},
          {"offset", rope.offset},
          {"layout", rope.layout == model::RopeLayout::kHalfSplit ? "half_split" : "interleaved"},
          {"attention_factor", rope.attention_factor}};
}

Json AttentionJson(const model::Model& model, const model::AttentionSpec& spec) {
  Json output(nullptr);
  if (spec.output.present()) output = WeightJson(model, spec.output);
  return {{"query_heads", spec.query_heads},
          {"kv_heads", spec.kv_heads()},
          {"key_width", spec.key_width()},
          {"value_width", spec.value_width()},
          {"head_map", spec.head_map},
          {"query_norm", NormJson(model, spec.query.norm)},
          {"key_norm", NormJson(model, spec.key.norm)},
          {"rope", RopeJson(spec.key.rope)},
          {"left", spec.left == kUnlimited ? Json(nullptr) : Json(spec.left)},
          {"sinks", spec.sinks},
          {"scale", spec.scale},
          {"softcap", spec.softcap},
          {"learned_sinks", spec.sink_logits != model::kNone},
          {"query", WeightJson(model, spec.query.weight)},
          {"key", WeightJson(model, spec.key.weight)},
          {"value", WeightJson(model, spec.value.weight)},
          {"output", output}};
}

const char* ScoreName(model::ExpertScore score) {
  switch (score) {
    case model::ExpertScore::kSoftmax:
      return "softmax";
    case model::ExpertScore::kChosenSoftmax:
      return "chosen_softmax";
    case model::ExpertScore::kSigmoid:
      return "sigmoid";
  }
  return "unknown";
}

Json MixtureJson(const model::Model& model, const model::MixtureSpec& spec) {
  return {{"experts", spec.experts},
          {"chosen", spec.chosen},
          {"inner", spec.inner},
          {"score", ScoreName(spec.score)},
          {"renormalise", spec.renormalise},
          {"scale", spec.scale},
          {"choice_bias", spec.choice_bias != model::kNone},
          {"groups", spec.groups},
          {"top_groups", spec.top_groups},
          {"activation", ActivationName(spec.activation)},
          {"limit", spec.limit},
          {"up_offset", spec.up_offset},
          {"router", WeightJson(model, spec.router)},
          {"gate_up", WeightJson(model, spec.gate_up)},
          {"down", WeightJson(model, spec.down)}};
}

const char* DecayName(model::DecayKind decay) {
  static constexpr const char* kNames[] = {
      "none",         "head_constant", "head_dynamic", "channel_constant", "channel_dynamic",
      "delta_times_a"};
  return kNames[static_cast<int>(decay)];
}

const char* UpdateName(model::StateUpdate update) {
  static constexpr const char* kNames[] = {"additive", "delta_decayed", "delta_undecayed"};
  return kNames[static_cast<int>(update)];
}

Json LinearJson(const model::LinearSpec& spec) {
  return {{"heads", spec.heads},
          {"key_heads", spec.key_heads},
          {"key_width", spec.key_width},
          {"value_width", spec.value_width},
          {"decay", DecayName(spec.decay)},
          {"update", UpdateName(spec.update)},
          {"read", spec.bonus == model::kNone ? "after" : "before_with_bonus"},
          {"sum_keys", spec.sum_keys},
          {"state_bytes", uint64_t{4} * spec.heads * spec.key_width *
                              (spec.value_width + (spec.sum_keys ? 1 : 0))}};
}

Json OpJson(const model::Model& model, const model::Op& op) {
  Json inputs = Json::array();
  for (const int32_t input : op.inputs) {
    if (input != model::kNone) inputs.push_back(input);
  }
  Json json = {{"op", OpName(op.kind)}, {"inputs", inputs}, {"output", op.output}};
  if (op.weight.present()) json["weight"] = WeightJson(model, op.weight);
  if (op.norm.present()) json["norm"] = NormJson(model, op.norm);
  if (op.attention != model::kNone) json["attention"] = op.attention;
  if (op.mixture != model::kNone) {
    json["mixture"] = MixtureJson(model, model.mixtures[static_cast<size_t>(op.mixture)]);
  }
  if (op.linear != model::kNone) {
    json["linear"] = LinearJson(model.linears[static_cast<size_t>(op.linear)]);
  }
  if (op.kernel != 0) json["kernel"] = op.kernel;
  if (op.heads != 0) json["heads"] = op.heads;
  if (op.factor != model::kNone) json["factor"] = TensorName(model, op.factor);
  if (op.addend != model::kNone) json["addend"] = TensorName(model, op.addend);
  if (op.kind == model::OpKind::kGatedActivation || op.kind == model::OpKind::kActivation ||
      op.activated) {
    json["activation"] = ActivationName(op.activation);
  }
  if (op.scale != 1.0f) json["scale"] = op.scale;
  return json;
}

const char* TokenizerKindKey(model::TokenizerKind kind) {
  switch (kind) {
    case model::TokenizerKind::kNone:
      return "none";
    case model::TokenizerKind::kByteBpe:
      return "byte_bpe";
    case model::TokenizerKind::kCharacterBpe:
      return "sentencepiece_bpe";
    case model::TokenizerKind::kUnigram:
      return "sentencepiece_unigram";
    case model::TokenizerKind::kLongest:
      return "longest_match";
  }
  return "unknown";
}

std::string ChatPhrase(const model::TokenizerSpec& tokenizer) {
  if (!tokenizer.chat_format.empty())
    return ", chat format " + EscapeControls(tokenizer.chat_format);
  return tokenizer.chat_template.empty() ? "" : ", with a chat template that is not known";
}

Json TokenizerJson(const model::TokenizerSpec& tokenizer) {
  if (tokenizer.kind == model::TokenizerKind::kNone) return nullptr;
  Json patterns = Json::array();
  for (const model::Split& split : tokenizer.splits) patterns.push_back(split.pattern);
  return {{"kind", TokenizerKindKey(tokenizer.kind)},
          {"tokens", tokenizer.tokens.size()},
          {"merges", tokenizer.merges.size()},
          {"special_tokens", tokenizer.special_tokens},
          {"added_tokens", tokenizer.added_tokens.size()},
          {"end_tokens", tokenizer.end_tokens},
          {"begin_token", tokenizer.begin_token},
          {"add_begin", tokenizer.add_begin},
          {"patterns", std::move(patterns)},
          {"chat_format", tokenizer.chat_format},
          {"chat_template", tokenizer.chat_template}};
}

// Names of the header's bits; a file that requires more than this build knows cannot be opened.
std::vector<std::string> RequiredFeatures(const std::string& path) {
  std::vector<std::string> names;
  const auto file = platform::FileMapping::OpenPath(path.c_str());
  if (!file.ok()) return names;  // Open says why
  const auto header = model::ReadHeader({file.value().data(), file.value().bytes()});
  if (!header.ok()) return names;
  for (int bit = 0; bit < 64; ++bit) {
    if (header.value().required_features >> bit & 1)
      names.emplace_back(model::RequiredFeatureName(bit));
  }
  return names;
}

Json ModelJson(const model::Model& model) {
  char digest[24];
  std::snprintf(digest, sizeof(digest), "%016" PRIx64, model.digest);
  Json tensors = Json::array(), ops = Json::array(), attention = Json::array();
  for (size_t i = 0; i < model.tensors.size(); ++i)
    tensors.push_back(TensorJson(model.tensors[i], model.origins[i]));
  for (const model::Op& op : model.ops) ops.push_back(OpJson(model, op));
  for (const auto& spec : model.attentions) attention.push_back(AttentionJson(model, spec));
  return {{"metadata",
           {{"name", model.metadata.name},
            {"architecture", model.metadata.architecture},
            {"license", model.metadata.license},
            {"source", model.metadata.source},
            {"context_tokens", model.metadata.context_tokens},
            {"vocabulary", model.metadata.vocabulary},
            {"file_bytes", model.file_bytes},
            {"digest", digest}}},
          {"tokenizer", TokenizerJson(model.tokenizer)},
          {"attention", attention},
          {"tensors", tensors},
          {"ops", ops}};
}

// --- for people ---------------------------------------------------------------------------------

void PrintMetadata(const model::Model& model, bool outline) {
  const auto line = [](const char* label, std::string_view text) {
    if (!text.empty()) std::printf("%-14s %s\n", label, EscapeControls(text).c_str());
  };
  line("name", model.metadata.name);
  line("architecture", model.metadata.architecture);
  line("license", model.metadata.license);
  line("source", model.metadata.source);
  std::printf("%-14s %s", "file", FormatBytes(model.file_bytes).c_str());
  outline ? std::printf("\n") : std::printf(", digest %016" PRIx64 "\n", model.digest);
  if (!model.image.empty()) return;
  std::printf("%-14s %" PRIu32 " tokens trained, vocabulary %" PRIu32 "\n", "context",
              model.metadata.context_tokens, model.metadata.vocabulary);
  const model::TokenizerSpec& tokenizer = model.tokenizer;
  if (tokenizer.kind == model::TokenizerKind::kNone) {
    std::printf("%-14s none\n", "tokenizer");
  } else {
    std::printf("%-14s %s, %zu tokens, %zu merges, %zu special%s\n", "tokenizer",
                model::TokenizerKindName(tokenizer.kind), tokenizer.tokens.size(),
                tokenizer.merges.size(),
                tokenizer.special_tokens.size() + tokenizer.added_tokens.size(),
                ChatPhrase(tokenizer).c_str());
  }
}

void PrintRequired(const std::vector<std::string>& features) {
  std::string text;
  for (const std::string& name : features) text += (text.empty() ? "" : ", ") + name;
  std::printf("%-14s %s\n", "requires", text.empty() ? "no feature" : text.c_str());
}

// Weights by storage type.
void PrintWeightSummary(const model::Model& model) {
  std::map<std::string, std::pair<size_t, uint64_t>> kinds;
  for (const TensorView& tensor : model.tensors) {
    std::string kind = DTypeName(tensor.dtype);
    if (tensor.scales != nullptr) {
      kind += tensor.block == 0 ? " per row" : " in blocks of " + std::to_string(tensor.block);
    }
    ++kinds[kind].first;
    kinds[kind].second += tensor.data_bytes + tensor.scale_bytes;
  }
  const char* label = "weights";
  for (const auto& [kind, sum] : kinds) {
    std::printf("%-14s %s: %zu tensors, %s\n", label, kind.c_str(), sum.first,
                FormatBytes(sum.second).c_str());
    label = "";
  }
}

std::string AttentionLine(const model::Model& model, const model::AttentionSpec& spec) {
  char text[256];
  std::snprintf(text, sizeof(text),
                "%" PRIu32 " query heads on %" PRIu32 " KV heads, key %" PRIu32 ", value %" PRIu32
                ", rope %" PRIu32,
                spec.query_heads, spec.kv_heads(), spec.key_width(), spec.mixed_width(),
                std::max(spec.key.rope.dims, spec.tail.rope.dims));
  std::string line = text;
  if (spec.source_attention != model::kNone) {
    line += ", rows of attention " + std::to_string(spec.source_attention);
  } else if (!spec.value.present()) {
    line += ", latent " + std::to_string(spec.key.width);
  }
  if (const uint32_t from = plan::ExpandFrom(model, spec); from != kUnlimited) {
    line += ", expanded for " + std::to_string(from) + " tokens at once or more";
  }
  if (spec.left != kUnlimited) line += ", window " + std::to_string(uint64_t{spec.left} + 1);
  if (spec.sinks > 0) line += ", sinks " + std::to_string(spec.sinks);
  if (spec.query.norm.present()) line += ", QK norm";
  if (spec.softcap != 0) line += ", soft cap";
  if (spec.sink_logits != model::kNone) line += ", learned sinks";
  return line;
}

std::string LinearText(const model::LinearSpec& spec) {
  return std::to_string(spec.heads) + " states of " + std::to_string(spec.key_width) + " x " +
         std::to_string(spec.value_width) + ", " + UpdateName(spec.update) + ", decay " +
         DecayName(spec.decay);
}

// One line per run of equal layers.
void PrintRuns(const char* label, const std::vector<std::string>& lines) {
  for (size_t begin = 0; begin < lines.size();) {
    size_t end = begin + 1;
    while (end < lines.size() && lines[end] == lines[begin]) ++end;
    if (end - begin == 1)
      std::printf("%-14s layer %zu: %s\n", label, begin, lines[begin].c_str());
    else
      std::printf("%-14s layers %zu-%zu: %s\n", label, begin, end - 1, lines[begin].c_str());
    label = "";
    begin = end;
  }
}

// Layers are counted among those of their kind.
void PrintLayers(const model::Model& model) {
  std::vector<std::string> attentions, linears;
  for (const model::AttentionSpec& spec : model.attentions) {
    attentions.push_back(AttentionLine(model, spec));
  }
  for (const model::LinearSpec& spec : model.linears) linears.push_back(LinearText(spec));
  PrintRuns("attention", attentions);
  PrintRuns("linear", linears);
}

void PrintProfiles(const model::Model& model) {
  const char* label = "profiles";
  for (const model::ProfileSpec& profile : model.profiles) {
    std::printf("%-14s %-10s", label, EscapeControls(profile.name).c_str());
    for (const model::QualitySpec& quality : profile.quality) {
      std::printf(" %.3g (%.3g): %s, context %u;", static_cast<double>(quality.value),
                  static_cast<double>(quality.reference), EscapeControls(quality.task).c_str(),
                  quality.context_tokens);
    }
    std::printf("\n");
    label = "";
  }
}

Json ProfilesJson(const model::Model& model) {
  Json profiles = Json::array();
  for (const model::ProfileSpec& profile : model.profiles) {
    Json qualities = Json::array();
    for (const model::QualitySpec& quality : profile.quality) {
      qualities.push_back({{"task", quality.task},
                           {"metric", MetricName(static_cast<int32_t>(quality.metric))},
                           {"larger_is_better", model::LargerIsBetter(quality.metric)},
                           {"context_tokens", quality.context_tokens},
                           {"value", quality.value},
                           {"reference", quality.reference}});
    }
    profiles.push_back({{"name", profile.name}, {"quality", qualities}, {"roles", profile.roles}});
  }
  return profiles;
}

void PrintTensors(const model::Model& model) {
  const bool measured = std::ranges::any_of(
      model.origins, [](const model::TensorOrigin& origin) { return origin.error >= 0.0f; });
  std::printf("\n%-48s %-10s %-18s %12s %-10s %s\n", "tensor", "type", "extents", "bytes", "source",
              measured ? "error" : "");
  for (size_t t = 0; t < model.tensors.size(); ++t) {
    const TensorView& tensor = model.tensors[t];
    const model::TensorOrigin& origin = model.origins[t];
    std::string extents, type = DTypeName(tensor.dtype);
    for (uint8_t i = 0; i < tensor.rank; ++i) {
      extents += (i == 0 ? "" : " x ") + std::to_string(tensor.extents[i]);
    }
    if (tensor.scales != nullptr) type += "/" + std::to_string(tensor.block);
    char error[24] = "";
    if (origin.error >= 0.0f)
      std::snprintf(error, sizeof(error), "%.3g %%", 100.0 * static_cast<double>(origin.error));
    std::printf("%-48s %-10s %-18s %12" PRIu64 " %-10s %s\n", EscapeControls(tensor.name).c_str(),
                type.c_str(), extents.c_str(), tensor.data_bytes + tensor.scale_bytes,
                EscapeControls(origin.source_type).c_str(), error);
  }
}

std::string MixtureText(const model::MixtureSpec& spec) {
  return std::to_string(spec.chosen) + " of " + std::to_string(spec.experts) + " experts, " +
         std::to_string(spec.inner) + " wide";
}

void PrintOps(const model::Model& model) {
  std::printf("\n%5s  %-18s %-14s %s\n", "op", "kind", "values", "with");
  for (size_t i = 0; i < model.ops.size(); ++i) {
    const model::Op& op = model.ops[i];
    std::string values = std::to_string(op.inputs[0]), with;
    for (int k = 1; k < model::kMostInputs; ++k) {
      if (op.inputs[k] != model::kNone) values += " + " + std::to_string(op.inputs[k]);
    }
    values += " > " + std::to_string(op.output);
    if (op.weight.present())
      with = TensorName(model, op.weight.tensor);
    else if (op.norm.present())
      with = TensorName(model, op.norm.weight);
    else if (op.attention != model::kNone)
      with = "attention " + std::to_string(op.attention);
    else if (op.mixture != model::kNone)
      with = MixtureText(model.mixtures[static_cast<size_t>(op.mixture)]);
    else if (op.linear != model::kNone)
      with = LinearText(model.linears[static_cast<size_t>(op.linear)]);
    else if (op.kind == model::OpKind::kGatedActivation || op.kind == model::OpKind::kActivation)
      with = ActivationName(op.activation);
    std::printf("%5zu  %-18s %-14s %s\n", i, OpName(op.kind), values.c_str(),
                EscapeControls(with).c_str());
  }
}

std::unique_ptr<model::Model> Open(const std::string& path) {
  Result<std::unique_ptr<model::Model>> opened =
      model::Model::OpenPath(path.c_str(), model::OpenOptions{});
  if (opened.ok()) return opened.Take();
  throw Failure(static_cast<hr_status>(opened.status().code()),
                "cannot open " + path + ": " + opened.status().message());
}

int Inspect(const InspectArguments& arguments, bool json) {
  if (json)
    PrintJson(InspectJson(arguments.path));
  else
    PrintInspection(arguments.path, arguments.tensors, arguments.ops);
  return kOk;
}

}  // namespace

Json InspectJson(const std::string& path, bool outline) {
  const std::unique_ptr<model::Model> model = Open(path);
  Json json = ModelJson(*model);
  json["profiles"] = ProfilesJson(*model);
  if (!model->image.empty()) json["images"] = ImageGraphJson(*model);
  if (outline) json.at("metadata").erase("digest");
  json["required_features"] = RequiredFeatures(path);
  return json;
}

void PrintInspection(const std::string& path, bool tensors, bool ops, bool outline) {
  const std::unique_ptr<model::Model> opened = Open(path);
  const model::Model& model = *opened;
  PrintMetadata(model, outline);
  PrintRequired(RequiredFeatures(path));
  PrintWeightSummary(model);
  if (!model.image.empty()) PrintImageSummary(model);
  PrintLayers(model);
  PrintProfiles(model);
  if (tensors) PrintTensors(model);
  if (ops && model.image.empty()) PrintOps(model);
  if (ops && !model.image.empty()) PrintImageOps(model);
}

void AddInspect(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<InspectArguments>();
  CLI::App& command = *app.add_subcommand("inspect", "show what a model file holds");
  command.footer(kFooter);
  command.add_option("MODEL", arguments->path, "the .hrm model file")->required();
  command.add_flag("--tensors", arguments->tensors, "list every tensor");
  command.add_flag("--ops", arguments->ops, "list every operation in execution order");
  command.add_flag("--json", invocation.json, "everything as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Inspect(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
