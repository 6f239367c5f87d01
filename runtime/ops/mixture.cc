#include "ops/mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace headroom::ops {
namespace {

constexpr float kTiny = 1e-20f;
constexpr float kNever = -std::numeric_limits<float>::infinity();

void Softmax(const float* x, uint32_t count, float* out) {
  const float largest = *std::max_element(x, x + count);
  float sum = 0.0f;
  for (uint32_t i = 0; i < count; ++i) sum += out[i] = std::exp(x[i] - largest);
  for (uint32_t i = 0; i < count; ++i) out[i] /= sum;
}

// By what expert e is chosen.
float Merit(const RouterSpec& spec, const float* scores, uint32_t e) {
  const float merit = scores[e] + (spec.choice_bias == nullptr ? 0.0f : spec.choice_bias[e]);
  return std::isnan(merit) ? kNever : merit;
}

// Keeps best[0, count) the largest so far, falling; equals stay in order of arrival.
struct Ranked {
  uint32_t index;
  float merit;
};
void Insert(Ranked* best, uint32_t capacity, uint32_t* count, Ranked entry) {
  if (*count == capacity && !(entry.merit > best[capacity - 1].merit)) return;
  uint32_t at = *count < capacity ? (*count)++ : capacity - 1;
  for (; at > 0 && entry.merit > best[at - 1].merit; --at) best[at] = best[at - 1];
  best[at] = entry;
}

constexpr uint32_t kMost = kMostChosen;

float GroupMerit(const RouterSpec& spec, const float* scores, uint32_t group) {
  const uint32_t members = spec.experts / spec.groups;
  Ranked best[kMost];
  uint32_t count = 0;
  for (uint32_t e = group * members; e < (group + 1) * members; ++e) {
    Insert(best, spec.group_best, &count, {e, Merit(spec, scores, e)});
  }
  float sum = 0.0f;
  for (uint32_t i = 0; i < count; ++i) sum += best[i].merit;
  return sum;
}

// How many groups are better than this one; a group is in when fewer than top_groups are. Quadratic
// in a number that is 8 where groups are used.
bool GroupAllowed(const RouterSpec& spec, const float* scores, uint32_t group) {
  if (spec.top_groups == spec.groups) return true;
  const float own = GroupMerit(spec, scores, group);
  uint32_t better = 0;
  for (uint32_t other = 0; other < spec.groups; ++other) {
    const float merit = GroupMerit(spec, scores, other);
    if (merit > own || (merit == own && other < group)) ++better;
  }
  return better < spec.top_groups;
}

uint32_t Choose(const RouterSpec& spec, const float* scores, Ranked* best) {
  const uint32_t members = spec.experts / spec.groups;
  uint32_t count = 0;
  for (uint32_t group = 0; group < spec.groups; ++group) {
    if (!GroupAllowed(spec, scores, group)) continue;
    for (uint32_t e = group * members; e < (group + 1) * members; ++e) {
      Insert(best, spec.chosen, &count, {e, Merit(spec, scores, e)});
    }
  }
  return count;
}

}  // namespace

void Route(const RouterSpec& spec, float* logits, Choice* choices) {
  float* scores = logits;
  if (spec.score == ExpertScore::kSoftmax) Softmax(logits, spec.experts, scores);
  if (spec.score == ExpertScore::kSigmoid) {
    for (uint32_t e = 0; e < spec.experts; ++e) scores[e] = 1.0f / (1.0f + std::exp(-logits[e]));
  }
  Ranked best[kMost];
  Choose(spec, scores, best);
  std::sort(best, best + spec.chosen,
            [](const Ranked& a, const Ranked& b) { return a.index < b.index; });
  float weights[kMost];
  for (uint32_t i = 0; i < spec.chosen; ++i) weights[i] = scores[best[i].index];
  if (spec.score == ExpertScore::kChosenSoftmax) Softmax(weights, spec.chosen, weights);
  float sum = 0.0f;
  for (uint32_t i = 0; i < spec.chosen; ++i) sum += weights[i];
  // Sigmoids far below zero may all be 0.
  const float factor = spec.renormalise ? spec.scale / (sum + kTiny) : spec.scale;
  for (uint32_t i = 0; i < spec.chosen; ++i) choices[i] = {best[i].index, weights[i] * factor};
}

void SortByExpert(const Choice* choices, uint32_t count, uint32_t experts, uint32_t* begin,
                  uint32_t* order) {
  std::fill_n(begin, experts + 1, 0u);
  for (uint32_t i = 0; i < count; ++i) ++begin[choices[i].expert];
  uint32_t end = 0;
  for (uint32_t e = 0; e < experts; ++e) begin[e] = end += begin[e];  // for now: where e ends
  begin[experts] = count;
  for (uint32_t i = count; i-- > 0;) order[--begin[choices[i].expert]] = i;
}

void LimitGate(float* gate, float* up, uint32_t width, float limit, float offset) {
  if (limit != 0.0f) {
    for (uint32_t i = 0; i < width; ++i) gate[i] = std::min(gate[i], limit);
    for (uint32_t i = 0; i < width; ++i) up[i] = std::clamp(up[i], -limit, limit);
  }
  if (offset == 0.0f) return;
  for (uint32_t i = 0; i < width; ++i) up[i] += offset;
}

void AddScaled(const float* x, float factor, float* sum, uint32_t width) {
  for (uint32_t i = 0; i < width; ++i) sum[i] += x[i] * factor;
}

}  // namespace headroom::ops
