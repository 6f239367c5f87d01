// A mixture of experts between its dense layers: who is chosen, with what weight, in what order.
//
// Plain C++ only: all of it is a few hundred numbers a token, beside megabytes of weights.
#pragma once

#include <cstdint>

namespace headroom::ops {

enum class ExpertScore : uint8_t { kSoftmax, kChosenSoftmax, kSigmoid };

// The loader refuses a larger k or group_best.
inline constexpr uint32_t kMostChosen = 256;

// E experts in `groups` groups of neighbours.
struct RouterSpec {
  uint32_t experts = 0;  // E
  uint32_t chosen = 0;   // k, at most top_groups * E / groups
  ExpertScore score = ExpertScore::kSoftmax;
  bool renormalise = false;
  float scale = 1.0f;
  const float* choice_bias = nullptr;  // f32 [E] or null: added for choosing only
  uint32_t groups = 1, top_groups = 1, group_best = 1;
};

struct Choice {
  uint32_t expert = 0;
  float weight = 0.0f;
};

// logits f32 [E] (overwritten) -> choices [k], experts ascending.
//   s = softmax(logits), sigmoid(logits), or for kChosenSoftmax the logits themselves
//   the k experts with the largest s + choice_bias, among equals those of lowest index; with
//   top_groups < groups only of the groups whose group_best largest have the largest sums, among
//   equals those of lowest index
//   weight = scale * s, or scale * s / sum of the k when renormalise; for kChosenSoftmax scale *
//   softmax over the k
// (arXiv 1701.06538 eq. 3 to 5 without noise; groups and bias: arXiv 2412.19437 eq. 12 to 16.)
// A logit that is not a number is never chosen before one that is.
void Route(const RouterSpec& spec, float* logits, Choice* choices);

// Counting sort of choices [T, k] by expert, tokens ascending within each: begin [E + 1] and order
// [T * k] such that the choices of expert e are order[begin[e], begin[e + 1]).
void SortByExpert(const Choice* choices, uint32_t count, uint32_t experts, uint32_t* begin,
                  uint32_t* order);

// gate = min(gate, limit), up = clamp(up, -limit, limit) + offset, in place; limit 0: none.
void LimitGate(float* gate, float* up, uint32_t width, float limit, float offset);

// sum[i] += x[i] * factor
void AddScaled(const float* x, float factor, float* sum, uint32_t width);

}  // namespace headroom::ops
