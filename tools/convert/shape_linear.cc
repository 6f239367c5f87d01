// The configuration of linear attention.
#include <cmath>
#include <iterator>
#include <optional>

#include "convert/shape_parts.h"

namespace headroom::convert {
namespace {

constexpr uint32_t kMostHeads = 4096;

// The number under a key, or `otherwise` where the recipe has no such key.
Status ReadSize(Config& config, std::string_view key, uint32_t high, uint32_t otherwise,
                uint32_t* out) {
  *out = otherwise;
  if (key.empty()) return {};
  HR_ASSIGN_OR_RETURN(*out, config.NeedCount(Key(key), 1, high));
  return {};
}

// Either number says how wide all values together are; 0: neither does.
Result<uint32_t> ReadInner(Config& config, const LinearKeys& keys, uint32_t channels) {
  if (keys.expand.empty()) return 0u;
  HR_ASSIGN_OR_RETURN(const auto expand, config.Number(Key(keys.expand), 1.0 / channels, 64.0));
  std::optional<uint32_t> inner;
  if (!keys.inner.empty()) {
    HR_ASSIGN_OR_RETURN(inner, config.Count(Key(keys.inner), 1, kMaxChannels));
  }
  if (inner) return *inner;
  if (expand) return static_cast<uint32_t>(*expand * channels);
  return Status::Make(StatusCode::kCorrupt, "%s lacks \"%s\"", config.what().c_str(),
                      Key(keys.expand).c_str());
}

// What may be "auto", and is then what `otherwise` says.
Status ReadAuto(Config& config, const std::string& key, uint32_t otherwise, uint32_t* out) {
  *out = otherwise;
  if (config.IsText(key)) {
    HR_ASSIGN_OR_RETURN(const auto text, config.String(key));
    return *text == "auto" ? Status{} : Unsupported(config, key.c_str(), *text);
  }
  HR_ASSIGN_OR_RETURN(*out, config.NeedCount(key, 1, kMaxChannels));
  return {};
}

Status ReadSizes(Config& config, const LinearKeys& keys, ModelShape& shape) {
  LinearShape& linear = shape.linear;
  HR_ASSIGN_OR_RETURN(const uint32_t inner, ReadInner(config, keys, shape.channels));
  const uint32_t heads = shape.recipe->attention ? shape.query_heads : 1;
  HR_RETURN_IF_ERROR(ReadSize(config, keys.heads, kMostHeads, heads, &linear.heads));
  HR_RETURN_IF_ERROR(ReadSize(config, keys.key_heads, kMostHeads, linear.heads, &linear.key_heads));
  HR_RETURN_IF_ERROR(
      ReadSize(config, keys.key_width, model::kMaxStateWidth, shape.head_width, &linear.key_width));
  linear.value_width = inner != 0 ? inner / linear.heads : shape.head_width;
  if (!keys.value_width.empty()) {
    HR_RETURN_IF_ERROR(
        ReadAuto(config, Key(keys.value_width), linear.value_width, &linear.value_width));
  }
  HR_RETURN_IF_ERROR(ReadSize(config, keys.taps, model::kMaxKernel, 0, &linear.taps));
  if (!keys.rank.empty()) {
    const uint32_t sixteenth = (shape.channels + 15) / 16;
    HR_RETURN_IF_ERROR(ReadAuto(config, Key(keys.rank), sixteenth, &linear.rank));
  }
  if (linear.heads % linear.key_heads != 0) {
    return Status::Make(StatusCode::kCorrupt, "%u heads of a state are no multiple of %u of keys",
                        linear.heads, linear.key_heads);
  }
  const uint64_t values = uint64_t{linear.heads} * linear.value_width;
  if (values == 0 || values > kMaxChannels || (inner != 0 && values != inner)) {
    return Status::Make(StatusCode::kCorrupt, "%u heads of %u values are not %u values together",
                        linear.heads, linear.value_width, inner);
  }
  return {};
}

Status ReadFlags(Config& config, const LinearRecipe& recipe, LinearShape& linear) {
  const LinearKeys& keys = recipe.keys;
  const auto flag = [&](std::string_view key, bool otherwise, bool* out) -> Status {
    HR_ASSIGN_OR_RETURN(*out, ReadFlag(config, {key, otherwise}));
    return {};
  };
  HR_RETURN_IF_ERROR(flag(keys.bias, false, &linear.bias));
  linear.output_bias = linear.bias;
  if (!keys.output_bias.empty()) {
    HR_RETURN_IF_ERROR(flag(keys.output_bias, false, &linear.output_bias));
  }
  const bool convolves = !keys.convolution_bias.empty();
  HR_RETURN_IF_ERROR(flag(keys.convolution_bias, convolves, &linear.convolution_bias));
  if (!keys.gate_activation.empty()) {
    HR_ASSIGN_OR_RETURN(const auto name, config.String(Key(keys.gate_activation)));
    if (name && *name != "silu" && *name != "swish") {
      return Unsupported(config, Key(keys.gate_activation).c_str(), *name);
    }
  }
  linear.norm = recipe.norm;
  if (!keys.norm.empty()) {
    HR_ASSIGN_OR_RETURN(const bool norm, ReadFlag(config, {keys.norm, false}));
    if (!norm) linear.norm = LinearNorm::kNone;
  }
  return flag(keys.norm_first, recipe.norm_first, &linear.norm_first);
}

Status ReadScale(Config& config, std::string_view key, float* out) {
  if (key.empty()) return {};
  HR_ASSIGN_OR_RETURN(const auto value, config.Number(Key(key), 1e-6, kHuge));
  *out = static_cast<float>(value.value_or(1.0));
  return {};
}

Status ReadScales(Config& config, const LinearKeys& keys, LinearShape& linear) {
  HR_RETURN_IF_ERROR(ReadScale(config, keys.input_scale, &linear.input_scale));
  HR_RETURN_IF_ERROR(ReadScale(config, keys.output_scale, &linear.output_scale));
  if (keys.part_scales.empty()) return {};
  static constexpr LinearPart kOrder[] = {LinearPart::kGate, LinearPart::kValues, LinearPart::kKeys,
                                          LinearPart::kQueries, LinearPart::kDecay};
  HR_ASSIGN_OR_RETURN(const auto scales, config.Numbers(Key(keys.part_scales), 1e-6, kHuge));
  if (!scales) return {};
  if (scales->size() != std::size(kOrder)) {
    return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" has %zu numbers, not %zu",
                        config.what().c_str(), Key(keys.part_scales).c_str(), scales->size(),
                        std::size(kOrder));
  }
  for (size_t i = 0; i < scales->size(); ++i) {
    linear.scales[static_cast<size_t>(kOrder[i])] = static_cast<float>((*scales)[i]);
  }
  return {};
}

// The kind of each layer: by name, or every so-manieth is attention.
Status ReadListedLayers(Config& config, uint32_t interval, ModelShape& shape) {
  HR_ASSIGN_OR_RETURN(const auto types, config.Strings("layer_types"));
  if (types && types->size() != shape.layers.size()) {
    return Status::Make(StatusCode::kCorrupt, "%s: %zu layer_types for %zu layers",
                        config.what().c_str(), types->size(), shape.layers.size());
  }
  if (interval != 0) {
    HR_ASSIGN_OR_RETURN(const auto given, config.Count("full_attention_interval", 1, kMaxLayers));
    interval = given.value_or(interval);
  } else if (!types) {
    return Status::Make(StatusCode::kCorrupt, "%s lacks \"layer_types\"", config.what().c_str());
  }
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    bool linear = interval != 0 && (i + 1) % interval != 0;
    if (types) {
      const std::string& type = (*types)[i];
      linear = type == "linear_attention";
      if (!linear && type != "full_attention") return Unsupported(config, "layer_types", type);
    }
    shape.layers[i].linear = linear;
    shape.layers[i].attention = !linear;
  }
  return {};
}

// Steps are limited in no file that was published; a limit would be an operation of its own.
Status CheckStepLimit(Config& config) {
  if (!config.Has("time_step_limit")) return {};
  HR_ASSIGN_OR_RETURN(const auto limit, config.Limits("time_step_limit"));
  if (limit.size() == 2 && limit[0] == 0.0 && std::isinf(limit[1]) && limit[1] > 0.0) return {};
  return Unsupported(config, "time_step_limit", "other than 0 to infinity");
}

}  // namespace

Status ReadLinear(Config& config, ModelShape& shape) {
  if (!shape.recipe->linear) return {};
  const LinearRecipe& recipe = *shape.recipe->linear;
  HR_RETURN_IF_ERROR(ReadSizes(config, recipe.keys, shape));
  HR_RETURN_IF_ERROR(ReadFlags(config, recipe, shape.linear));
  HR_RETURN_IF_ERROR(ReadScales(config, recipe.keys, shape.linear));
  HR_RETURN_IF_ERROR(CheckStepLimit(config));
  if (shape.activation != model::Activation::kSilu) {
    return Unsupported(config, "hidden_act", "other than silu beside linear attention");
  }
  if (recipe.layers == LinearLayers::kListed) {
    return ReadListedLayers(config, recipe.listed_interval, shape);
  }
  for (LayerShape& layer : shape.layers) {
    layer.linear = true;
    layer.attention = recipe.layers == LinearLayers::kBeside;
  }
  return {};
}

}  // namespace headroom::convert
