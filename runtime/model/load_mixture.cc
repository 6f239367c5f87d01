// A mixture of experts: that its blocks of rows are really there, and that its router can choose.
#include <algorithm>
#include <cmath>

#include "model/load.h"

namespace headroom::model {
namespace {

// `weight` as E blocks of `rows` rows each.
Status CheckBlocks(const Where& where, const char* what, const WeightRef& weight, uint32_t experts,
                   uint64_t rows) {
  if (weight.rows == experts * rows) return {};
  return Corrupt(where, "%s has %u rows, %u experts take %llu each", what, weight.rows, experts,
                 Number(rows));
}

Status LoadScore(const Where& where, fb::ExpertScore score, ExpertScore* out) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "expert score", score));
  switch (score) {
    case fb::ExpertScore::None:
      break;
    case fb::ExpertScore::Softmax:
      *out = ExpertScore::kSoftmax;
      return {};
    case fb::ExpertScore::ChosenSoftmax:
      *out = ExpertScore::kChosenSoftmax;
      return {};
    case fb::ExpertScore::Sigmoid:
      *out = ExpertScore::kSigmoid;
      return {};
  }
  return Corrupt(where, "no expert score");
}

// The groups allowed must hold the experts wanted, and a group those it is judged by.
Status CheckGroups(const Where& where, const MixtureSpec& spec) {
  if (spec.groups == 0 || spec.experts % spec.groups != 0) {
    return Corrupt(where, "%u experts are no multiple of %u groups", spec.experts, spec.groups);
  }
  const uint32_t members = spec.experts / spec.groups;
  if (spec.top_groups == 0 || spec.top_groups > spec.groups) {
    return Corrupt(where, "the best %u of %u groups", spec.top_groups, spec.groups);
  }
  if (spec.group_best == 0 || spec.group_best > std::min(members, kMaxChosen)) {
    return Corrupt(where, "groups of %u experts judged by %u", members, spec.group_best);
  }
  if (spec.chosen > uint64_t{spec.top_groups} * members) {
    return Corrupt(where, "%u experts chosen from %u groups of %u", spec.chosen, spec.top_groups,
                   members);
  }
  return {};
}

Status LoadRouter(const LoadContext& context, const Where& where, const fb::MixtureOp& from,
                  uint32_t width, MixtureSpec* out) {
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "router", from.router(), width, &out->router));
  out->experts = out->router.rows;
  if (out->experts > kMaxExperts) {
    return Corrupt(where, "%u experts > %u", out->experts, kMaxExperts);
  }
  out->chosen = from.chosen();
  if (out->chosen == 0 || out->chosen > out->experts || out->chosen > kMaxChosen) {
    return Corrupt(where, "%u of %u experts a token, must be 1 to %u", out->chosen, out->experts,
                   kMaxChosen);
  }
  HR_RETURN_IF_ERROR(LoadScore(where, from.score(), &out->score));
  out->renormalise = from.renormalise();
  out->scale = from.scale();
  HR_RETURN_IF_ERROR(CheckFactor(where, "scale", out->scale));
  out->choice_bias = from.choice_bias();
  if (out->choice_bias != kNone) {
    HR_RETURN_IF_ERROR(CheckVector(context, where, "choice bias", out->choice_bias, out->experts));
  }
  out->groups = from.groups();
  out->top_groups = from.top_groups();
  out->group_best = from.group_best();
  return CheckGroups(where, *out);
}

}  // namespace

Status LoadMixture(const LoadContext& context, const Where& where, const fb::MixtureOp& from,
                   uint32_t width, MixtureSpec* out) {
  HR_RETURN_IF_ERROR(LoadRouter(context, where, from, width, out));
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "gate_up", from.gate_up(), width, &out->gate_up));
  if (out->gate_up.rows % (uint64_t{2} * out->experts) != 0) {
    return Corrupt(where, "gate_up has %u rows, no multiple of twice %u experts", out->gate_up.rows,
                   out->experts);
  }
  out->inner = out->gate_up.rows / out->experts / 2;
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "down", from.down(), out->inner, &out->down));
  HR_RETURN_IF_ERROR(CheckBlocks(where, "down", out->down, out->experts, width));
  HR_RETURN_IF_ERROR(LoadActivation(where, from.activation(), &out->activation));
  out->limit = from.limit();
  if (!std::isfinite(out->limit) || out->limit < 0.0f) {
    return Corrupt(where, "limit %g is negative or not finite", static_cast<double>(out->limit));
  }
  out->up_offset = from.up_offset();
  if (!std::isfinite(out->up_offset)) {
    return Corrupt(where, "up offset %g is not finite", static_cast<double>(out->up_offset));
  }
  return {};
}

}  // namespace headroom::model
