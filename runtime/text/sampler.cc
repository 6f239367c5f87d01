#include "text/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace headroom::text {
namespace {

struct Candidate {
  float logit;
  uint32_t id;
};
static_assert(sizeof(Candidate) == 8);
constexpr uint32_t kPenalised = 0x80000000u;  // mark in Candidate::id while the penalty is applied

// Strict total order: higher logit first, then lower id. Independent of the sorting algorithm.
bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}
bool LowerId(const Candidate& a, const Candidate& b) { return a.id < b.id; }

// exp(x) for x <= 0 from additions and multiplications alone, so that it is bit-identical
// everywhere; the C library's is not. x = k ln 2 + r with |r| <= ln 2 / 2, Taylor to r^13 / 13!
// (error below 1e-16).
double ExpNegative(double x) {
  if (!(x > -700.0)) return 0.0;
  constexpr double kInverseLn2 = 1.44269504088896338700e+00;
  constexpr double kLn2High = 6.93147180369123816490e-01;  // 33 bits: k * high is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double k = std::floor(x * kInverseLn2 + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1.0;
  for (int n = 13; n >= 1; --n) sum = 1.0 + sum * r / n;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(1023 + static_cast<int64_t>(k)) << 52);
}

// Relative probability of a candidate: exp((logit - best) / temperature).
struct Softmax {
  double best;
  double temperature;
  double operator()(const Candidate& c) const {
    return ExpNegative((c.logit - best) / temperature);
  }
};

Status CheckLogits(std::span<const float> logits, uint64_t position) {
  bool any = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < std::numeric_limits<float>::infinity())) {
      return Status::Make(StatusCode::kInternal, "logit of token %zu is %g at position %llu", i,
                          static_cast<double>(logits[i]),
                          static_cast<unsigned long long>(position));
    }
    any |= logits[i] > -std::numeric_limits<float>::infinity();
  }
  if (any) return {};
  return Status::Make(StatusCode::kInternal, "all %zu logits are -inf at position %llu",
                      logits.size(), static_cast<unsigned long long>(position));
}

void ApplyPenalty(std::span<Candidate> candidates, std::span<const int32_t> history,
                  const SamplerOptions& options) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  const float penalty = options.repetition_penalty;
  if (penalty == 0.0f || penalty == 1.0f) return;
  const size_t window =
      options.repetition_window ? options.repetition_window : kDefaultRepetitionWindow;
  const std::span<const int32_t> recent = history.last(std::min(window, history.size()));
  for (const int32_t id : recent) {
    if (id < 0 || static_cast<size_t>(id) >= candidates.size()) continue;
    Candidate& candidate = candidates[id];
    if (candidate.id & kPenalised) continue;  // once, however often it occurred
    candidate.id |= kPenalised;
    const bool finite = candidate.logit > -std::numeric_limits<float>::infinity();
    candidate.logit =
        candidate.logit > 0.0f ? candidate.logit / penalty : candidate.logit * penalty;
    // An extreme penalty must not turn a logit into an infinity that wins over everything, nor the
    // best one into -inf, which has no differences. One that was -inf stays it.
    if (finite) candidate.logit = std::clamp(candidate.logit, -kLargest, kLargest);
  }
  for (const int32_t id : recent) {
    if (id >= 0 && static_cast<size_t>(id) < candidates.size()) candidates[id].id &= ~kPenalised;
  }
}

// Keeps the k best, in any order.
std::span<Candidate> KeepTopK(std::span<Candidate> candidates, uint32_t k) {
  if (k == 0 || k >= candidates.size()) return candidates;
  std::nth_element(candidates.begin(), candidates.begin() + k - 1, candidates.end(), Before);
  return candidates.first(k);
}

// Keeps the shortest run of best candidates whose probabilities reach `p` of the whole; at least
// one. A heap instead of a sort: usually a few dozen of a hundred thousand are taken.
std::span<Candidate> KeepTopP(std::span<Candidate> candidates, float p, const Softmax& weight) {
  if (p == 0.0f || p == 1.0f) return candidates;
  // Summed in order of id, so that the total does not depend on how top-k arranged them.
  std::sort(candidates.begin(), candidates.end(), LowerId);
  double total = 0.0;
  for (const Candidate& c : candidates) total += weight(c);
  const auto worse = [](const Candidate& a, const Candidate& b) { return Before(b, a); };
  std::make_heap(candidates.begin(), candidates.end(), worse);
  double sum = 0.0;
  size_t left = candidates.size();
  while (left > 0 && (left == candidates.size() || sum < p * total)) {
    std::pop_heap(candidates.begin(), candidates.begin() + left, worse);
    sum += weight(candidates[--left]);
  }
  return candidates.subspan(left);
}

// Keeps those at least `p` times as probable as the best.
std::span<Candidate> KeepMinP(std::span<Candidate> candidates, float p, const Softmax& weight) {
  if (p == 0.0f) return candidates;
  const auto end = std::remove_if(candidates.begin(), candidates.end(),
                                  [&](const Candidate& c) { return weight(c) < p; });
  return candidates.first(end - candidates.begin());
}

// Walks the kept candidates in order of id until the drawn share of their weight is passed.
int32_t Draw(std::span<Candidate> kept, const Softmax& weight, double uniform) {
  std::sort(kept.begin(), kept.end(), LowerId);
  double total = 0.0;
  for (const Candidate& c : kept) total += weight(c);
  const double target = uniform * total;
  double sum = 0.0;
  uint32_t last = kept[0].id;
  for (const Candidate& c : kept) {
    const double w = weight(c);
    if (w == 0.0) continue;
    sum += w;
    last = c.id;
    if (sum > target) break;
  }
  return static_cast<int32_t>(last);
}

}  // namespace

PhiloxBlock Philox4x32(PhiloxBlock counter, uint32_t key_low, uint32_t key_high) {
  uint32_t* c = counter.words;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53u} * c[0];
    const uint64_t b = uint64_t{0xcd9e8d57u} * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c1 ^ key_low;
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c3 ^ key_high;
    c[3] = static_cast<uint32_t>(a);
    key_low += 0x9e3779b9u;
    key_high += 0xbb67ae85u;
  }
  return counter;
}

double DrawUniform(uint64_t seed, uint64_t position) {
  const PhiloxBlock block =
      Philox4x32({{static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0}},
                 static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  const uint64_t bits = uint64_t{block.words[0]} << 32 | block.words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Status CheckSamplerOptions(const SamplerOptions& options) {
  const auto check = [](const char* name, float value, float limit) -> Status {
    if (value >= 0.0f && value <= limit) return {};
    return Status::Make(StatusCode::kInvalidArgument, "%s %g is not in 0 .. %g", name,
                        static_cast<double>(value), static_cast<double>(limit));
  };
  constexpr float kMax = std::numeric_limits<float>::max();
  HR_RETURN_IF_ERROR(check("temperature", options.temperature, kMax));
  HR_RETURN_IF_ERROR(check("top_p", options.top_p, 1.0f));
  HR_RETURN_IF_ERROR(check("min_p", options.min_p, 1.0f));
  return check("repetition_penalty", options.repetition_penalty, kMax);
}

Result<int32_t> Sample(std::span<const float> logits, std::span<const int32_t> history,
                       uint64_t position, const SamplerOptions& options,
                       std::span<std::byte> scratch) {
  HR_RETURN_IF_ERROR(CheckSamplerOptions(options));
  if (logits.empty() || logits.size() >= kPenalised ||
      scratch.size() < SamplerScratchBytes(static_cast<uint32_t>(logits.size()))) {
    return Status::Make(StatusCode::kInvalidArgument, "scratch of %zu bytes for %zu logits",
                        scratch.size(), logits.size());
  }
  HR_RETURN_IF_ERROR(CheckLogits(logits, position));
  std::span<Candidate> kept(reinterpret_cast<Candidate*>(scratch.data()), logits.size());
  for (uint32_t id = 0; id < logits.size(); ++id) kept[id] = {logits[id], id};
  ApplyPenalty(kept, history, options);
  const Candidate best = *std::min_element(kept.begin(), kept.end(), Before);
  if (options.temperature == 0.0f) return static_cast<int32_t>(best.id);
  const Softmax weight{best.logit, options.temperature};
  kept = KeepTopK(kept, options.top_k);
  kept = KeepTopP(kept, options.top_p, weight);
  kept = KeepMinP(kept, options.min_p, weight);
  return Draw(kept, weight, DrawUniform(options.seed, position));
}

}  // namespace headroom::text
