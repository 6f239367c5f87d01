// The configuration of latent attention: of models made with it, and of layers put in place of
// others.
#include <algorithm>
#include <cmath>

#include "convert/shape_parts.h"

namespace headroom::convert {
namespace {

// Of layers with latent attention: its widths.
Status ReadLatentShape(Config& config, const LatentRecipe& recipe, LatentShape& latent) {
  latent.names = &recipe;
  HR_ASSIGN_OR_RETURN(latent.rank, config.NeedCount("kv_lora_rank", 1, kMaxHeadWidth));
  HR_ASSIGN_OR_RETURN(const auto query_rank, config.Count("q_lora_rank", 1, kMaxChannels));
  HR_ASSIGN_OR_RETURN(latent.part, config.NeedCount("qk_nope_head_dim", 1, kMaxHeadWidth));
  HR_ASSIGN_OR_RETURN(latent.tail, config.NeedCount("qk_rope_head_dim", 1, kMaxHeadWidth));
  HR_ASSIGN_OR_RETURN(latent.value, config.NeedCount("v_head_dim", 1, kMaxHeadWidth));
  latent.query_rank = query_rank.value_or(0);
  const uint32_t width = latent.part + latent.tail;
  HR_RETURN_IF_ERROR(config.Count("qk_head_dim", width, width).status());
  HR_ASSIGN_OR_RETURN(latent.norms, ReadFlag(config, recipe.norms));
  HR_ASSIGN_OR_RETURN(latent.query_down_bias, ReadFlag(config, recipe.query_down_bias));
  HR_ASSIGN_OR_RETURN(latent.query_bias, ReadFlag(config, recipe.query_bias));
  latent.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  return {};
}

// ---- Layers put in place of a model's own

// Index of the rope, added when new.
size_t UseRope(ModelShape& shape, const RopeParameters& wanted) {
  const auto found = std::find(shape.ropes.begin(), shape.ropes.end(), wanted);
  const auto index = static_cast<size_t>(found - shape.ropes.begin());
  if (found == shape.ropes.end()) shape.ropes.push_back(wanted);
  return index;
}

// The ropes that no layer uses any more are not worth a tensor.
void DropUnusedRopes(ModelShape& shape) {
  std::vector<RopeParameters> kept;
  for (LayerShape& layer : shape.layers) {
    const RopeParameters wanted = shape.ropes[layer.rope];
    const auto found = std::find(kept.begin(), kept.end(), wanted);
    layer.rope = static_cast<size_t>(found - kept.begin());
    if (found == kept.end()) kept.push_back(wanted);
  }
  shape.ropes = std::move(kept);
}

// mla_layer_config.json: frequencies of the new layers. Where scaled it is YaRN, whose original
// context is that of the code.
Result<RopeParameters> ReadXEcoRope(Config& config, uint32_t dims) {
  RopeParameters rope;
  rope.dims = dims;
  rope.interleaved = true;
  HR_ASSIGN_OR_RETURN(const auto base, config.Number("rope_theta", 1.0001, kHuge));
  rope.base = base.value_or(rope.base);
  HR_ASSIGN_OR_RETURN(auto scaling, config.Object("rope_scaling"));
  if (!scaling) return rope;
  HR_ASSIGN_OR_RETURN(const auto type, scaling->String("type"));
  if (type.value_or("") != "yarn") return Unsupported(*scaling, "type", type.value_or(""));
  rope.scaling = RopeScaling::kYarn;
  HR_ASSIGN_OR_RETURN(rope.factor, scaling->NeedNumber("factor", 1.0, 1e6));
  HR_ASSIGN_OR_RETURN(const auto original,
                      scaling->Number("original_max_position_embeddings", 1, kMaxContext));
  rope.original_context = original.value_or(4096);
  HR_RETURN_IF_ERROR(ReadYarn(*scaling, rope));
  HR_RETURN_IF_ERROR(scaling->RefuseUnused());
  return rope;
}

// Of each layer its ranks, where they differ.
Status ReadXEcoRanks(Config& config, ModelShape& shape) {
  HR_ASSIGN_OR_RETURN(auto ranks, config.Object("layer_rank_list"));
  if (!ranks) return {};
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    HR_ASSIGN_OR_RETURN(auto own, ranks->Object(std::to_string(i)));
    if (!own) continue;
    LatentShape& latent = shape.layers[i].latent;
    if (latent.rank == 0) continue;
    HR_ASSIGN_OR_RETURN(latent.rank, own->NeedCount("kv_rank", 1, kMaxHeadWidth));
    HR_ASSIGN_OR_RETURN(latent.query_rank, own->NeedCount("q_rank", 1, kMaxChannels));
  }
  return {};
}

// What the wrapper wrote beside config.json: which layers stayed, and how the others are made.
Status ReadXEcoMla(Config& all, ModelShape& shape) {
  HR_ASSIGN_OR_RETURN(auto config, all.Object("mla_layer_config"));
  HR_ASSIGN_OR_RETURN(auto wrapper, all.Object("MLA_config"));
  if (!config) return {};
  if (!wrapper) return Status::Make(StatusCode::kCorrupt, "there is no MLA_config.json");
  HR_ASSIGN_OR_RETURN(const auto kept, wrapper->Numbers("attn_layers", 0, kMaxLayers));
  LatentShape latent;
  HR_RETURN_IF_ERROR(ReadLatentShape(*config, XEcoMlaRecipe(), latent));
  HR_ASSIGN_OR_RETURN(const RopeParameters rope, ReadXEcoRope(*config, latent.tail));
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const std::vector<double> none;
    const std::vector<double>& own = kept ? *kept : none;
    if (std::find(own.begin(), own.end(), static_cast<double>(i)) != own.end()) continue;
    shape.layers[i].latent = latent;
    shape.layers[i].rope = UseRope(shape, rope);
  }
  HR_RETURN_IF_ERROR(ReadXEcoRanks(*config, shape));
  DropUnusedRopes(shape);
  return {};
}

// Which of a head's pairs (i, i + D / 2) stay rotated.
Result<std::vector<uint32_t>> ReadPairs(Config& config, uint32_t head_width, uint32_t tail) {
  const uint32_t all = head_width / 2, kept = tail / 2;
  HR_ASSIGN_OR_RETURN(const auto version, config.String("partial_rope_version"));
  HR_ASSIGN_OR_RETURN(const auto start, config.Count("uniform_start_point", 0, kMaxHeadWidth));
  const std::string name = version.value_or("");
  const uint32_t step = all / kept, first = start.value_or(0);
  std::vector<uint32_t> pairs;
  for (uint32_t i = 0; i < kept; ++i) {
    if (name == "high") pairs.push_back(i);
    if (name == "low") pairs.push_back(all - kept + i);
    if (name == "uniform" && all % kept == 0 && first < step) pairs.push_back(first + i * step);
  }
  if (pairs.size() != kept) return Unsupported(config, "partial_rope_version", name);
  return pairs;
}

// The arguments that MHA2MLA was run with; its checkpoints do not hold them.
Status ReadMha2Mla(Config& all, ModelShape& shape) {
  HR_ASSIGN_OR_RETURN(auto config, all.Object("mha2mla"));
  if (!config) return {};
  LatentShape latent;
  latent.names = &Mha2MlaRecipe();
  latent.norms = false;
  latent.key_heads = shape.kv_heads;
  HR_ASSIGN_OR_RETURN(latent.tail, config->NeedCount("rope_dim_for_mla", 2, shape.head_width - 1));
  HR_ASSIGN_OR_RETURN(const uint32_t rank,
                      config->NeedCount("low_rank", 1, kMaxHeadWidth / shape.kv_heads));
  HR_ASSIGN_OR_RETURN(const auto method, config->String("svd_init_method"));
  if (method.value_or("joint") != "joint") return Unsupported(*config, "svd_init_method", *method);
  HR_ASSIGN_OR_RETURN(const bool all_heads, ReadFlag(*config, {"is_gqa2mha2mla", false}));
  if (all_heads) return Unsupported(*config, "is_gqa2mha2mla", "true");
  if (latent.tail % 2 != 0 || shape.query_key_value_bias) {
    return Status::Make(StatusCode::kUnsupported, "mha2mla: %u rotated dimensions%s", latent.tail,
                        shape.query_key_value_bias ? " and biases" : "");
  }
  latent.rank = rank * shape.kv_heads;
  latent.part = shape.head_width - latent.tail;
  latent.value = shape.head_width;
  latent.scale = shape.attention_scale;
  HR_ASSIGN_OR_RETURN(const std::vector<uint32_t> pairs,
                      ReadPairs(*config, shape.head_width, latent.tail));
  HR_RETURN_IF_ERROR(config->RefuseUnused());
  for (LayerShape& layer : shape.layers) {
    RopeParameters rope = shape.ropes[layer.rope];
    if (rope.dims != shape.head_width) {
      return Status::Make(StatusCode::kUnsupported, "mha2mla: %u of %u dimensions are rotated",
                          rope.dims, shape.head_width);
    }
    rope.pairs = pairs;
    layer.latent = latent;
    layer.rope = UseRope(shape, rope);
  }
  DropUnusedRopes(shape);
  return {};
}

}  // namespace

Status ReadLatent(Config& config, ModelShape& shape) {
  if (!shape.recipe->latent) return {};
  const LatentRecipe& recipe = *shape.recipe->latent;
  if (shape.kv_heads != shape.query_heads) {
    return Status::Make(StatusCode::kUnsupported, "%u KV heads beside a latent for all %u",
                        shape.kv_heads, shape.query_heads);
  }
  LatentShape latent;
  HR_RETURN_IF_ERROR(ReadLatentShape(config, recipe, latent));
  HR_ASSIGN_OR_RETURN(const bool interleaved, ReadFlag(config, recipe.interleaved));
  shape.rope_layout = interleaved ? model::RopeLayout::kInterleaved : model::RopeLayout::kHalfSplit;
  shape.head_width = latent.tail;  // what is rotated
  for (LayerShape& layer : shape.layers) layer.latent = latent;
  HR_ASSIGN_OR_RETURN(const auto further, config.Count("num_nextn_predict_layers", 0, kMaxLayers));
  shape.further_layers = further.value_or(0);
  return {};
}

void ScaleLatent(ModelShape& shape) {
  for (LayerShape& layer : shape.layers) {
    if (layer.latent.rank == 0 || !layer.latent.names->yarn_scale) continue;
    const RopeParameters& rope = shape.ropes[layer.rope];
    if (rope.scaling != RopeScaling::kYarn || rope.mscale_all_dims == 0.0) continue;
    const double magnitude = YarnMagnitude(rope.factor, rope.mscale_all_dims);
    layer.latent.scale = static_cast<float>(layer.latent.scale * magnitude * magnitude);
  }
}

Status ReadReplacedLayers(Config& config, ModelShape& shape) {
  if (shape.recipe->latent || shape.recipe->mixture) return {};
  HR_RETURN_IF_ERROR(ReadXEcoMla(config, shape));
  return ReadMha2Mla(config, shape);
}

}  // namespace headroom::convert
