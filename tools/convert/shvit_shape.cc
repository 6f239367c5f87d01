#include "convert/shvit.h"

#include <algorithm>
#include <cmath>

namespace headroom::convert {
namespace {

constexpr uint32_t kMostWidth = 1u << 14;  // four times it are channels, too
constexpr uint32_t kMostDepth = 256, kMostStages = 8, kMostClasses = 1u << 16;
using Stage = ShvitStage;

// Table 1 of the paper, and the side of the pictures it was trained on.
struct Variant {
  std::string_view name;
  uint32_t side;
  ShvitStage stages[3];
};
constexpr Variant kVariants[] = {
    {"shvit_s1", 224, {{128, 32, 16, 2}, {224, 48, 16, 4, true}, {320, 68, 16, 5, true}}},
    {"shvit_s2", 224, {{128, 32, 16, 2}, {308, 66, 16, 4, true}, {448, 96, 16, 5, true}}},
    {"shvit_s3", 224, {{192, 48, 16, 3}, {352, 75, 16, 5, true}, {448, 96, 16, 5, true}}},
    {"shvit_s4", 256, {{224, 48, 16, 4}, {336, 72, 16, 7, true}, {448, 96, 16, 6, true}}},
};

const Variant* FindVariant(std::string_view name) {
  const auto* found = std::find_if(std::begin(kVariants), std::end(kVariants),
                                   [&](const Variant& variant) { return variant.name == name; });
  return found == std::end(kVariants) ? nullptr : found;
}

// A list of one number a stage, where there is one.
Status ReadList(Config& from, const char* key, uint32_t low, uint32_t high,
                std::vector<Stage>& stages, uint32_t Stage::*member) {
  HR_ASSIGN_OR_RETURN(const auto list, from.Numbers(key, low, high));
  if (!list) return {};
  if (list->size() != stages.size()) {
    return Status::Make(StatusCode::kUnsupported, "%s: \"%s\" has %zu numbers for %zu stages",
                        from.what().c_str(), key, list->size(), stages.size());
  }
  for (size_t i = 0; i < list->size(); ++i) {
    if ((*list)[i] != std::floor((*list)[i])) {
      return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" holds %g", from.what().c_str(), key,
                          (*list)[i]);
    }
    stages[i].*member = static_cast<uint32_t>((*list)[i]);
  }
  return {};
}

// "i": convolutions alone; "s": with attention.
Status ReadTypes(Config& from, std::vector<Stage>& stages) {
  HR_ASSIGN_OR_RETURN(const auto types, from.Strings("types"));
  if (!types) return {};
  if (types->size() != stages.size()) {
    return Status::Make(StatusCode::kUnsupported, "%s: %zu \"types\" for %zu stages",
                        from.what().c_str(), types->size(), stages.size());
  }
  for (size_t i = 0; i < stages.size(); ++i) {
    if ((*types)[i] != "i" && (*types)[i] != "s") {
      return Status::Make(StatusCode::kUnsupported, "%s: type \"%s\" is not i or s",
                          from.what().c_str(), Printable((*types)[i]).c_str());
    }
    stages[i].attends = (*types)[i] == "s";
  }
  return {};
}

Status ReadArguments(Config& from, std::vector<Stage>& stages) {
  HR_ASSIGN_OR_RETURN(const auto widths, from.Numbers("embed_dim", 8, kMostWidth));
  if (widths) stages.resize(std::min<size_t>(widths->size(), kMostStages));
  HR_RETURN_IF_ERROR(ReadList(from, "embed_dim", 8, kMostWidth, stages, &Stage::width));
  HR_RETURN_IF_ERROR(ReadList(from, "partial_dim", 1, kMostWidth, stages, &Stage::partial));
  HR_RETURN_IF_ERROR(ReadList(from, "qk_dim", 1, 1024, stages, &Stage::query));
  HR_RETURN_IF_ERROR(ReadList(from, "depth", 0, kMostDepth, stages, &Stage::depth));
  HR_RETURN_IF_ERROR(ReadTypes(from, stages));
  return from.RefuseUnused();
}

Status CheckStages(const std::vector<Stage>& stages) {
  if (stages.empty()) {
    return Status::Make(StatusCode::kUnsupported,
                        "config.json: model_args.embed_dim has no stages");
  }
  for (const Stage& stage : stages) {
    if (stage.width >= 8 && (!stage.attends || stage.partial < stage.width)) continue;
    return Status::Make(StatusCode::kUnsupported,
                        "config.json: partial_dim %u is not below embed_dim %u", stage.partial,
                        stage.width);
  }
  return {};
}

}  // namespace

bool IsShvit(const Config& config) {
  return config.Begins("architecture", "shvit") ||
         (config.IsText("architecture") && config.Has("pretrained_cfg"));
}

Result<ShvitShape> ReadShvitShape(Config& config) {
  ShvitShape shape;
  HR_ASSIGN_OR_RETURN(const auto name, config.String("architecture"));
  const Variant* variant = FindVariant(name.value_or(""));
  if (variant) shape.stages.assign(std::begin(variant->stages), std::end(variant->stages));
  shape.side = variant ? variant->side : 224;
  HR_ASSIGN_OR_RETURN(auto arguments, config.Object("model_args"));
  if (!variant && (!arguments || !arguments->Has("embed_dim"))) {
    return Status::Make(StatusCode::kUnsupported,
                        "config.json: architecture \"%s\" without model_args.embed_dim; known are "
                        "shvit_s1, shvit_s2, shvit_s3 and shvit_s4",
                        Printable(name.value_or("")).c_str());
  }
  if (arguments) HR_RETURN_IF_ERROR(ReadArguments(*arguments, shape.stages));
  HR_RETURN_IF_ERROR(CheckStages(shape.stages));
  HR_ASSIGN_OR_RETURN(const auto classes, config.Count("num_classes", 1, kMostClasses));
  shape.classes = classes.value_or(1000);
  return shape;
}

}  // namespace headroom::convert
