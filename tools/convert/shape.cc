#include "convert/shape.h"

#include <algorithm>
#include <cmath>

namespace headroom::convert {
namespace {

constexpr uint32_t kMaxChannels = 1u << 20;
constexpr uint32_t kMaxLayers = 4096;
constexpr uint32_t kMaxHeads = 4096;
constexpr uint32_t kMaxHeadWidth = 4096;
constexpr uint32_t kMaxContext = 1u << 30;
constexpr double kHuge = 1e12;

std::string Key(std::string_view name) { return std::string(name); }

Status Unsupported(const Config& config, const char* key, const std::string& value) {
  return Status::Make(StatusCode::kUnsupported, "%s: \"%s\" is \"%s\", which no recipe executes",
                      config.what().c_str(), key, Printable(value).c_str());
}

Result<const Recipe*> ReadArchitecture(Config& config) {
  HR_ASSIGN_OR_RETURN(const auto names, config.Strings("architectures"));
  if (!names || names->size() != 1) {
    return Status::Make(StatusCode::kCorrupt, "%s: \"architectures\" must name one architecture",
                        config.what().c_str());
  }
  if (const Recipe* recipe = FindRecipe(names->front())) return recipe;
  return Status::Make(StatusCode::kUnsupported, "architecture \"%s\" has no recipe",
                      Printable(names->front()).c_str());
}

Result<bool> ReadFlag(Config& config, const Flag& flag) {
  if (flag.key.empty()) return flag.otherwise;
  HR_ASSIGN_OR_RETURN(const auto value, config.Bool(Key(flag.key)));
  return value.value_or(flag.otherwise);
}

Result<model::Activation> ReadActivation(Config& config, const Recipe& recipe) {
  using model::Activation;
  static const std::pair<const char*, Activation> kNames[] = {
      {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
      {"gelu", Activation::kGeluErf},       {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"relu", Activation::kRelu}};
  const std::string key = Key(recipe.activation_key);
  HR_ASSIGN_OR_RETURN(const auto name, config.String(key));
  if (!name) {
    return Status::Make(StatusCode::kCorrupt, "%s lacks \"%s\"", config.what().c_str(),
                        key.c_str());
  }
  for (const auto& [known, activation] : kNames) {
    if (*name == known) return activation;
  }
  return Unsupported(config, key.c_str(), *name);
}

Status ReadSizes(Config& config, ModelShape& shape) {
  HR_ASSIGN_OR_RETURN(shape.channels, config.NeedCount("hidden_size", 1, kMaxChannels));
  HR_ASSIGN_OR_RETURN(shape.inner, config.NeedCount("intermediate_size", 1, kMaxChannels));
  HR_ASSIGN_OR_RETURN(const uint32_t layers, config.NeedCount("num_hidden_layers", 1, kMaxLayers));
  shape.layers.resize(layers);
  HR_ASSIGN_OR_RETURN(shape.query_heads, config.NeedCount("num_attention_heads", 1, kMaxHeads));
  HR_ASSIGN_OR_RETURN(const auto kv_heads, config.Count("num_key_value_heads", 1, kMaxHeads));
  shape.kv_heads = kv_heads.value_or(shape.query_heads);
  if (shape.query_heads % shape.kv_heads != 0) {
    return Status::Make(StatusCode::kCorrupt, "%u query heads are no multiple of %u KV heads",
                        shape.query_heads, shape.kv_heads);
  }
  HR_ASSIGN_OR_RETURN(const auto head_width, config.Count("head_dim", 1, kMaxHeadWidth));
  const uint32_t otherwise = shape.recipe->default_head_dim ? shape.recipe->default_head_dim
                                                            : shape.channels / shape.query_heads;
  shape.head_width = head_width.value_or(otherwise);
  if (shape.head_width == 0 || shape.head_width > kMaxHeadWidth) {
    return Status::Make(StatusCode::kCorrupt, "head width %u, must be 1 to %u", shape.head_width,
                        kMaxHeadWidth);
  }
  HR_ASSIGN_OR_RETURN(shape.vocabulary, config.NeedCount("vocab_size", 1, 1u << 26));
  HR_ASSIGN_OR_RETURN(shape.context_tokens,
                      config.NeedCount("max_position_embeddings", 1, kMaxContext));
  return {};
}

Status ReadScalars(Config& config, ModelShape& shape) {
  const Recipe& recipe = *shape.recipe;
  HR_ASSIGN_OR_RETURN(const double epsilon, config.NeedNumber(Key(recipe.epsilon_key), 0.0, 1.0));
  shape.epsilon = static_cast<float>(epsilon);
  HR_ASSIGN_OR_RETURN(shape.activation, ReadActivation(config, recipe));
  if (recipe.activation_key != "hidden_act") config.Ignore("hidden_act");
  HR_ASSIGN_OR_RETURN(shape.parallel, ReadFlag(config, recipe.parallel));
  HR_ASSIGN_OR_RETURN(shape.query_key_value_bias, ReadFlag(config, recipe.query_key_value_bias));
  HR_ASSIGN_OR_RETURN(shape.attention_output_bias, ReadFlag(config, recipe.attention_output_bias));
  HR_ASSIGN_OR_RETURN(shape.mlp_bias, ReadFlag(config, recipe.mlp_bias));
  HR_ASSIGN_OR_RETURN(shape.tied,
                      ReadFlag(config, {"tie_word_embeddings", recipe.tied_by_default}));
  const auto optional = [&](std::string_view key, double otherwise, float* out) -> Status {
    *out = static_cast<float>(otherwise);
    if (key.empty()) return {};
    HR_ASSIGN_OR_RETURN(const auto value, config.Number(Key(key), 1e-6, kHuge));
    *out = static_cast<float>(value.value_or(otherwise));
    return {};
  };
  float scalar = 0.0f;
  HR_RETURN_IF_ERROR(optional(recipe.query_scalar_key, shape.head_width, &scalar));
  shape.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(scalar)));
  HR_RETURN_IF_ERROR(optional(recipe.attention_softcap_key, 0.0, &shape.attention_softcap));
  HR_RETURN_IF_ERROR(optional(recipe.logit_softcap_key, 0.0, &shape.logit_softcap));
  return optional(recipe.logit_scale_key, recipe.default_logit_scale, &shape.logit_scale);
}

// ---- Windows

// Which layers are windowed: `layer_types` where the file states it, otherwise the recipe's rule.
Result<std::vector<bool>> ReadWindowedLayers(Config& config, const ModelShape& shape) {
  const size_t layers = shape.layers.size();
  std::vector<bool> windowed(layers, false);
  HR_ASSIGN_OR_RETURN(const auto pattern, config.Count("sliding_window_pattern", 1, kMaxLayers));
  HR_ASSIGN_OR_RETURN(const auto first, config.Count("max_window_layers", 0, UINT32_MAX));
  HR_ASSIGN_OR_RETURN(const auto types, config.Strings("layer_types"));
  if (types && types->size() != layers) {
    return Status::Make(StatusCode::kCorrupt, "%s: %zu layer_types for %zu layers",
                        config.what().c_str(), types->size(), layers);
  }
  for (size_t i = 0; i < layers; ++i) {
    if (types) {
      const std::string& type = (*types)[i];
      windowed[i] = type == "sliding_attention";
      if (!windowed[i] && type != "full_attention") return Unsupported(config, "layer_types", type);
      continue;
    }
    switch (shape.recipe->windows) {
      case WindowRule::kNone:
        break;
      case WindowRule::kAll:
        windowed[i] = true;
        break;
      case WindowRule::kLastLayers:
        windowed[i] = first && i >= *first;
        break;
      case WindowRule::kEvenLayers:
        windowed[i] = i % 2 == 0;
        break;
      case WindowRule::kPattern:
        windowed[i] = (i + 1) % pattern.value_or(6) != 0;
        break;
    }
  }
  return windowed;
}

Status ReadWindows(Config& config, ModelShape& shape, std::vector<bool>* windowed) {
  windowed->assign(shape.layers.size(), false);
  if (shape.recipe->windows == WindowRule::kNone) {
    HR_ASSIGN_OR_RETURN(const auto types, config.Strings("layer_types"));
    for (const std::string& type : types.value_or(std::vector<std::string>())) {
      if (type != "full_attention") return Unsupported(config, "layer_types", type);
    }
    return {};
  }
  HR_ASSIGN_OR_RETURN(const auto window, config.Count("sliding_window", 1, kMaxContext));
  bool used = true;
  if (shape.recipe->windows == WindowRule::kLastLayers) {
    HR_ASSIGN_OR_RETURN(used, ReadFlag(config, {"use_sliding_window", false}));
  }
  HR_ASSIGN_OR_RETURN(*windowed, ReadWindowedLayers(config, shape));
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    // The published count includes the token itself, ours does not.
    if (used && window && (*windowed)[i]) shape.layers[i].left = *window - 1;
  }
  return {};
}

// ---- Rotation

Result<RopeScaling> ReadScalingKind(Config& rope) {
  HR_ASSIGN_OR_RETURN(const auto type, rope.String("rope_type"));
  HR_ASSIGN_OR_RETURN(const auto old_type, rope.String("type"));
  const std::string name = type ? *type : old_type.value_or("default");
  if (name == "default") return RopeScaling::kNone;
  if (name == "linear") return RopeScaling::kLinear;
  if (name == "llama3") return RopeScaling::kLlama3;
  if (name == "yarn") return RopeScaling::kYarn;
  return Unsupported(rope, "rope_type", name);
}

Status ReadYarn(Config& rope, RopeParameters& p) {
  const auto number = [&](const char* key, double otherwise, double* out) -> Status {
    HR_ASSIGN_OR_RETURN(const auto value, rope.Number(key, 1e-9, kHuge));
    *out = value.value_or(otherwise);
    return {};
  };
  HR_RETURN_IF_ERROR(number("beta_fast", 32.0, &p.beta_fast));
  HR_RETURN_IF_ERROR(number("beta_slow", 1.0, &p.beta_slow));
  HR_RETURN_IF_ERROR(number("attention_factor", 0.0, &p.attention_factor));
  HR_RETURN_IF_ERROR(number("mscale", 0.0, &p.mscale));
  HR_RETURN_IF_ERROR(number("mscale_all_dim", 0.0, &p.mscale_all_dims));
  HR_ASSIGN_OR_RETURN(p.truncate, ReadFlag(rope, {"truncate", true}));
  rope.Ignore("finetuned");
  return {};
}

// Reads the scaling object (`rope_scaling`, `rope_parameters` or one of its parts) over `p`.
Status ReadRopeObject(Config& rope, const ModelShape& shape, double share, RopeParameters& p) {
  HR_ASSIGN_OR_RETURN(const auto base, rope.Number("rope_theta", 1.0001, kHuge));
  p.base = base.value_or(p.base);
  HR_ASSIGN_OR_RETURN(const auto own_share, rope.Number("partial_rotary_factor", 0.0, 1.0));
  p.dims = static_cast<uint32_t>(shape.head_width * own_share.value_or(share));
  HR_ASSIGN_OR_RETURN(p.scaling, ReadScalingKind(rope));
  if (p.scaling != RopeScaling::kNone) {
    HR_ASSIGN_OR_RETURN(p.factor, rope.NeedNumber("factor", 1e-3, 1e6));
  }
  if (p.scaling == RopeScaling::kLlama3) {
    HR_ASSIGN_OR_RETURN(p.low_frequency_factor, rope.NeedNumber("low_freq_factor", 1e-6, kHuge));
    HR_ASSIGN_OR_RETURN(p.high_frequency_factor, rope.NeedNumber("high_freq_factor", 1e-6, kHuge));
    HR_ASSIGN_OR_RETURN(p.original_context,
                        rope.NeedNumber("original_max_position_embeddings", 1, kMaxContext));
    if (p.high_frequency_factor <= p.low_frequency_factor) {
      return Status::Make(StatusCode::kCorrupt, "%s: high_freq_factor %g <= low_freq_factor %g",
                          rope.what().c_str(), p.high_frequency_factor, p.low_frequency_factor);
    }
  }
  if (p.scaling == RopeScaling::kYarn) {
    HR_ASSIGN_OR_RETURN(const auto original,
                        rope.Number("original_max_position_embeddings", 1, kMaxContext));
    p.original_context = original.value_or(shape.context_tokens);
    HR_RETURN_IF_ERROR(ReadYarn(rope, p));
  }
  // Newer files repeat the trained context even where nothing is scaled.
  rope.Ignore("original_max_position_embeddings");
  return rope.RefuseUnused();
}

// `global` for layers that see everything, `local` for windowed ones.
Status ReadRopes(Config& config, const ModelShape& shape, RopeParameters* global,
                 RopeParameters* local) {
  const Recipe& recipe = *shape.recipe;
  double share = recipe.default_rotary_share;
  if (!recipe.rotary_share_key.empty()) {
    HR_ASSIGN_OR_RETURN(const auto given, config.Number(Key(recipe.rotary_share_key), 0.0, 1.0));
    share = given.value_or(share);
  }
  for (const std::string& key : {Key(recipe.rope_base_key), std::string("rope_theta")}) {
    HR_ASSIGN_OR_RETURN(const auto base, config.Number(key, 1.0001, kHuge));
    if (base) global->base = *base;
  }
  global->dims = local->dims = static_cast<uint32_t>(shape.head_width * share);
  local->base = global->base;
  const bool has_local = !recipe.local_rope_base_key.empty();
  if (has_local) {
    HR_ASSIGN_OR_RETURN(const auto base,
                        config.Number(Key(recipe.local_rope_base_key), 1.0001, kHuge));
    local->base = base.value_or(10000.0);
  }
  HR_ASSIGN_OR_RETURN(auto scaling, config.Object("rope_scaling"));
  HR_ASSIGN_OR_RETURN(auto parameters, config.Object("rope_parameters"));
  if (parameters && parameters->Has("full_attention")) {  // one object for each kind of layer
    HR_ASSIGN_OR_RETURN(auto full, parameters->Object("full_attention"));
    HR_ASSIGN_OR_RETURN(auto sliding, parameters->Object("sliding_attention"));
    HR_RETURN_IF_ERROR(ReadRopeObject(*full, shape, share, *global));
    if (sliding) HR_RETURN_IF_ERROR(ReadRopeObject(*sliding, shape, share, *local));
    return parameters->RefuseUnused();
  }
  if (parameters) scaling = std::move(parameters);
  if (scaling) HR_RETURN_IF_ERROR(ReadRopeObject(*scaling, shape, share, *global));
  if (!has_local) *local = *global;
  return {};
}

Status AssignRopes(Config& config, const std::vector<bool>& windowed, ModelShape& shape) {
  RopeParameters global, local;
  HR_RETURN_IF_ERROR(ReadRopes(config, shape, &global, &local));
  for (const RopeParameters& p : {global, local}) {
    if (p.dims % 2 != 0) {
      return Status::Make(StatusCode::kUnsupported, "%u rotated dimensions of a head of %u: odd",
                          p.dims, shape.head_width);
    }
  }
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const RopeParameters& wanted = windowed[i] ? local : global;
    const auto found = std::find(shape.ropes.begin(), shape.ropes.end(), wanted);
    shape.layers[i].rope = static_cast<size_t>(found - shape.ropes.begin());
    if (found == shape.ropes.end()) shape.ropes.push_back(wanted);
  }
  return {};
}

Status RefuseOthers(Config& config) {
  for (const std::string_view key : NeutralKeys()) config.Ignore(Key(key));
  for (const std::string_view key : FalseOnlyKeys()) {
    HR_ASSIGN_OR_RETURN(const auto value, config.Bool(Key(key)));
    if (value.value_or(false)) return Unsupported(config, Key(key).c_str(), "true");
  }
  return config.RefuseUnused();
}

}  // namespace

Result<ModelShape> ReadShape(Config& config) {
  ModelShape shape;
  HR_ASSIGN_OR_RETURN(shape.recipe, ReadArchitecture(config));
  HR_RETURN_IF_ERROR(ReadSizes(config, shape));
  HR_RETURN_IF_ERROR(ReadScalars(config, shape));
  std::vector<bool> windowed;
  HR_RETURN_IF_ERROR(ReadWindows(config, shape, &windowed));
  HR_RETURN_IF_ERROR(AssignRopes(config, windowed, shape));
  HR_ASSIGN_OR_RETURN(shape.end_tokens, config.Tokens("eos_token_id"));
  HR_RETURN_IF_ERROR(RefuseOthers(config));
  return shape;
}

}  // namespace headroom::convert
