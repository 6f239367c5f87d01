#include "convert/checkpoint_fit.h"

namespace headroom::convert {
namespace {

std::string WithNumber(std::string text, uint64_t number) {
  if (const size_t at = text.rfind("{}"); at != std::string::npos) {
    text.replace(at, 2, std::to_string(number));
  }
  return text;
}

class Fitter {
 public:
  Fitter(const Checkpoint& checkpoint, ModelShape& shape)
      : checkpoint_(checkpoint), shape_(shape), recipe_(*shape.recipe) {}

  Status Fit() {
    HR_RETURN_IF_ERROR(CountPieces());
    for (size_t i = 0; i < shape_.layers.size(); ++i) {
      const std::string prefix = WithNumber(std::string(recipe_.names.layer), i);
      HR_RETURN_IF_ERROR(
          Need(prefix + std::string(OutputOf(shape_.layers[i])) + ".weight").status());
      if (ByHead()) HR_RETURN_IF_ERROR(FitHeads(prefix));
      if (shape_.layers[i].mixture) HR_RETURN_IF_ERROR(FitExperts(prefix));
    }
    return {};
  }

 private:
  std::string_view OutputOf(const LayerShape& layer) const {
    if (layer.linear) return recipe_.linear->output;
    return layer.latent.rank != 0 ? layer.latent.names->output : recipe_.names.attention_output;
  }

  // Of matrices whose rows are taken apart by head: how many pieces a layer makes of each.
  uint64_t LinearPieces() const {
    uint64_t layers = 0;
    for (const LayerShape& layer : shape_.layers) layers += layer.linear;
    return layers * shape_.linear.key_heads;
  }

  uint64_t GatedPieces() const {
    return recipe_.query_gate ? uint64_t{shape_.layers.size()} * shape_.query_heads : 0;
  }

  bool ByHead() const {
    return !recipe_.names.query_key_value.empty() && recipe_.fused_rows == FusedRows::kByHead;
  }

  Status CountPieces() const {
    uint64_t mixtures = 0;
    for (const LayerShape& layer : shape_.layers) mixtures += layer.mixture;
    const uint64_t heads = ByHead() ? uint64_t{shape_.layers.size()} * shape_.query_heads : 0;
    uint64_t latents = 0;
    for (const LayerShape& layer : shape_.layers) latents += layer.latent.rank != 0;
    const uint64_t experts = mixtures * shape_.mixture.experts;
    for (const auto& [pieces, of] :
         {std::pair(heads, "heads"), std::pair(latents * shape_.query_heads, "heads"),
          std::pair(LinearPieces(), "heads"), std::pair(GatedPieces(), "heads"),
          std::pair(experts, "experts")}) {
      if (pieces <= kMaxPieces) continue;
      return Status::Make(StatusCode::kUnsupported, "%llu %s in all layers together > %llu",
                          static_cast<unsigned long long>(pieces), of,
                          static_cast<unsigned long long>(kMaxPieces));
    }
    return {};
  }

  Result<const SourceTensor*> Need(const std::string& name) const {
    if (const SourceTensor* found = FindTensor(checkpoint_, recipe_, name)) return found;
    return Status::Make(StatusCode::kCorrupt, "the checkpoint lacks tensor \"%s\"", name.c_str());
  }

  Status FitHeads(const std::string& prefix) const {
    const std::string name = prefix + std::string(recipe_.names.query_key_value) + ".weight";
    HR_ASSIGN_OR_RETURN(const SourceTensor* found, Need(name));
    const uint64_t rows = found->shape.empty() ? 0 : found->shape[0];
    const uint64_t implied = 3 * uint64_t{shape_.query_heads} * shape_.head_width;
    if (rows == implied) return {};
    return Status::Make(StatusCode::kCorrupt,
                        "tensor \"%s\" is of %llu rows, the configuration implies %llu",
                        name.c_str(), static_cast<unsigned long long>(rows),
                        static_cast<unsigned long long>(implied));
  }

  // The tensor that holds the down projection of expert `e`, or of all where they are stacked.
  static std::string DownOf(const ExpertNames& names, const std::string& prefix, uint64_t e) {
    return WithNumber(prefix + std::string(names.down), e) +
           std::string(names.mxfp4 ? "_blocks" : names.ending);
  }

  Status FitExperts(const std::string& prefix) {
    const uint32_t experts = shape_.mixture.experts;
    const std::span<const ExpertNames> names = recipe_.mixture->names;
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string down = DownOf(names[i], prefix, experts - 1);
      const SourceTensor* found = FindTensor(checkpoint_, recipe_, down);
      if (!found) continue;
      shape_.mixture.names = i;
      if (names[i].down.find("{}") != std::string_view::npos) return NeedAll(names[i], prefix);
      const uint64_t stacked = found->shape.empty() ? 0 : found->shape[0];
      if (stacked == experts) return {};
      return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" is of %llu experts, not %u",
                          down.c_str(), static_cast<unsigned long long>(stacked), experts);
    }
    return Need(DownOf(names[0], prefix, experts - 1)).status();
  }

  Status NeedAll(const ExpertNames& names, const std::string& prefix) const {
    for (uint64_t e = 0; e < shape_.mixture.experts; ++e) {
      HR_RETURN_IF_ERROR(Need(DownOf(names, prefix, e)).status());
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  ModelShape& shape_;
  const Recipe& recipe_;
};

}  // namespace

const SourceTensor* FindTensor(const Checkpoint& checkpoint, const Recipe& recipe,
                               const std::string& name) {
  const SourceTensor* found = checkpoint.Find(name);
  const std::string_view prefix = recipe.optional_prefix;
  if (found || prefix.empty() || !name.starts_with(prefix)) return found;
  return checkpoint.Find(name.substr(prefix.size()));
}

Status FitToCheckpoint(const Checkpoint& checkpoint, ModelShape& shape) {
  return Fitter(checkpoint, shape).Fit();
}

}  // namespace headroom::convert
