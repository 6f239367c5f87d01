#include "convert/gguf_model.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace headroom::convert {
namespace {

constexpr uint64_t kMaxFactors = 4096;  // of a rotation
constexpr uint64_t kMaxLayerList = 4096;

// What no key says because llama.cpp's code for the architecture does (src/models/).
struct GgufArchitecture {
  std::string_view name;  // general.architecture
  std::string_view recipe;
  std::string_view activation = "silu";
  bool neighbours = false;         // rotated pairs are (2i, 2i + 1)
  uint32_t window_period = 0;      // every so manieth layer sees all; 0: see WindowRule
  uint32_t default_window = 0;     // 0: no window without a key
  uint32_t unrotated_period = 0;   // every so manieth layer is not rotated
  uint32_t wide_scale_layers = 0;  // so many layers: attention scale (C / H)^-1/2, not D^-1/2
};

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama", .recipe = "LlamaForCausalLM", .neighbours = true},
    {.name = "qwen2", .recipe = "Qwen2ForCausalLM"},
    {.name = "qwen3", .recipe = "Qwen3ForCausalLM"},
    {.name = "gemma2",
     .recipe = "Gemma2ForCausalLM",
     .activation = "gelu_pytorch_tanh",
     .window_period = 2,
     .default_window = 4096,
     .wide_scale_layers = 46},
    {.name = "gemma3",
     .recipe = "Gemma3ForCausalLM",
     .activation = "gelu_pytorch_tanh",
     .window_period = 6,
     .wide_scale_layers = 62},
    {.name = "phi3", .recipe = "Phi3ForCausalLM"},
    {.name = "smollm3", .recipe = "SmolLM3ForCausalLM", .neighbours = true, .unrotated_period = 4},
    {.name = "olmo2", .recipe = "Olmo2ForCausalLM"},
    {.name = "granite", .recipe = "GraniteForCausalLM", .neighbours = true},
    {.name = "starcoder2", .recipe = "Starcoder2ForCausalLM", .activation = "gelu_pytorch_tanh"},
    {.name = "gpt2", .recipe = "GPT2LMHeadModel", .activation = "gelu_new"},
};

// Keys that say nothing about the mathematics, or say again what tensors do.
constexpr std::string_view kNeutralKeys[] = {"tensor_data_layout", "rope.scaling.finetuned",
                                             "pooling_type"};

TensorNames NamesInGguf(const TensorNames& names) {
  TensorNames out = names;
  out.layer = "blk.{}.";
  const std::pair<std::string_view*, std::string_view> pairs[] = {
      {&out.embedding, "token_embd"},
      {&out.positions, "position_embd"},
      {&out.final_norm, "output_norm"},
      {&out.head, "output"},
      {&out.attention_norm, "attn_norm"},
      {&out.query, "attn_q"},
      {&out.key, "attn_k"},
      {&out.value, "attn_v"},
      {&out.query_key_value, "attn_qkv"},
      {&out.attention_output, "attn_output"},
      {&out.query_norm, "attn_q_norm"},
      {&out.key_norm, "attn_k_norm"},
      {&out.attention_post_norm, "post_attention_norm"},
      {&out.mlp_norm, "ffn_norm"},
      {&out.gate, "ffn_gate"},
      {&out.up, "ffn_up"},
      {&out.gate_up, "ffn_up"},
      {&out.down, "ffn_down"},
      {&out.mlp_post_norm, "post_ffw_norm"}};
  for (const auto& [name, in_gguf] : pairs) {
    if (!name->empty()) *name = in_gguf;
  }
  return out;
}

class Describer {
 public:
  Describer(GgufFile& gguf, const std::string& what) : gguf_(gguf), what_(what) {}

  Result<GgufModel> Describe() {
    HR_RETURN_IF_ERROR(FindArchitecture());
    HR_RETURN_IF_ERROR(General());
    HR_RETURN_IF_ERROR(SetRecipe());
    HR_RETURN_IF_ERROR(Sizes());
    HR_RETURN_IF_ERROR(Scales());
    HR_RETURN_IF_ERROR(Windows());
    HR_RETURN_IF_ERROR(Rotation());
    HR_RETURN_IF_ERROR(RefuseUnused());
    return std::move(out_);
  }

 private:
  using Number = std::optional<double>;

  Status Fail(StatusCode code, const std::string& fact) const {
    return Status::Make(code, "%s: %s", what_.c_str(), fact.c_str());
  }
  Status Corrupt(const std::string& fact) const { return Fail(StatusCode::kCorrupt, fact); }
  Status Refuse(const std::string& key, const std::string& why) const {
    return Fail(StatusCode::kUnsupported, "\"" + Printable(key) + "\" " + why);
  }

  // ---- values

  std::string Full(std::string_view key) const {
    return std::string(architecture_->name) + "." + std::string(key);
  }

  const GgufValue* Use(std::string_view key) {
    used_.emplace_back(Full(key));
    return gguf_.Find(used_.back());
  }

  // A number, or a list of equal ones: some writers give a number for every layer.
  Result<Number> Read(std::string_view key) {
    const GgufValue* value = Use(key);
    if (!value) return Number();
    if (!value->is_number() || value->count() == 0 || value->count() > kMaxLayerList)
      return Corrupt("\"" + Full(key) + "\" is no number");
    const std::vector<double> numbers = value->Numbers();
    for (const double number : numbers) {
      if (!std::isfinite(number)) return Corrupt("\"" + Full(key) + "\" is not finite");
      if (number != numbers[0]) return Refuse(Full(key), "differs between layers");
    }
    return Number(numbers[0]);
  }

  Result<double> Need(std::string_view key) {
    HR_ASSIGN_OR_RETURN(const Number number, Read(key));
    if (number) return *number;
    return Corrupt("lacks \"" + Full(key) + "\"");
  }

  Result<std::optional<std::string>> ReadText(std::string_view key) {
    const GgufValue* value = Use(key);
    if (!value) return std::optional<std::string>();
    if (value->is_array() || value->type() != GgufType::kText)
      return Corrupt("\"" + Full(key) + "\" is no text");
    return std::optional<std::string>(value->Texts()[0]);
  }

  // JSON tells whole numbers from others.
  static Json ToJson(double number) {
    const bool whole = number >= 0 && number <= 1e15 && number == std::floor(number);
    return whole ? Json(static_cast<uint64_t>(number)) : Json(number);
  }

  void Set(std::string_view key, Json value) { out_.config[std::string(key)] = std::move(value); }

  // The value goes under the recipe's name for it; where the recipe has none, it may only be
  // `neutral`.
  Status Carry(std::string_view from, std::string_view to, double neutral) {
    HR_ASSIGN_OR_RETURN(const Number number, Read(from));
    if (!number || *number == neutral) return {};
    if (to.empty()) return Refuse(Full(from), "means nothing this architecture's recipe executes");
    Set(to, ToJson(*number));
    return {};
  }

  bool Has(const std::string& tensor) const { return gguf_.tensors.count(tensor) != 0; }

  // ---- what the file is

  Status FindArchitecture() {
    const GgufValue* value = gguf_.Find("general.architecture");
    if (!value || value->is_array() || value->type() != GgufType::kText)
      return Corrupt("lacks \"general.architecture\"");
    const std::string_view name = value->Texts()[0];
    for (const GgufArchitecture& architecture : kArchitectures) {
      if (architecture.name == name) architecture_ = &architecture;
    }
    if (architecture_) return {};
    return Fail(StatusCode::kUnsupported,
                "architecture \"" + Printable(name) + "\" has no recipe for GGUF files");
  }

  Status General() const {
    const GgufValue* type = gguf_.Find("general.type");
    if (type && type->type() == GgufType::kText && type->Texts()[0] != "model")
      return Refuse("general.type", "is \"" + Printable(type->Texts()[0]) + "\", not a model");
    const GgufValue* version = gguf_.Find("general.quantization_version");
    if (version && version->Numbers() != std::vector<double>{2.0})
      return Refuse("general.quantization_version", "is not 2, the only one whose blocks are read");
    for (const auto& [key, value] : gguf_.metadata) {
      if (key.starts_with("general.tensor_extra.")) return Refuse(key, "is not understood");
    }
    return {};
  }

  Status SetRecipe() {
    const bool windowed_llama =
        architecture_->name == "llama" && gguf_.Find("llama.attention.sliding_window");
    const std::string_view name = windowed_llama ? "MistralForCausalLM" : architecture_->recipe;
    const Recipe* recipe = FindRecipe(name);
    if (!recipe) return Fail(StatusCode::kInternal, "no recipe " + std::string(name));
    Recipe& out = out_.recipe = *recipe;
    out.names = NamesInGguf(recipe->names);
    out.optional_prefix = "";
    out.layers_transposed = false;
    out.norm_plus_one = false;
    if (architecture_->neighbours) out.rope_layout = model::RopeLayout::kInterleaved;
    if (Has("blk.0.attn_qkv.weight") && out.names.query_key_value.empty()) {
      out.names.query_key_value = "attn_qkv";
      out.names.query = out.names.key = out.names.value = "";
      out.fused_rows = FusedRows::kByKind;
    }
    const bool fused = !out.names.query_key_value.empty();
    const std::string query = fused ? "blk.0.attn_qkv.bias" : "blk.0.attn_q.bias";
    out.query_key_value_bias = {"", Has(query)};
    out.attention_output_bias = {"", Has("blk.0.attn_output.bias")};
    out.mlp_bias = {"", Has("blk.0.ffn_up.bias")};
    Set("architectures", {std::string(name)});
    Set("tie_word_embeddings", !Has("output.weight"));
    Set(out.activation_key, std::string(architecture_->activation));
    return {};
  }

  // ---- sizes

  Status Sizes() {
    const Recipe& recipe = out_.recipe;
    const std::pair<std::string_view, std::string_view> needed[] = {
        {"context_length", recipe.sizes.context},
        {"embedding_length", recipe.sizes.channels},
        {"block_count", recipe.sizes.layers},
        {"feed_forward_length", recipe.sizes.inner},
        {"attention.head_count", recipe.sizes.query_heads}};
    for (const auto& [from, to] : needed) {
      HR_ASSIGN_OR_RETURN(const double number, Need(from));
      Set(to, ToJson(number));
    }
    const auto embedding = gguf_.tensors.find("token_embd.weight");
    if (embedding == gguf_.tensors.end()) return Corrupt("lacks tensor \"token_embd.weight\"");
    const uint64_t vocabulary = embedding->second.shape[0];
    Set("vocab_size", vocabulary);
    HR_ASSIGN_OR_RETURN(const Number stated, Read("vocab_size"));
    if (stated && *stated != static_cast<double>(vocabulary)) {
      return Corrupt("\"" + Full("vocab_size") + "\" is not the " + std::to_string(vocabulary) +
                     " rows of token_embd.weight");
    }
    HR_RETURN_IF_ERROR(Carry("attention.head_count_kv", "num_key_value_heads", -1));
    const bool layer_norm = recipe.norm == model::NormKind::kLayer;
    HR_ASSIGN_OR_RETURN(
        const double epsilon,
        Need(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"));
    Set(recipe.epsilon_key, epsilon);
    HR_RETURN_IF_ERROR(HeadWidth());
    for (const std::string_view key : {"expert_count", "expert_used_count"}) {
      HR_ASSIGN_OR_RETURN(const Number experts, Read(key));
      if (experts.value_or(0) != 0) return Refuse(Full(key), "needs a mixture of experts");
    }
    return {};
  }

  Status HeadWidth() {
    HR_ASSIGN_OR_RETURN(channels_, Need("embedding_length"));
    HR_ASSIGN_OR_RETURN(heads_, Need("attention.head_count"));
    if (!(heads_ >= 1 && channels_ >= heads_)) return Corrupt("fewer channels than query heads");
    HR_ASSIGN_OR_RETURN(const Number key, Read("attention.key_length"));
    HR_ASSIGN_OR_RETURN(const Number value, Read("attention.value_length"));
    head_width_ = key.value_or(std::floor(channels_ / heads_));
    if (value.value_or(head_width_) != head_width_)
      return Refuse(Full("attention.value_length"), "differs from the length of a key");
    if (!(head_width_ >= 1 && head_width_ <= 1 << 20)) return Corrupt("no head width");
    Set("head_dim", ToJson(head_width_));
    return {};
  }

  // ---- scales

  Status Scales() {
    const Recipe& recipe = out_.recipe;
    if (!recipe.query_scalar_key.empty()) {
      HR_ASSIGN_OR_RETURN(const double layers, Need("block_count"));
      const bool wide = layers == architecture_->wide_scale_layers;
      Set(recipe.query_scalar_key, ToJson(wide ? std::floor(channels_ / heads_) : head_width_));
    }
    if (!recipe.attention_scale_key.empty()) {
      Set(recipe.attention_scale_key, 1.0 / std::sqrt(head_width_));
    }
    if (!recipe.logit_divisor_key.empty()) HR_RETURN_IF_ERROR(Need("logit_scale").status());
    const std::string_view logit_scale =
        recipe.logit_divisor_key.empty() ? recipe.logit_scale_key : recipe.logit_divisor_key;
    // 0 is how a file says that there is no such scale.
    HR_RETURN_IF_ERROR(Carry("attention.scale", recipe.attention_scale_key, 0));
    HR_RETURN_IF_ERROR(Carry("embedding_scale", recipe.embedding_scale_key, 0));
    HR_RETURN_IF_ERROR(Carry("residual_scale", recipe.residual_scale_key, 0));
    HR_RETURN_IF_ERROR(Carry("logit_scale", logit_scale, 0));
    HR_RETURN_IF_ERROR(Carry("attn_logit_softcapping", recipe.attention_softcap_key, 0));
    HR_RETURN_IF_ERROR(Carry("final_logit_softcapping", recipe.logit_softcap_key, 0));
    const GgufValue* causal = Use("attention.causal");
    if (causal && causal->Numbers() != std::vector<double>{1.0})
      return Refuse(Full("attention.causal"), "is not true");
    return {};
  }

  // ---- windows

  Status Windows() {
    HR_ASSIGN_OR_RETURN(const double layers, Need("block_count"));
    HR_ASSIGN_OR_RETURN(const Number stated, Read("attention.sliding_window"));
    const GgufValue* pattern = Use("attention.sliding_window_pattern");
    const double window = stated.value_or(architecture_->default_window);
    const WindowRule rule = out_.recipe.windows;
    if (window == 0 || rule == WindowRule::kNone || rule == WindowRule::kLastLayers ||
        rule == WindowRule::kUnrotatedLayers) {
      if (window != 0)
        return Refuse(Full("attention.sliding_window"), "is not executed for this architecture");
      return SetLayerTypes(layers, 0, nullptr);
    }
    Set("sliding_window", ToJson(window));
    if (rule == WindowRule::kAll && !pattern) return {};
    return SetLayerTypes(layers, architecture_->window_period, pattern);
  }

  // `pattern`: a period, or for each layer whether it is windowed.
  Status SetLayerTypes(double layers, double period, const GgufValue* pattern) {
    const std::string key = Full("attention.sliding_window_pattern");
    if (!(layers >= 1 && layers <= kMaxLayerList)) return Corrupt("no layers, or too many");
    std::vector<double> listed;
    if (pattern && pattern->count() <= kMaxLayerList) listed = pattern->Numbers();
    if (pattern && (listed.empty() || (pattern->is_array() && listed.size() < layers)))
      return Corrupt("\"" + key + "\" is neither a period nor a list of all layers");
    if (pattern && !pattern->is_array()) period = listed[0];
    Json types = Json::array();
    for (int i = 0; i < layers; ++i) {
      const bool windowed = pattern && pattern->is_array() ? listed[i] != 0
                            : period > 0                   ? std::fmod(i + 1, period) != 0
                                                           : false;
      types.push_back(windowed ? "sliding_attention" : "full_attention");
    }
    Set("layer_types", std::move(types));
    return {};
  }

  // ---- rotation

  Status Rotation() {
    const Recipe& recipe = out_.recipe;
    if (!recipe.rotary) return {};
    HR_ASSIGN_OR_RETURN(const Number base, Read("rope.freq_base"));
    Set("rope_theta", ToJson(base.value_or(10000.0)));
    HR_ASSIGN_OR_RETURN(const Number local, Read("rope.freq_base_swa"));
    if (local && recipe.local_rope_base_key.empty() && *local != base.value_or(10000.0))
      return Refuse(Full("rope.freq_base_swa"), "is not executed for this architecture");
    if (!recipe.local_rope_base_key.empty())
      Set(recipe.local_rope_base_key, ToJson(local.value_or(10000.0)));
    HR_RETURN_IF_ERROR(RotatedShare());
    if (architecture_->unrotated_period != 0)
      Set("no_rope_layer_interval", architecture_->unrotated_period);
    const GgufValue* finetuned = Use("rope.scaling.finetuned");
    if (architecture_->name == "granite" && finetuned && finetuned->Numbers()[0] == 0)
      return Refuse(Full("rope.scaling.finetuned"), "is false: no layer would be rotated");
    return Scaling();
  }

  Status RotatedShare() {
    HR_ASSIGN_OR_RETURN(const Number dims, Read("rope.dimension_count"));
    if (!dims || *dims == head_width_) return {};
    const std::string_view key = out_.recipe.rotary_share_key;
    if (key.empty() || !(*dims > 0 && *dims < head_width_))
      return Refuse(Full("rope.dimension_count"), "is not the width of a head");
    // Half a dimension more: the reader cuts the product off to a whole number.
    Set(key, (*dims + 0.5) / head_width_);
    return {};
  }

  Status Scaling() {
    HR_ASSIGN_OR_RETURN(auto type, ReadText("rope.scaling.type"));
    HR_ASSIGN_OR_RETURN(Number factor, Read("rope.scaling.factor"));
    HR_ASSIGN_OR_RETURN(const Number linear, Read("rope.scale_linear"));  // older files
    if (!factor) factor = linear;
    HR_ASSIGN_OR_RETURN(const Number original, Read("rope.scaling.original_context_length"));
    HR_ASSIGN_OR_RETURN(const Number attention, Read("rope.scaling.attn_factor"));
    HR_ASSIGN_OR_RETURN(const Json yarn, YarnKeys());
    HR_ASSIGN_OR_RETURN(const Json divisors, Factors("rope_freqs.weight"));
    HR_ASSIGN_OR_RETURN(const Json long_factors, Factors("rope_factors_long.weight"));
    HR_ASSIGN_OR_RETURN(const Json short_factors, Factors("rope_factors_short.weight"));
    Json scaling = Json::object();
    const bool scaled = factor.value_or(1.0) != 1.0 && factor.value_or(0.0) != 0.0;
    const std::string kind = type.value_or("linear");
    const double attention_factor = attention.value_or(1.0);
    if (!long_factors.empty() || !short_factors.empty()) {
      scaling = {{"rope_type", "longrope"},
                 {"long_factor", long_factors},
                 {"short_factor", short_factors},
                 {"attention_factor", attention_factor}};
      if (original) scaling["original_max_position_embeddings"] = ToJson(*original);
      if (kind == "yarn" || !divisors.empty())
        return Refuse(Full("rope.scaling.type"), "scales rotations twice");
    } else if (kind == "yarn") {
      scaling = yarn;
      scaling["rope_type"] = "yarn";
      scaling["factor"] = ToJson(factor.value_or(1.0));
      if (original) scaling["original_max_position_embeddings"] = ToJson(*original);
      // llama.cpp multiplies where transformers replaces.
      const double magnitude = 0.1 * std::log(std::max(factor.value_or(1.0), 1.0)) + 1.0;
      if (attention) scaling["attention_factor"] = attention_factor * magnitude;
      if (!divisors.empty()) return Refuse("rope_freqs.weight", "scales rotations twice");
    } else if (kind == "none" || kind == "linear") {
      const bool linearly = kind == "linear" && scaled;
      if (attention_factor != 1.0)
        return Refuse(Full("rope.scaling.attn_factor"), "stands beside no factors");
      if (linearly && !divisors.empty()) return Refuse("rope_freqs.weight", "scales twice");
      if (linearly) scaling = {{"rope_type", "linear"}, {"factor", ToJson(*factor)}};
      if (!divisors.empty()) scaling = {{"rope_type", "divisors"}, {"divisors", divisors}};
    } else {
      return Refuse(Full("rope.scaling.type"), "is \"" + Printable(kind) + "\"");
    }
    if (!scaling.empty()) Set("rope_scaling", std::move(scaling));
    return {};
  }

  // What of yarn's parameters the file gives, under transformers' names.
  Result<Json> YarnKeys() {
    Json yarn = Json::object();
    const std::pair<std::string_view, const char*> names[] = {
        {"rope.scaling.yarn_beta_fast", "beta_fast"}, {"rope.scaling.yarn_beta_slow", "beta_slow"}};
    for (const auto& [from, to] : names) {
      HR_ASSIGN_OR_RETURN(const Number number, Read(from));
      if (number) yarn[to] = ToJson(*number);
    }
    const std::pair<std::string_view, double> fixed[] = {{"rope.scaling.yarn_ext_factor", 1.0},
                                                         {"rope.scaling.yarn_attn_factor", 1.0},
                                                         {"rope.scaling.yarn_log_multiplier", 0.0}};
    for (const auto& [key, only] : fixed) {
      HR_ASSIGN_OR_RETURN(const Number number, Read(key));
      if (number.value_or(only) != only)
        return Refuse(Full(key), "is " + std::to_string(*number) + ", which is not executed");
    }
    const GgufValue* truncate = Use("rope.scaling.yarn_truncate");
    if (truncate) yarn["truncate"] = truncate->Numbers() == std::vector<double>{1.0};
    return yarn;
  }

  // The numbers of a small tensor, which is taken out of the table; empty without it.
  Result<Json> Factors(const std::string& name) {
    Json list = Json::array();
    const auto found = gguf_.tensors.find(name);
    if (found == gguf_.tensors.end()) return list;
    const SourceTensor& tensor = found->second;
    if (tensor.shape.size() != 1 || tensor.shape[0] > kMaxFactors)
      return Corrupt("tensor \"" + name + "\" is no short list of factors");
    std::vector<float> values(tensor.shape[0]);
    HR_RETURN_IF_ERROR(ReadFloats(name, tensor, 0, values));
    for (const float value : values) {
      if (!std::isfinite(value)) return Corrupt("tensor \"" + name + "\" is not finite");
      list.push_back(static_cast<double>(value));
    }
    gguf_.tensors.erase(found);
    return list;
  }

  // ---- the rest

  Status RefuseUnused() {
    for (const std::string_view key : kNeutralKeys) used_.push_back(Full(key));
    const std::string prefix = Full("");
    for (const auto& [key, value] : gguf_.metadata) {
      if (!key.starts_with(prefix) || std::find(used_.begin(), used_.end(), key) != used_.end())
        continue;
      return Refuse(key, "may change the result and is not understood");
    }
    return {};
  }

  GgufFile& gguf_;
  const std::string& what_;
  const GgufArchitecture* architecture_ = nullptr;
  GgufModel out_;
  std::vector<std::string> used_;
  double channels_ = 0, heads_ = 0, head_width_ = 0;
};

}  // namespace

Result<GgufModel> DescribeGguf(GgufFile& gguf, const std::string& what) {
  return Describer(gguf, what).Describe();
}

std::vector<std::string> GgufArchitectureNames() {
  std::vector<std::string> names;
  for (const GgufArchitecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

}  // namespace headroom::convert
