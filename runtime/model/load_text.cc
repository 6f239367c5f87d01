// Everything about the model but the model: metadata and sampling hints.
#include <cmath>
#include <cstring>

#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kMaxVocabulary = kMaxWidth;
constexpr uint32_t kMaxLicenceBytes = 1u << 16;

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

}  // namespace headroom::model
