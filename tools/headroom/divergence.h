// How far one set of next-token distributions is from another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace headroom::cli {

struct DivergenceSummary {
  uint64_t tokens = 0;  // positions compared
  double mean_kl = 0;   // nats per token, KL(reference || candidate)
  double median_kl = 0;
  double p99_kl = 0;
  double largest_kl = 0;
  double top1_agreement = 0;  // share of positions whose most likely token is the same
  uint64_t predicted = 0;     // positions whose next token is known: those of the perplexities
  double reference_perplexity = 0;
  double perplexity = 0;
};

// Gathers position by position. All sums in double; logits may be anything finite.
class Divergence {
 public:
  // The logits of one position by both models, and the token that really follows (-1: unknown).
  void Add(std::span<const float> reference, std::span<const float> candidate, int32_t next);
  DivergenceSummary Summarise() const;

 private:
  std::vector<double> kl_;
  uint64_t same_top_ = 0;
  uint64_t predicted_ = 0;
  double reference_surprise_ = 0, surprise_ = 0;  // nats
};

}  // namespace headroom::cli
