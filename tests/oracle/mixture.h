// A routed mixture of experts in double precision, from its definition: sparsely gated experts
// (arXiv 1701.06538 eq. 1 to 5, without noise), choice by biased scores within the best groups
// (arXiv 2412.19437 eq. 12 to 16), clamped gated units with an offset (arXiv 2508.10925
// section 2.1).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "oracle/pointwise.h"

namespace headroom::oracle {

enum class ExpertScore { kSoftmax, kChosenSoftmax, kSigmoid };

struct Router {
  uint32_t experts = 1, chosen = 1;
  ExpertScore score = ExpertScore::kSoftmax;
  bool renormalise = false;
  double scale = 1;
  std::vector<double> choice_bias;  // [E] or empty
  uint32_t groups = 1, top_groups = 1, group_best = 1;
};

inline std::vector<double> Softmax(const std::vector<double>& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  std::vector<double> out;
  double sum = 0;
  for (const double value : x) sum += std::exp(value - largest);
  for (const double value : x) out.push_back(std::exp(value - largest) / sum);
  return out;
}

// Indices of the `count` largest, of equals the first, in order of index.
inline std::vector<uint32_t> Largest(const std::vector<double>& x, uint32_t count) {
  std::vector<uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return x[a] > x[b]; });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

// [E]: the weight of every expert, 0 for those not chosen; and which are.
struct Routed {
  std::vector<double> weights;
  std::vector<uint32_t> chosen;
};

inline Routed Route(const Router& router, const std::vector<double>& logits) {
  std::vector<double> scores = logits;
  if (router.score == ExpertScore::kSoftmax) scores = Softmax(logits);
  if (router.score == ExpertScore::kSigmoid) {
    for (double& s : scores) s = 1 / (1 + std::exp(-s));
  }
  std::vector<double> merits = scores;
  for (size_t e = 0; e < router.choice_bias.size(); ++e) merits[e] += router.choice_bias[e];

  const uint32_t members = router.experts / router.groups;
  std::vector<double> of_groups;
  for (uint32_t g = 0; g < router.groups; ++g) {
    std::vector<double> group(merits.begin() + g * members, merits.begin() + (g + 1) * members);
    std::sort(group.rbegin(), group.rend());
    of_groups.push_back(std::accumulate(group.begin(), group.begin() + router.group_best, 0.0));
  }
  const std::vector<uint32_t> allowed = Largest(of_groups, router.top_groups);
  for (uint32_t e = 0; e < router.experts; ++e) {
    if (std::find(allowed.begin(), allowed.end(), e / members) == allowed.end()) {
      merits[e] = -INFINITY;
    }
  }

  Routed routed{std::vector<double>(router.experts, 0.0), Largest(merits, router.chosen)};
  std::vector<double> of_chosen;
  for (const uint32_t e : routed.chosen) of_chosen.push_back(scores[e]);
  if (router.score == ExpertScore::kChosenSoftmax) of_chosen = Softmax(of_chosen);
  const double sum = std::accumulate(of_chosen.begin(), of_chosen.end(), 0.0);
  for (size_t i = 0; i < of_chosen.size(); ++i) {
    routed.weights[routed.chosen[i]] =
        router.scale * of_chosen[i] / (router.renormalise ? sum : 1.0);
  }
  return routed;
}

using Matrix = std::vector<std::vector<double>>;  // rows

inline std::vector<double> Multiply(const Matrix& matrix, const std::vector<double>& x,
                                    const std::vector<double>& bias) {
  std::vector<double> out;
  for (size_t n = 0; n < matrix.size(); ++n) {
    out.push_back(
        std::inner_product(x.begin(), x.end(), matrix[n].begin(), bias.empty() ? 0.0 : bias[n]));
  }
  return out;
}

struct Expert {
  Matrix gate, up, down;
  std::vector<double> gate_bias, up_bias, down_bias;  // or empty
};

struct Mixture {
  Router router;
  Matrix router_weight;
  std::vector<double> router_bias;
  std::vector<Expert> experts;
  std::function<double(double)> activation;
  double limit = 0, up_offset = 0;
};

// Every expert is computed for every token, as the definition says; most weights are 0.
inline std::vector<double> Mix(const Mixture& m, const std::vector<double>& x) {
  const Routed routed = Route(m.router, Multiply(m.router_weight, x, m.router_bias));
  std::vector<double> out(x.size(), 0.0);
  for (size_t e = 0; e < m.experts.size(); ++e) {
    const Expert& expert = m.experts[e];
    std::vector<double> gate = Multiply(expert.gate, x, expert.gate_bias);
    const std::vector<double> up = Multiply(expert.up, x, expert.up_bias);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double g = m.limit > 0 ? std::min(gate[i], m.limit) : gate[i];
      const double u = m.limit > 0 ? std::clamp(up[i], -m.limit, m.limit) : up[i];
      gate[i] = m.activation(g) * (u + m.up_offset);
    }
    const std::vector<double> y = Multiply(expert.down, gate, expert.down_bias);
    for (size_t c = 0; c < out.size(); ++c) out[c] += routed.weights[e] * y[c];
  }
  return out;
}

}  // namespace headroom::oracle
