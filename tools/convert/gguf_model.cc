#include "convert/gguf_model.h"

#include <algorithm>
#include <cmath>

#include "convert/gguf_keys.h"
#include "convert/gguf_mamba.h"
#include "convert/gguf_names.h"
#include "convert/gguf_rope.h"

namespace headroom::convert {
namespace {

// Keys that say nothing about the mathematics, or say again what tensors do.
constexpr std::string_view kNeutralKeys[] = {"tensor_data_layout", "rope.scaling.finetuned",
                                             "pooling_type"};

Status Refuse(const std::string& what, const std::string& key, const std::string& why) {
  return Status::Make(StatusCode::kUnsupported, "%s: \"%s\" %s", what.c_str(),
                      Printable(key).c_str(), why.c_str());
}

Result<const GgufArchitecture*> FindArchitecture(const GgufFile& gguf, const std::string& what) {
  const GgufValue* value = gguf.Find("general.architecture");
  if (!value || value->is_array() || value->type() != GgufType::kText) {
    return Status::Make(StatusCode::kCorrupt, "%s: lacks \"general.architecture\"", what.c_str());
  }
  const std::string_view name = value->Texts()[0];
  for (const GgufArchitecture& architecture : GgufArchitectures()) {
    if (architecture.name == name) return &architecture;
  }
  return Status::Make(StatusCode::kUnsupported,
                      "%s: architecture \"%s\" has no recipe for GGUF files; `headroom convert "
                      "--help` lists those that have one",
                      what.c_str(), Printable(name).c_str());
}

Status CheckGeneral(const GgufFile& gguf, const std::string& what) {
  const GgufValue* type = gguf.Find("general.type");
  const bool is_text = type && !type->is_array() && type->type() == GgufType::kText;
  if (is_text && type->Texts()[0] != "model")
    return Refuse(what, "general.type", "is \"" + Printable(type->Texts()[0]) + "\", not a model");
  const GgufValue* version = gguf.Find("general.quantization_version");
  if (version && (version->is_array() || version->Numbers() != std::vector<double>{2.0})) {
    return Refuse(what, "general.quantization_version",
                  "is not 2, the only one whose blocks are read");
  }
  for (const auto& [key, value] : gguf.metadata) {
    if (key.starts_with("general.tensor_extra.")) return Refuse(what, key, "is not understood");
  }
  return {};
}

class Describer {
 public:
  Describer(const GgufArchitecture& architecture, GgufFile& gguf, const std::string& what)
      : architecture_(architecture), gguf_(gguf), keys_(gguf, what, architecture.name) {}

  Result<GgufModel> Describe() {
    HR_RETURN_IF_ERROR(SetRecipe());
    HR_RETURN_IF_ERROR(Sizes());
    HR_RETURN_IF_ERROR(out_.recipe.mixture ? Experts() : NoExperts());
    HR_RETURN_IF_ERROR(Scales());
    HR_RETURN_IF_ERROR(Windows());
    HR_RETURN_IF_ERROR(
        DescribeGgufRotation(architecture_, out_.recipe, head_width_, gguf_, keys_, out_.config));
    for (const std::string_view key : kNeutralKeys) keys_.Ignore(key);
    HR_RETURN_IF_ERROR(keys_.RefuseUnused());
    return std::move(out_);
  }

 private:
  using Number = GgufKeys::Number;

  void Set(std::string_view key, Json value) { out_.config[std::string(key)] = std::move(value); }

  // The value goes under the recipe's name for it; where the recipe has none, it may only be
  // `neutral`.
  Status Carry(std::string_view from, std::string_view to, double neutral) {
    HR_ASSIGN_OR_RETURN(const Number number, keys_.Read(from));
    if (!number || *number == neutral) return {};
    if (to.empty()) return keys_.Refuse(from, "means nothing this architecture's recipe executes");
    Set(to, ToJson(*number));
    return {};
  }

  bool Has(const std::string& tensor) const { return gguf_.tensors.count(tensor) != 0; }

  // ---- the recipe

  Result<const Recipe*> ChooseRecipe() {
    HR_ASSIGN_OR_RETURN(const Number experts, keys_.Read("expert_count"));
    std::string_view name = architecture_.recipe;
    if (experts.value_or(0) != 0 && !architecture_.mixture_recipe.empty()) {
      name = architecture_.mixture_recipe;
    } else if (keys_.Find("attention.sliding_window") && !architecture_.window_recipe.empty()) {
      name = architecture_.window_recipe;
    }
    if (const Recipe* recipe = FindRecipe(name)) return recipe;
    return Status::Make(StatusCode::kInternal, "no recipe %s", std::string(name).c_str());
  }

  Status SetRecipe() {
    HR_ASSIGN_OR_RETURN(const Recipe* recipe, ChooseRecipe());
    Recipe& out = out_.recipe = *recipe;
    out.names = NamesInGguf(recipe->names, architecture_);
    if (recipe->mixture) out.mixture = MixtureInGguf(*recipe->mixture, architecture_);
    out.optional_prefix = "";
    out.layers_transposed = false;
    out.norm_plus_one = false;
    if (architecture_.neighbours) out.rope_layout = model::RopeLayout::kInterleaved;
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
    Set("architectures", {std::string(recipe->architecture)});
    Set("tie_word_embeddings", !Has("output.weight"));
    Set(out.activation_key, std::string(architecture_.activation));
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
      HR_ASSIGN_OR_RETURN(const double number, keys_.Need(from));
      Set(to, ToJson(number));
    }
    HR_ASSIGN_OR_RETURN(const uint64_t vocabulary, keys_.ReadVocabulary());
    Set("vocab_size", vocabulary);
    HR_RETURN_IF_ERROR(Carry("attention.head_count_kv", "num_key_value_heads", -1));
    const bool layer_norm = recipe.norm == model::NormKind::kLayer;
    HR_ASSIGN_OR_RETURN(const double epsilon,
                        keys_.Need(layer_norm ? "attention.layer_norm_epsilon"
                                              : "attention.layer_norm_rms_epsilon"));
    Set(recipe.epsilon_key, epsilon);
    return HeadWidth();
  }

  Status HeadWidth() {
    HR_ASSIGN_OR_RETURN(channels_, keys_.Need("embedding_length"));
    HR_ASSIGN_OR_RETURN(heads_, keys_.Need("attention.head_count"));
    if (!(heads_ >= 1 && channels_ >= heads_))
      return keys_.Corrupt("fewer channels than query heads");
    HR_ASSIGN_OR_RETURN(const Number key, keys_.Read("attention.key_length"));
    HR_ASSIGN_OR_RETURN(const Number value, keys_.Read("attention.value_length"));
    head_width_ = key.value_or(std::floor(channels_ / heads_));
    if (value.value_or(head_width_) != head_width_)
      return keys_.Refuse("attention.value_length", "differs from the length of a key");
    if (!(head_width_ >= 1 && head_width_ <= 1 << 20)) return keys_.Corrupt("no head width");
    Set("head_dim", ToJson(head_width_));
    return {};
  }

  // ---- mixtures of experts

  Status NoExperts() {
    for (const std::string_view key : {"expert_count", "expert_used_count"}) {
      HR_ASSIGN_OR_RETURN(const Number experts, keys_.Read(key));
      if (experts.value_or(0) != 0) return keys_.Refuse(key, "needs a mixture of experts");
    }
    return {};
  }

  Status Experts() {
    const MixtureRecipe& mixture = *out_.recipe.mixture;
    HR_ASSIGN_OR_RETURN(const double experts,
                        keys_.NeedCount("expert_count", 1, model::kMaxExperts));
    HR_ASSIGN_OR_RETURN(
        const double chosen,
        keys_.NeedCount("expert_used_count", 1, std::min<double>(experts, model::kMaxChosen)));
    Set("num_experts", ToJson(experts));
    Set("num_experts_per_tok", ToJson(chosen));
    HR_ASSIGN_OR_RETURN(const double inner, keys_.Need("feed_forward_length"));
    HR_ASSIGN_OR_RETURN(const Number own, keys_.Read("expert_feed_forward_length"));
    const bool one_size = mixture.inner_key == out_.recipe.sizes.inner;
    const double otherwise = one_size ? inner : std::floor(inner / chosen);
    Set(mixture.inner_key, ToJson(own.value_or(0) != 0 ? *own : otherwise));
    HR_RETURN_IF_ERROR(SharedExpert(inner));
    return ExpertWeights();
  }

  Status SharedExpert(double inner) {
    const auto& shared = out_.recipe.mixture->shared;
    if (!shared.weight.empty()) Set(shared.inner_key, ToJson(inner));
    HR_RETURN_IF_ERROR(Carry("expert_shared_feed_forward_length", shared.inner_key, 0));
    // A matrix of one row is a vector in some files.
    for (auto& [name, tensor] : gguf_.tensors) {
      if (name.ends_with(".ffn_gate_inp_shexp.weight") && tensor.shape.size() == 1)
        tensor.shape.insert(tensor.shape.begin(), 1);
    }
    return {};
  }

  // llama.cpp weighs experts as the architecture's code says; a key can only say the same.
  Status ExpertWeights() {
    HR_ASSIGN_OR_RETURN(const auto renormalise, keys_.ReadFlag("expert_weights_norm"));
    const bool same = renormalise.value_or(architecture_.renormalise) == architecture_.renormalise;
    const bool sum_is_one = out_.recipe.mixture->score == model::ExpertScore::kChosenSoftmax;
    if (!same && !sum_is_one)
      return keys_.Refuse("expert_weights_norm", "is not what this architecture does");
    HR_ASSIGN_OR_RETURN(const Number scale, keys_.Read("expert_weights_scale"));
    if (scale.value_or(0) != 0 && *scale != 1)
      return keys_.Refuse("expert_weights_scale", "is " + ToJson(*scale).dump() + ", not 1");
    HR_ASSIGN_OR_RETURN(const Number gating, keys_.Read("expert_gating_func"));
    const auto usual = static_cast<double>(architecture_.gating);
    if (gating.value_or(0) != 0 && *gating != usual) {
      return keys_.Refuse("expert_gating_func",
                          "is " + ToJson(*gating).dump() + ", not " + ToJson(usual).dump());
    }
    return {};
  }

  // ---- scales

  Status Scales() {
    const Recipe& recipe = out_.recipe;
    if (!recipe.query_scalar_key.empty()) {
      HR_ASSIGN_OR_RETURN(const double layers, keys_.Need("block_count"));
      const bool wide = layers == architecture_.wide_scale_layers;
      Set(recipe.query_scalar_key, ToJson(wide ? std::floor(channels_ / heads_) : head_width_));
    }
    if (!recipe.attention_scale_key.empty()) {
      Set(recipe.attention_scale_key, 1.0 / std::sqrt(head_width_));
    }
    if (!recipe.logit_divisor_key.empty()) HR_RETURN_IF_ERROR(keys_.Need("logit_scale").status());
    const std::string_view logit_scale =
        recipe.logit_divisor_key.empty() ? recipe.logit_scale_key : recipe.logit_divisor_key;
    // 0 is how a file says that there is no such scale.
    HR_RETURN_IF_ERROR(Carry("attention.scale", recipe.attention_scale_key, 0));
    HR_RETURN_IF_ERROR(Carry("embedding_scale", recipe.embedding_scale_key, 0));
    HR_RETURN_IF_ERROR(Carry("residual_scale", recipe.residual_scale_key, 0));
    HR_RETURN_IF_ERROR(Carry("logit_scale", logit_scale, 0));
    HR_RETURN_IF_ERROR(Carry("attn_logit_softcapping", recipe.attention_softcap_key, 0));
    HR_RETURN_IF_ERROR(Carry("final_logit_softcapping", recipe.logit_softcap_key, 0));
    HR_ASSIGN_OR_RETURN(const auto causal, keys_.ReadFlag("attention.causal"));
    return causal.value_or(true) ? Status() : keys_.Refuse("attention.causal", "is not true");
  }

  // ---- windows

  Status Windows() {
    HR_ASSIGN_OR_RETURN(const double layers, keys_.Need("block_count"));
    HR_ASSIGN_OR_RETURN(const Number stated, keys_.Read("attention.sliding_window"));
    const GgufValue* pattern = keys_.Find("attention.sliding_window_pattern");
    const double window = stated.value_or(architecture_.default_window);
    const WindowRule rule = out_.recipe.windows;
    if (window == 0 || rule == WindowRule::kNone || out_.recipe.windows_if_used) {
      if (window != 0)
        return keys_.Refuse("attention.sliding_window", "is not executed for this architecture");
      return SetLayerTypes(layers, 0, nullptr);
    }
    Set("sliding_window", ToJson(window));
    if (rule == WindowRule::kAll && !pattern) return {};
    return SetLayerTypes(layers, architecture_.window_period, pattern);
  }

  // `pattern`: a period, or for each layer whether it is windowed.
  Status SetLayerTypes(double layers, double period, const GgufValue* pattern) {
    if (!(layers >= 1 && layers <= kMaxGgufLayers)) return keys_.Corrupt("no layers, or too many");
    std::vector<double> listed;
    if (pattern && pattern->count() <= kMaxGgufLayers) listed = pattern->Numbers();
    if (pattern && (listed.empty() || (pattern->is_array() && listed.size() < layers)))
      return keys_.Corrupt(keys_.Quoted("attention.sliding_window_pattern") +
                           " is neither a period nor a list of all layers");
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

  const GgufArchitecture& architecture_;
  GgufFile& gguf_;
  GgufKeys keys_;
  GgufModel out_;
  double channels_ = 0, heads_ = 0, head_width_ = 0;
};

}  // namespace

Result<GgufModel> DescribeGguf(GgufFile& gguf, const std::string& what) {
  HR_ASSIGN_OR_RETURN(const GgufArchitecture* architecture, FindArchitecture(gguf, what));
  HR_RETURN_IF_ERROR(CheckGeneral(gguf, what));
  const Recipe* recipe = FindRecipe(architecture->recipe);
  if (recipe && recipe->linear) {
    GgufKeys keys(gguf, what, architecture->name);
    return DescribeGgufMamba(*recipe, gguf, keys);
  }
  return Describer(*architecture, gguf, what).Describe();
}

std::vector<std::string> GgufArchitectureNames() {
  std::vector<std::string> names;
  for (const GgufArchitecture& architecture : GgufArchitectures())
    names.emplace_back(architecture.name);
  for (const char* name : {"rwkv6", "rwkv7"}) names.emplace_back(name);  // see rwkv.h
  return names;
}

}  // namespace headroom::convert
