// Everything about the model but the model: metadata, sampling hints; and the profiles' indices.
#include <cmath>
#include <cstring>

#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kMaxVocabulary = kMaxWidth;
constexpr uint32_t kMaxLicenceBytes = 1u << 16;
constexpr uint32_t kMaxProfiles = 1u << 8;

Status CheckHint(const Where& where, const char* what, float value, float limit) {
  if (std::isfinite(value) && value >= 0.0f && value <= limit) return {};
  return Corrupt(where, "%s %g is not in 0..%g", what, static_cast<double>(value),
                 static_cast<double>(limit));
}

Status LoadSampling(LoadContext& context) {
  const fb::Sampling* from = context.graph.sampling();
  if (from == nullptr) return {};
  const Where where("sampling");
  HR_RETURN_IF_ERROR(CheckHint(where, "temperature", from->temperature(), 100.0f));
  HR_RETURN_IF_ERROR(CheckHint(where, "top_p", from->top_p(), 1.0f));
  HR_RETURN_IF_ERROR(CheckHint(where, "min_p", from->min_p(), 1.0f));
  HR_RETURN_IF_ERROR(CheckHint(where, "repetition penalty", from->repetition_penalty(), 100.0f));
  context.model.sampling = {from->temperature(), from->top_k(), from->top_p(), from->min_p(),
                            from->repetition_penalty()};
  return {};
}

Status CheckRoles(const LoadContext& context, const Where& where,
                  const flatbuffers::Vector<uint8_t>* roles) {
  for (uint32_t i = 0; i < Count(roles); ++i) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "role", roles->Get(i), Count(context.graph.roles())));
  }
  return {};
}

Status CheckLanes(const LoadContext& context, const Where& where, const fb::Profile& profile) {
  for (uint32_t i = 0; i < Count(profile.lanes()); ++i) {
    const fb::LaneRoles& lane = *profile.lanes()->Get(i);
    HR_RETURN_IF_ERROR(
        CheckIndex(where, "attention", lane.attention(), context.model.attentions.size()));
    const uint32_t heads = context.model.attentions[lane.attention()].kv_heads();
    if (Count(lane.roles()) != 0 && lane.roles()->size() != heads) {
      return Corrupt(where, "roles for %u heads of attention %u, which has %u",
                     lane.roles()->size(), lane.attention(), heads);
    }
    HR_RETURN_IF_ERROR(CheckRoles(context, where, lane.roles()));
  }
  for (uint32_t i = 0; i < Count(profile.quality()); ++i) {
    const fb::Quality& quality = *profile.quality()->Get(i);
    if (std::isfinite(quality.value()) && std::isfinite(quality.reference())) continue;
    return Corrupt(where, "quality %u is %g of %g", i, static_cast<double>(quality.value()),
                   static_cast<double>(quality.reference()));
  }
  return {};
}

}  // namespace

Status LoadMetadata(LoadContext& context) {
  const fb::Metadata* from = context.graph.metadata();
  const Where where("metadata");
  Metadata& to = context.model.metadata;
  if (from == nullptr) return Corrupt(where, "missing");
  HR_RETURN_IF_ERROR(CheckText(where, "name", from->name(), kMaxNameBytes, false, &to.name));
  HR_RETURN_IF_ERROR(CheckText(where, "architecture", from->architecture(), kMaxNameBytes, false,
                               &to.architecture));
  HR_RETURN_IF_ERROR(
      CheckText(where, "license", from->license(), kMaxLicenceBytes, true, &to.license));
  HR_RETURN_IF_ERROR(CheckText(where, "source", from->source(), kMaxNameBytes, false, &to.source));
  if (from->vocabulary() == 0 || from->vocabulary() > kMaxVocabulary) {
    return Corrupt(where, "vocabulary %u is not 1..%u", from->vocabulary(), kMaxVocabulary);
  }
  if (from->context_tokens() > kMaxTokens) {
    return Corrupt(where, "context of %u tokens > %u", from->context_tokens(), kMaxTokens);
  }
  to.vocabulary = from->vocabulary();
  to.context_tokens = from->context_tokens();
  if (context.graph.prefix_embedding() != kNone)
    return Unsupported(where, "rows before every prompt");
  if (context.graph.pre_pass() != nullptr)
    return Unsupported(where, "a pass that drops prompt tokens");
  return LoadSampling(context);
}

Status CheckProfiles(LoadContext& context) {
  HR_RETURN_IF_ERROR(CheckCount("roles", Count(context.graph.roles()), 1u << 8));
  HR_RETURN_IF_ERROR(CheckCount("profiles", Count(context.graph.profiles()), kMaxProfiles));
  for (uint32_t i = 0; i < Count(context.graph.profiles()); ++i) {
    const Where where("profile %u", i);
    std::string_view name;
    const fb::Profile& profile = *context.graph.profiles()->Get(i);
    HR_RETURN_IF_ERROR(CheckText(where, "name", profile.name(), kMaxNameBytes, false, &name));
    HR_RETURN_IF_ERROR(CheckLanes(context, where, profile));
  }
  return {};
}

}  // namespace headroom::model
