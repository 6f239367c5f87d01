// The configuration of mixtures of experts.
#include <algorithm>
#include <charconv>

#include "convert/shape_parts.h"

namespace headroom::convert {

Status Unsupported(const Config& config, const char* key, const std::string& value) {
  return Status::Make(StatusCode::kUnsupported, "%s: \"%s\" is \"%s\", which no recipe executes",
                      config.what().c_str(), key, Printable(value).c_str());
}

Result<bool> ReadFlag(Config& config, const Flag& flag) {
  if (flag.key.empty()) return flag.otherwise;
  HR_ASSIGN_OR_RETURN(const auto value, config.Bool(Key(flag.key)));
  return value.value_or(flag.otherwise);
}

namespace {

// The one way of storing weights that is not their type's.
Status ReadQuantization(Config& config) {
  HR_ASSIGN_OR_RETURN(const auto method, config.String("quant_method"));
  if (method.value_or("") != "mxfp4") {
    return Unsupported(config, "quant_method", method.value_or(""));
  }
  config.Ignore("modules_to_not_convert");  // the tensors say it
  return config.RefuseUnused();
}

// Numbers with commas between them, as Python's int() reads each.
Result<std::vector<bool>> ParseLayers(const Config& config, const std::string& key,
                                      const std::string& text, size_t layers) {
  std::vector<bool> listed(layers, false);
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto skip = [&] {
    while (at != end && *at == ' ') ++at;
  };
  for (bool more = true; more;) {
    uint32_t layer = 0;
    skip();
    const auto [next, error] = std::from_chars(at, end, layer);
    if (error != std::errc() || layer >= layers) {
      return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" at character %zu: no layer of %zu",
                          config.what().c_str(), key.c_str(), static_cast<size_t>(at - text.data()),
                          layers);
    }
    listed[layer] = true;
    at = next;
    skip();
    more = at != end && *at == ',';
    if (more) ++at;
  }
  if (at == end) return listed;
  return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" at character %zu: no comma",
                      config.what().c_str(), key.c_str(), static_cast<size_t>(at - text.data()));
}

// The layers that a list names; without it all but the first.
Status ReadListedLayers(Config& config, const std::string& key, ModelShape& shape) {
  HR_ASSIGN_OR_RETURN(const auto text, config.String(key));
  std::vector<bool> listed(shape.layers.size(), true);
  listed[0] = false;
  if (text) {
    HR_ASSIGN_OR_RETURN(listed, ParseLayers(config, key, *text, shape.layers.size()));
  }
  for (size_t i = 0; i < shape.layers.size(); ++i) shape.layers[i].mixture = listed[i];
  return {};
}

// Every decoder_sparse_step-th layer, counted from 1, but those of mlp_only_layers.
Status ReadMixtureLayers(Config& config, ModelShape& shape) {
  const size_t layers = shape.layers.size();
  uint32_t step = 1;
  std::vector<double> without;
  if (shape.recipe->mixture->some_layers) {
    HR_ASSIGN_OR_RETURN(const auto given, config.Count("decoder_sparse_step", 1, kMaxLayers));
    HR_ASSIGN_OR_RETURN(const auto listed, config.Numbers("mlp_only_layers", 0, kMaxLayers));
    step = given.value_or(1);
    without = listed.value_or(std::vector<double>());
  }
  uint32_t first = 0;
  if (const std::string key = Key(shape.recipe->mixture->dense_layers_key); !key.empty()) {
    HR_ASSIGN_OR_RETURN(const auto given, config.Count(key, 0, UINT32_MAX));
    HR_RETURN_IF_ERROR(config.Count("moe_layer_freq", 1, 1).status());  // in every one behind them
    first = given.value_or(0);
  }
  for (size_t i = 0; i < layers; ++i) {
    const bool only_mlp = std::find(without.begin(), without.end(), i) != without.end();
    shape.layers[i].mixture = i >= first && (i + 1) % step == 0 && !only_mlp;
  }
  return {};
}

// The number has two names; one architecture's files may have either.
Result<uint32_t> ReadExperts(Config& config, const MixtureRecipe& recipe) {
  if (!recipe.experts_key.empty()) {
    return config.NeedCount(Key(recipe.experts_key), 1, model::kMaxExperts);
  }
  HR_ASSIGN_OR_RETURN(const auto local, config.Count("num_local_experts", 1, model::kMaxExperts));
  if (!local) return config.NeedCount("num_experts", 1, model::kMaxExperts);
  HR_ASSIGN_OR_RETURN(const auto all, config.Count("num_experts", 1, model::kMaxExperts));
  if (all.value_or(*local) == *local) return *local;
  return Status::Make(StatusCode::kCorrupt, "%s: %u num_experts and %u num_local_experts",
                      config.what().c_str(), *all, *local);
}

// The groups that experts are chosen from, and that the configuration scores as the recipe does.
Status ReadGroups(Config& config, const MixtureRecipe& recipe, MixtureShape& mixture) {
  if (recipe.group_method.empty()) return {};
  HR_ASSIGN_OR_RETURN(const auto given, config.String("topk_method"));
  HR_ASSIGN_OR_RETURN(const auto score, config.String("scoring_func"));
  HR_ASSIGN_OR_RETURN(const auto groups, config.Count("n_group", 1, model::kMaxExperts));
  HR_ASSIGN_OR_RETURN(const auto best, config.Count("topk_group", 1, model::kMaxExperts));
  if (score && *score != recipe.score_name) return Unsupported(config, "scoring_func", *score);
  const std::string_view otherwise =
      recipe.plain_method.empty() ? recipe.group_method : recipe.plain_method;
  const std::string method = given.value_or(std::string(otherwise));
  if (method == recipe.plain_method) return {};
  if (method != recipe.group_method) return Unsupported(config, "topk_method", method);
  mixture.groups = groups.value_or(1);
  mixture.top_groups = best.value_or(1);
  const uint32_t members = mixture.experts / mixture.groups;
  if (mixture.experts % mixture.groups == 0 && mixture.top_groups <= mixture.groups &&
      members >= recipe.group_best && mixture.chosen <= uint64_t{members} * mixture.top_groups) {
    return {};
  }
  return Status::Make(StatusCode::kCorrupt,
                      "%s: %u of %u experts from %u of %u groups, judged by %u each",
                      config.what().c_str(), mixture.chosen, mixture.experts, mixture.top_groups,
                      mixture.groups, recipe.group_best);
}

// The width of the shared expert.
Result<uint32_t> ReadShared(Config& config, const SharedExpert& shared, uint32_t inner) {
  if (shared.gate.empty()) return 0u;
  if (shared.count_key.empty()) return config.NeedCount(Key(shared.inner_key), 1, kMaxChannels);
  HR_ASSIGN_OR_RETURN(const auto count,
                      config.Count(Key(shared.count_key), 0, kMaxChannels / inner));
  return count.value_or(0) * inner;
}

}  // namespace

Status ReadMixture(Config& config, ModelShape& shape) {
  if (!shape.recipe->mixture) return {};
  const MixtureRecipe& recipe = *shape.recipe->mixture;
  MixtureShape& mixture = shape.mixture;
  HR_ASSIGN_OR_RETURN(mixture.experts, ReadExperts(config, recipe));
  HR_ASSIGN_OR_RETURN(
      mixture.chosen,
      config.NeedCount(Key(recipe.chosen_key), 1, std::min(mixture.experts, model::kMaxChosen)));
  HR_ASSIGN_OR_RETURN(mixture.inner, config.NeedCount(Key(recipe.inner_key), 1, kMaxChannels));
  HR_ASSIGN_OR_RETURN(mixture.renormalise, ReadFlag(config, recipe.renormalise));
  HR_ASSIGN_OR_RETURN(mixture.shared_inner, ReadShared(config, recipe.shared, mixture.inner));
  HR_RETURN_IF_ERROR(ReadGroups(config, recipe, mixture));
  if (!recipe.scale_key.empty()) {
    HR_ASSIGN_OR_RETURN(const auto scale, config.Number(Key(recipe.scale_key), 1e-6, kHuge));
    mixture.scale = static_cast<float>(scale.value_or(1.0));
  }
  if (!recipe.limit_key.empty()) {
    HR_ASSIGN_OR_RETURN(const auto limit, config.Number(Key(recipe.limit_key), 1e-3, kHuge));
    mixture.limit = static_cast<float>(limit.value_or(recipe.default_limit));
    HR_ASSIGN_OR_RETURN(auto quantization, config.Object("quantization_config"));
    if (quantization) HR_RETURN_IF_ERROR(ReadQuantization(*quantization));
  }
  if (uint64_t{mixture.experts} * 2 * mixture.inner > UINT32_MAX ||
      uint64_t{mixture.experts} * shape.channels > UINT32_MAX) {
    return Status::Make(StatusCode::kUnsupported, "%u experts of %u are more rows than 2^32",
                        mixture.experts, mixture.inner);
  }
  if (!recipe.layers_key.empty()) return ReadListedLayers(config, Key(recipe.layers_key), shape);
  return ReadMixtureLayers(config, shape);
}

}  // namespace headroom::convert
