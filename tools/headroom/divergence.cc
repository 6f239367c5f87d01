#include "headroom/divergence.h"

#include <algorithm>
#include <cmath>

namespace headroom::cli {
namespace {

size_t Top(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// log sum exp(logits).
double LogSum(std::span<const float> logits) {
  const double largest = logits[Top(logits)];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

// The value below which `share` of the sorted values lie, by nearest rank.
double Quantile(const std::vector<double>& sorted, double share) {
  const double rank = std::ceil(share * static_cast<double>(sorted.size()));
  return sorted[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

}  // namespace

void Divergence::Add(std::span<const float> reference, std::span<const float> candidate,
                     int32_t next) {
  const double reference_sum = LogSum(reference), sum = LogSum(candidate);
  double kl = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double expected = reference[i] - reference_sum;
    kl += std::exp(expected) * (expected - (candidate[i] - sum));
  }
  kl_.push_back(std::max(kl, 0.0));  // rounding may leave a little less than nothing
  same_top_ += Top(reference) == Top(candidate) ? 1 : 0;
  if (next < 0) return;
  ++predicted_;
  reference_surprise_ += reference_sum - reference[static_cast<size_t>(next)];
  surprise_ += sum - candidate[static_cast<size_t>(next)];
}

DivergenceSummary Divergence::Summarise() const {
  DivergenceSummary summary;
  summary.tokens = kl_.size();
  if (kl_.empty()) return summary;
  const double count = static_cast<double>(kl_.size());
  std::vector<double> sorted = kl_;
  std::sort(sorted.begin(), sorted.end());
  for (const double kl : sorted) summary.mean_kl += kl / count;
  summary.median_kl = Quantile(sorted, 0.5);
  summary.p99_kl = Quantile(sorted, 0.99);
  summary.largest_kl = sorted.back();
  summary.top1_agreement = static_cast<double>(same_top_) / count;
  summary.predicted = predicted_;
  if (predicted_ == 0) return summary;
  summary.reference_perplexity = std::exp(reference_surprise_ / static_cast<double>(predicted_));
  summary.perplexity = std::exp(surprise_ / static_cast<double>(predicted_));
  return summary;
}

}  // namespace headroom::cli
