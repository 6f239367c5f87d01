#include "convert/shape.h"

#include <algorithm>
#include <cmath>

#include "convert/shape_parts.h"

namespace headroom::convert {
namespace {

constexpr uint32_t kMaxHeads = 4096;

Result<const Recipe*> ReadArchitecture(Config& config) {
  HR_ASSIGN_OR_RETURN(const auto names, config.Strings("architectures"));
  if (!names || names->size() != 1) {
    return Status::Make(StatusCode::kCorrupt, "%s: \"architectures\" must name one architecture",
                        config.what().c_str());
  }
  if (const Recipe* recipe = FindRecipe(names->front())) return recipe;
  return Status::Make(StatusCode::kUnsupported,
                      "architecture \"%s\" has no recipe; `headroom convert --help` lists those "
                      "that have one",
                      Printable(names->front()).c_str());
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
  const std::string value = name.value_or(std::string(recipe.default_activation));
  if (value.empty()) {
    return Status::Make(StatusCode::kCorrupt, "%s lacks \"%s\"", config.what().c_str(),
                        key.c_str());
  }
  for (const auto& [known, activation] : kNames) {
    if (value == known) return activation;
  }
  return Unsupported(config, key.c_str(), value);
}

// Heads, and how wide they are; where no layer has attention there is nothing to read.
Status ReadHeads(Config& config, ModelShape& shape) {
  const SizeKeys& keys = shape.recipe->sizes;
  if (!shape.recipe->attention) return {};
  HR_ASSIGN_OR_RETURN(shape.query_heads, config.NeedCount(Key(keys.query_heads), 1, kMaxHeads));
  HR_ASSIGN_OR_RETURN(const auto kv_heads, config.Count(Key(keys.kv_heads), 1, kMaxHeads));
  const uint32_t only = shape.recipe->only_kv_heads;
  shape.kv_heads = kv_heads.value_or(only != 0 ? only : shape.query_heads);
  if (only != 0 && shape.kv_heads != only) {
    return Status::Make(StatusCode::kUnsupported, "%u KV heads, this architecture has %u",
                        shape.kv_heads, only);
  }
  if (!keys.query_rank.empty()) {
    HR_ASSIGN_OR_RETURN(shape.query_rank, config.NeedCount(Key(keys.query_rank), 1, kMaxChannels));
  }
  if (shape.query_heads % shape.kv_heads != 0) {
    return Status::Make(StatusCode::kCorrupt, "%u query heads are no multiple of %u KV heads",
                        shape.query_heads, shape.kv_heads);
  }
  const bool by_head = !shape.recipe->names.query_key_value.empty() &&
                       shape.recipe->fused_rows == FusedRows::kByHead;
  if (by_head && shape.kv_heads != shape.query_heads) {
    return Status::Make(StatusCode::kUnsupported, "%u KV heads, this architecture has all %u",
                        shape.kv_heads, shape.query_heads);
  }
  HR_ASSIGN_OR_RETURN(const auto head_width, config.Count("head_dim", 1, kMaxHeadWidth));
  const uint32_t otherwise = shape.recipe->default_head_dim ? shape.recipe->default_head_dim
                                                            : shape.channels / shape.query_heads;
  shape.head_width = head_width.value_or(otherwise);
  if (shape.head_width == 0 || shape.head_width > kMaxHeadWidth) {
    return Status::Make(StatusCode::kCorrupt, "head width %u, must be 1 to %u", shape.head_width,
                        kMaxHeadWidth);
  }
  return {};
}

Status ReadSizes(Config& config, ModelShape& shape) {
  const SizeKeys& keys = shape.recipe->sizes;
  HR_ASSIGN_OR_RETURN(shape.channels, config.NeedCount(Key(keys.channels), 1, kMaxChannels));
  if (shape.recipe->names.down.empty()) {
    shape.inner = 0;
  } else if (keys.default_inner != 0 && !config.Has(Key(keys.inner))) {
    shape.inner = keys.default_inner * shape.channels;
  } else {
    HR_ASSIGN_OR_RETURN(shape.inner, config.NeedCount(Key(keys.inner), 1, kMaxChannels));
  }
  HR_ASSIGN_OR_RETURN(const uint32_t layers, config.NeedCount(Key(keys.layers), 1, kMaxLayers));
  shape.layers.resize(layers);
  HR_RETURN_IF_ERROR(ReadHeads(config, shape));
  HR_ASSIGN_OR_RETURN(shape.vocabulary, config.NeedCount("vocab_size", 1, 1u << 26));
  shape.trained_tokens = kAnyContext;
  if (keys.context.empty()) return {};
  HR_ASSIGN_OR_RETURN(shape.trained_tokens, config.NeedCount(Key(keys.context), 1, kMaxContext));
  return {};
}

Status SetContext(uint32_t context, ModelShape& shape) {
  if (context > shape.trained_tokens) {
    return Status::Make(StatusCode::kInvalidArgument, "context %u > trained maximum %u", context,
                        shape.trained_tokens);
  }
  shape.context_tokens = context != 0 ? context : shape.trained_tokens;
  return {};
}

Status ReadMlpScales(Config& config, ModelShape& shape) {
  const std::string key = Key(shape.recipe->mlp_scales_key);
  if (key.empty()) return {};
  HR_ASSIGN_OR_RETURN(const auto scales, config.Numbers(key, 1e-6, kHuge));
  if (!scales) return {};
  if (scales->size() != 2) {
    return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" has %zu numbers, not 2",
                        config.what().c_str(), key.c_str(), scales->size());
  }
  shape.mlp_gate_scale = static_cast<float>((*scales)[0]);
  shape.mlp_scale = static_cast<float>((*scales)[1]);
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
  HR_RETURN_IF_ERROR(optional(recipe.query_scalar_key, std::max(shape.head_width, 1u), &scalar));
  shape.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(scalar)));
  if (!recipe.attention_scale_key.empty()) {
    HR_RETURN_IF_ERROR(optional(recipe.attention_scale_key, 1.0, &shape.attention_scale));
  }
  const double root = std::sqrt(static_cast<double>(shape.channels));
  HR_RETURN_IF_ERROR(optional(recipe.embedding_scale_key, recipe.scale_embedding ? root : 1.0,
                              &shape.embedding_scale));
  HR_RETURN_IF_ERROR(optional(recipe.residual_scale_key, 1.0, &shape.residual_scale));
  HR_RETURN_IF_ERROR(optional(recipe.attention_input_scale_key, 1.0, &shape.attention_input_scale));
  HR_RETURN_IF_ERROR(
      optional(recipe.attention_output_scale_key, 1.0, &shape.attention_output_scale));
  HR_RETURN_IF_ERROR(optional(recipe.key_scale_key, 1.0, &shape.key_scale));
  HR_RETURN_IF_ERROR(ReadMlpScales(config, shape));
  for (const auto& [keys, scales] : {std::pair(&recipe.attention_branch, &shape.attention_branch),
                                     std::pair(&recipe.linear_branch, &shape.linear_branch),
                                     std::pair(&recipe.mlp_branch, &shape.mlp_branch)}) {
    HR_RETURN_IF_ERROR(optional(keys->residual, 1.0, &scales->residual));
    HR_RETURN_IF_ERROR(optional(keys->branch, 1.0, &scales->branch));
  }
  HR_RETURN_IF_ERROR(optional(recipe.attention_softcap_key, 0.0, &shape.attention_softcap));
  HR_RETURN_IF_ERROR(optional(recipe.logit_softcap_key, 0.0, &shape.logit_softcap));
  if (!recipe.logit_divisor_key.empty()) {
    HR_RETURN_IF_ERROR(optional(recipe.logit_divisor_key, 1.0, &scalar));
    shape.logit_scale = static_cast<float>(1.0 / static_cast<double>(scalar));
    return {};
  }
  return optional(recipe.logit_scale_key, recipe.default_logit_scale, &shape.logit_scale);
}

// ---- Layers without rotation

// By layer; `no_rope_layers` holds 1 for a layer that is rotated and 0 for one that is not.
Result<std::vector<bool>> ReadUnrotatedLayers(Config& config, const ModelShape& shape) {
  const size_t layers = shape.layers.size();
  std::vector<bool> unrotated(layers, false);
  if (!shape.recipe->unrotated_layers) return unrotated;
  HR_ASSIGN_OR_RETURN(const auto rotated, config.Numbers("no_rope_layers", 0, 1));
  HR_ASSIGN_OR_RETURN(const auto interval, config.Count("no_rope_layer_interval", 1, UINT32_MAX));
  if (rotated && rotated->size() < layers) {
    return Status::Make(StatusCode::kCorrupt, "%s: %zu no_rope_layers for %zu layers",
                        config.what().c_str(), rotated->size(), layers);
  }
  for (size_t i = 0; i < layers; ++i) {
    unrotated[i] = rotated ? (*rotated)[i] == 0 : (i + 1) % interval.value_or(4) == 0;
  }
  return unrotated;
}

// ---- Windows

// Which layers are windowed: `layer_types` where the file states it, otherwise the recipe's rule.
Result<std::vector<bool>> ReadWindowedLayers(Config& config, const ModelShape& shape,
                                             const std::vector<bool>& unrotated) {
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
      case WindowRule::kEvenFirstLayers:
        windowed[i] = first && i < *first && i % 2 == 0;
        break;
      case WindowRule::kPattern:
        windowed[i] = (i + 1) % pattern.value_or(6) != 0;
        break;
      case WindowRule::kUnrotatedLayers:
        windowed[i] = unrotated[i];
        break;
    }
  }
  return windowed;
}

// What a file that turns windows on must say itself: the reference's defaults are not ours to know.
Status CheckUsedWindow(const Config& config, WindowRule rule) {
  const bool needs_first = rule == WindowRule::kLastLayers || rule == WindowRule::kEvenFirstLayers;
  const char* lacking =
      !config.Has("sliding_window") ? "sliding_window"
      : needs_first && !config.Has("max_window_layers") && !config.Has("layer_types")
          ? "max_window_layers"
          : nullptr;
  if (lacking == nullptr) return {};
  return Status::Make(StatusCode::kCorrupt, "%s uses windows and lacks \"%s\"",
                      config.what().c_str(), lacking);
}

Status ReadWindows(Config& config, const std::vector<bool>& unrotated, ModelShape& shape,
                   std::vector<bool>* windowed) {
  windowed->assign(shape.layers.size(), false);
  if (shape.recipe->linear) return {};  // ReadLinear has read the kinds of layers
  if (shape.recipe->windows == WindowRule::kNone) {
    HR_ASSIGN_OR_RETURN(const auto types, config.Strings("layer_types"));
    for (const std::string& type : types.value_or(std::vector<std::string>())) {
      if (type != "full_attention") return Unsupported(config, "layer_types", type);
    }
    return {};
  }
  bool used = true;
  const WindowRule rule = shape.recipe->windows;
  if (shape.recipe->windows_if_used) {
    HR_ASSIGN_OR_RETURN(used, ReadFlag(config, {"use_sliding_window", false}));
    if (used) HR_RETURN_IF_ERROR(CheckUsedWindow(config, rule));
  }
  // Where it is not used some files have a window of 0.
  HR_ASSIGN_OR_RETURN(const auto window, config.Count("sliding_window", used ? 1 : 0, kMaxContext));
  HR_ASSIGN_OR_RETURN(*windowed, ReadWindowedLayers(config, shape, unrotated));
  if (rule == WindowRule::kUnrotatedLayers && !used && window && config.Has("layer_types")) {
    // The reference then masks by layer_types with one of its kernels and not with another.
    for (const bool layer : *windowed) {
      if (layer) return Unsupported(config, "use_sliding_window", "false beside a window");
    }
  }
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
  if (name == "longrope" || name == "su") return RopeScaling::kLong;
  if (name == "divisors") return RopeScaling::kDivisors;  // only made here, from GGUF files
  return Unsupported(rope, "rope_type", name);
}

Result<std::vector<double>> ReadDivisors(Config& rope, const char* key, const RopeParameters& p) {
  HR_ASSIGN_OR_RETURN(auto divisors, rope.Numbers(key, 1e-3, 1e6));
  if (!divisors || divisors->size() != p.dims / 2) {
    return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" has %zu numbers, not %u",
                        rope.what().c_str(), key, divisors ? divisors->size() : 0, p.dims / 2);
  }
  return std::move(*divisors);
}

// Which of its two lists a longrope model uses depends on the length of the sequence, and cached
// keys of one list do not go with queries of the other. A file keeps one list: the one for
// sequences as long as the file's context.
Status ReadLongRope(Config& rope, const ModelShape& shape, RopeParameters& p) {
  HR_ASSIGN_OR_RETURN(const auto original,
                      rope.Number("original_max_position_embeddings", 2, kMaxContext));
  if (original && p.original_context != 0.0 && *original != p.original_context) {
    return Status::Make(StatusCode::kUnsupported,
                        "%s: \"original_max_position_embeddings\" is %g here and %g above",
                        rope.what().c_str(), *original, p.original_context);
  }
  p.original_context = original.value_or(p.original_context);
  if (p.original_context == 0.0) {
    return Status::Make(StatusCode::kCorrupt, "%s lacks \"original_max_position_embeddings\"",
                        rope.what().c_str());
  }
  HR_ASSIGN_OR_RETURN(const auto factor, rope.Number("factor", 1e-3, 1e6));
  p.factor = factor.value_or(shape.trained_tokens / p.original_context);
  HR_ASSIGN_OR_RETURN(const auto attention, rope.Number("attention_factor", 1e-9, kHuge));
  p.attention_factor = attention.value_or(0.0);
  const bool is_long = shape.context_tokens > p.original_context;
  for (const char* key : {"short_factor", "long_factor"}) {
    HR_ASSIGN_OR_RETURN(std::vector<double> divisors, ReadDivisors(rope, key, p));
    if (is_long == (std::string_view(key) == "long_factor")) p.divisors = std::move(divisors);
  }
  return {};
}

// "dynamic" with an `alpha` is another base once and for all; its other keys say nothing.
Result<bool> ReadRaisedBase(Config& rope, RopeParameters& p) {
  HR_ASSIGN_OR_RETURN(const auto alpha, rope.Number("alpha", 1e-3, kHuge));
  HR_ASSIGN_OR_RETURN(const auto type, rope.String("rope_type"));
  HR_ASSIGN_OR_RETURN(const auto old_type, rope.String("type"));
  if (!alpha || (type ? *type : old_type.value_or("")) != "dynamic" || p.dims <= 2) return false;
  p.base *= std::pow(*alpha, p.dims / (p.dims - 2.0));
  for (const char* key : {"factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
                          "original_max_position_embeddings"}) {
    rope.Ignore(key);
  }
  return true;
}

// Reads the scaling object (`rope_scaling`, `rope_parameters` or one of its parts) over `p`.
Status ReadRopeObject(Config& rope, const ModelShape& shape, double share, RopeParameters& p) {
  for (const std::string_view key : shape.recipe->neutral_rope_keys) rope.Ignore(Key(key));
  HR_ASSIGN_OR_RETURN(const auto base, rope.Number("rope_theta", 1.0001, kHuge));
  p.base = base.value_or(p.base);
  HR_ASSIGN_OR_RETURN(const auto own_share, rope.Number("partial_rotary_factor", 0.0, 1.0));
  p.dims = static_cast<uint32_t>(shape.head_width * own_share.value_or(share));
  HR_ASSIGN_OR_RETURN(const bool raised, ReadRaisedBase(rope, p));
  if (raised) return rope.RefuseUnused();
  HR_ASSIGN_OR_RETURN(p.scaling, ReadScalingKind(rope));
  if (p.scaling == RopeScaling::kLong) {
    HR_RETURN_IF_ERROR(ReadLongRope(rope, shape, p));
  } else if (p.scaling == RopeScaling::kDivisors) {
    HR_ASSIGN_OR_RETURN(p.divisors, ReadDivisors(rope, "divisors", p));
  } else if (p.scaling != RopeScaling::kNone) {
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
    p.original_context = original.value_or(shape.trained_tokens);
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
  global->base = recipe.default_rope_base;
  HR_ASSIGN_OR_RETURN(const auto original,
                      config.Number("original_max_position_embeddings", 2, kMaxContext));
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
  global->original_context = local->original_context = original.value_or(0.0);
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

std::string LongRopeNote(const RopeParameters& rope, const ModelShape& shape) {
  const std::string limit = std::to_string(static_cast<uint64_t>(rope.original_context));
  if (shape.context_tokens <= rope.original_context) {
    return "longrope: this file has the factors for sequences of up to " + limit + " tokens";
  }
  return "longrope: this file has the factors for sequences of more than " + limit +
         " tokens, also where a sequence is shorter; --context " + limit +
         " makes one with the factors for those";
}

Status AssignRopes(Config& config, const std::vector<bool>& windowed,
                   const std::vector<bool>& unrotated, ModelShape& shape) {
  RopeParameters global, local;
  if (shape.recipe->rotary) HR_RETURN_IF_ERROR(ReadRopes(config, shape, &global, &local));
  for (const RopeParameters& p : {global, local}) {
    if (p.dims % 2 != 0) {
      return Status::Make(StatusCode::kUnsupported, "%u rotated dimensions of a head of %u: odd",
                          p.dims, shape.head_width);
    }
  }
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const RopeParameters& rotated = windowed[i] ? local : global;
    RopeParameters wanted = unrotated[i] ? RopeParameters{} : rotated;
    wanted.interleaved = shape.rope_layout == model::RopeLayout::kInterleaved;
    const auto found = std::find(shape.ropes.begin(), shape.ropes.end(), wanted);
    shape.layers[i].rope = static_cast<size_t>(found - shape.ropes.begin());
    if (found == shape.ropes.end()) shape.ropes.push_back(wanted);
  }
  if (global.scaling == RopeScaling::kLong) shape.notes.push_back(LongRopeNote(global, shape));
  return {};
}

Status ReadSharing(Config& config, ModelShape& shape) {
  const Recipe& recipe = *shape.recipe;
  if (recipe.share_key.empty()) return {};
  HR_ASSIGN_OR_RETURN(const bool shares, ReadFlag(config, recipe.shares_layers));
  HR_ASSIGN_OR_RETURN(const auto given, config.Count(Key(recipe.share_key), 1, kMaxLayers));
  const uint32_t factor = shares ? given.value_or(1) : 1;
  for (uint32_t i = 0; i < shape.layers.size(); ++i) {
    if (i % factor != 0) shape.layers[i].source = static_cast<int32_t>(i - i % factor);
  }
  return {};
}

// Refuses what may change the result and was not asked for.
Status RefuseOthers(Config& config, const Recipe& recipe) {
  for (const auto keys : {NeutralKeys(), recipe.neutral_keys}) {
    for (const std::string_view key : keys) config.Ignore(Key(key));
  }
  for (const auto keys : {FalseOnlyKeys(), recipe.false_only_keys}) {
    for (const std::string_view key : keys) {
      HR_ASSIGN_OR_RETURN(const auto value, config.Bool(Key(key)));
      if (value.value_or(false)) return Unsupported(config, Key(key).c_str(), "true");
    }
  }
  for (const std::string_view key : recipe.true_only_keys) {
    HR_ASSIGN_OR_RETURN(const auto value, config.Bool(Key(key)));
    if (!value.value_or(true)) return Unsupported(config, Key(key).c_str(), "false");
  }
  return config.RefuseUnused();
}

// The text model's keys where they are an object within the others. Of those outside only one
// counts: whether the head is tied is said of the whole model, and the object may say otherwise.
Result<Config> ReadTextConfig(Config& config, const Recipe& recipe) {
  HR_ASSIGN_OR_RETURN(auto text, config.Object(Key(recipe.text_key)));
  if (!text) {
    return Status::Make(StatusCode::kCorrupt, "%s lacks \"%s\"", config.what().c_str(),
                        Key(recipe.text_key).c_str());
  }
  HR_ASSIGN_OR_RETURN(const bool tied,
                      ReadFlag(config, {"tie_word_embeddings", recipe.tied_by_default}));
  HR_RETURN_IF_ERROR(RefuseOthers(config, recipe));
  text->Set("tie_word_embeddings", tied);
  return std::move(*text);
}

Result<ModelShape> ReadTextShape(Config& config, uint32_t context, const Recipe& recipe) {
  ModelShape shape;
  shape.recipe = &recipe;
  HR_RETURN_IF_ERROR(ReadSizes(config, shape));
  HR_RETURN_IF_ERROR(SetContext(context, shape));
  HR_RETURN_IF_ERROR(ReadScalars(config, shape));
  HR_RETURN_IF_ERROR(ReadMixture(config, shape));
  shape.rope_layout = shape.recipe->rope_layout;
  HR_RETURN_IF_ERROR(ReadLatent(config, shape));
  HR_RETURN_IF_ERROR(ReadLinear(config, shape));
  HR_ASSIGN_OR_RETURN(const std::vector<bool> unrotated, ReadUnrotatedLayers(config, shape));
  std::vector<bool> windowed;
  HR_RETURN_IF_ERROR(ReadWindows(config, unrotated, shape, &windowed));
  HR_RETURN_IF_ERROR(AssignRopes(config, windowed, unrotated, shape));
  HR_RETURN_IF_ERROR(ReadReplacedLayers(config, shape));
  ScaleLatent(shape);
  HR_RETURN_IF_ERROR(ReadSharing(config, shape));
  HR_ASSIGN_OR_RETURN(shape.end_tokens, config.Tokens("eos_token_id"));
  HR_RETURN_IF_ERROR(RefuseOthers(config, *shape.recipe));
  return shape;
}

}  // namespace

Status ReadYarn(Config& rope, RopeParameters& p) {
  const auto number = [&](const char* key, double otherwise, double* out) -> Status {
    HR_ASSIGN_OR_RETURN(const auto value, rope.Number(key, 0.0, kHuge));
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

Result<ModelShape> ReadShape(Config& config, uint32_t context, const Recipe* recipe) {
  HR_ASSIGN_OR_RETURN(const Recipe* named, ReadArchitecture(config));
  if (!recipe) recipe = named;
  if (recipe->text_key.empty()) return ReadTextShape(config, context, *recipe);
  HR_ASSIGN_OR_RETURN(Config text, ReadTextConfig(config, *recipe));
  return ReadTextShape(text, context, *recipe);
}

}  // namespace headroom::convert
