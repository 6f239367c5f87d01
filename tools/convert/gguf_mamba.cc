#include "convert/gguf_mamba.h"

#include <cmath>
#include <functional>
#include <numeric>

#include "convert/gguf_names.h"

namespace headroom::convert {
namespace {

using enum LinearPart;

// Both recipes' parts, under the names that GGUF has for their matrices.
constexpr LinearPart kInput[] = {kValues, kGate}, kSteps[] = {kDecay, kKeys, kQueries};
constexpr PartsMatrix kMatrices[] = {{"ssm_in", kInput},
                                     {.name = "ssm_x", .parts = kSteps, .reads_values = true}};
constexpr LinearPart kInput2[] = {kGate, kValues, kKeys, kQueries, kDecay};
constexpr PartsMatrix kMatrices2[] = {{"ssm_in", kInput2}};

LinearRecipe LinearInGguf(const LinearRecipe& recipe) {
  LinearRecipe out = recipe;
  const bool element = recipe.decay == LinearDecay::kElement;
  out.keys.inner = "intermediate_size";
  out.inputs = element ? std::span<const PartsMatrix>(kMatrices) : kMatrices2;
  out.convolution = "ssm_conv1d";
  out.a_log = "ssm_a";
  out.a_is_rate = true;
  if (element) out.step_up = "ssm_dt";
  if (!element) out.step_bias = "ssm_dt.bias";
  out.skip = "ssm_d";
  out.norm_weight = "ssm_norm";
  // As the authors' code; that of config.json's recipe norms all groups together.
  out.norm_groups = true;
  out.output = "ssm_out";
  return out;
}

// Extents without axes of one behind the first; a convolution has one between its two.
void FitExtents(GgufFile& gguf) {
  for (auto& [name, tensor] : gguf.tensors) {
    std::vector<uint64_t>& shape = tensor.shape;
    if (name.ends_with(".ssm_conv1d.weight")) {
      if (shape.size() == 2) shape.insert(shape.begin() + 1, 1);
    } else if (name.ends_with(".ssm_norm.weight")) {
      shape = {std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>())};
    } else if (name.ends_with(".ssm_a") || name.ends_with(".ssm_d")) {
      while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
    }
  }
}

// Keys of both, and what config.json calls them.
constexpr std::pair<std::string_view, std::string_view> kNumbers[] = {
    {"embedding_length", "hidden_size"},
    {"block_count", "num_hidden_layers"},
    {"attention.layer_norm_rms_epsilon", "layer_norm_epsilon"},
    {"ssm.conv_kernel", "conv_kernel"},
    {"ssm.inner_size", "intermediate_size"},
    {"ssm.state_size", "state_size"}};

// Of Mamba-2 the rank is how many heads there are.
Status SetHeads(const Recipe& recipe, GgufKeys& keys, Json& config) {
  HR_ASSIGN_OR_RETURN(const double rank, keys.NeedCount("ssm.time_step_rank", 1, 1 << 20));
  if (recipe.linear->decay == LinearDecay::kElement) {
    config["time_step_rank"] = ToJson(rank);
    HR_ASSIGN_OR_RETURN(const auto normed, keys.ReadFlag("ssm.dt_b_c_rms"));
    return normed.value_or(false) ? keys.Refuse("ssm.dt_b_c_rms", "is true") : Status();
  }
  HR_ASSIGN_OR_RETURN(const double inner, keys.Need("ssm.inner_size"));
  HR_ASSIGN_OR_RETURN(const auto groups, keys.Read("ssm.group_count"));
  config["num_heads"] = ToJson(rank);
  config["head_dim"] = ToJson(std::floor(inner / rank));
  config["n_groups"] = ToJson(groups.value_or(1));
  return {};
}

}  // namespace

Result<GgufModel> DescribeGgufMamba(const Recipe& recipe, GgufFile& gguf, GgufKeys& keys) {
  GgufModel out;
  out.recipe = recipe;
  out.recipe.names = NamesInGguf(recipe.names, {});
  out.recipe.linear = LinearInGguf(*recipe.linear);
  Json& config = out.config;
  config["architectures"] = {std::string(recipe.architecture)};
  config["tie_word_embeddings"] = gguf.tensors.count("output.weight") == 0;
  config["hidden_act"] = "silu";
  config["expand"] = 2;  // the width itself is stated, too
  HR_ASSIGN_OR_RETURN(config["vocab_size"], keys.ReadVocabulary());
  for (const auto& [from, to] : kNumbers) {
    HR_ASSIGN_OR_RETURN(const double number, keys.Need(from));
    config[std::string(to)] = ToJson(number);
  }
  HR_RETURN_IF_ERROR(SetHeads(recipe, keys, config));
  // Any context goes; there are no attention heads and no MLP.
  for (const std::string_view key : {"context_length", "feed_forward_length",
                                     "attention.head_count", "attention.head_count_kv"}) {
    keys.Ignore(key);
  }
  HR_RETURN_IF_ERROR(keys.RefuseUnused());
  FitExtents(gguf);
  return out;
}

}  // namespace headroom::convert
