// Wrong linear attention, given to the tester of the right one. A survivor is a hole in the tests.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <utility>

#include "support/linear_tester.h"

namespace headroom::mutants {
namespace {

using namespace test;  // NOLINT: the testers

enum class Bug {
  kNone,
  kDecayAfterUpdate,
  kDeltaReadsUndecayed,
  kRemovalReadsDecayed,
  kBonusMissing,
  kBonusWithoutStrength,
  kReadAfter,
  kSumUndecayed,
  kStrengthInSum,
  kEpsilonDropped,
  kStrengthIgnored,
  kStrengthOfFirstValue,
  kGrowthCounts,  // a log decay above 0
  kDecayOfFirstToken,
  kDecayOfFirstChannel,
  kChunkLosesItsLast,  // the state behind a chunk lacks its last token
  kChunkStateStale,    // the second chunk starts from the state before the first
  kPositiveExponent,   // e^{G_i - G_j} as e^{G_i} e^{-G_j}
  kWritesKeyForWrite,  // removal writes with k
  kLastKeyLeft,
  kLastValueLeft,
  kStateStrideIgnored,
  kCount
};
constexpr uint32_t kChunk = 64;  // as fast kernels take them
constexpr int kBugs = static_cast<int>(Bug::kCount);

// The definition in plain loops, with one error. The state is that of the chunk's first token times
// `growth` behind, where the error is a positive exponent.
template <Bug kBug>
class Wrong {
 public:
  Wrong(const LinearMixSpec& spec, const LinearMixCall& call)
      : spec_(spec), call_(call), recalled_(call.values), growth_(spec.key_width, 1.0f) {
    if (kBug == Bug::kStateStrideIgnored) call_.state_stride = call_.values;
  }

  void Run() {
    const std::vector<float> start = Copy();
    for (uint32_t t = 0; t < call_.tokens; ++t) {
      const bool chunk_begins = t % kChunk == 0;
      if (kBug == Bug::kChunkStateStale && chunk_begins) Paste(start);
      if (kBug == Bug::kPositiveExponent && chunk_begins) Settle();
      std::vector<float> before;
      const bool loses = kBug == Bug::kChunkLosesItsLast && (t + 1) % kChunk == 0;
      if (loses) before = Copy();
      Token(t);
      if (loses) Paste(before);
    }
    if (kBug == Bug::kPositiveExponent) Settle();
  }

 private:
  bool Is(Bug bug) const { return kBug == bug; }
  float& S(uint32_t k, uint32_t v) { return call_.state[uint64_t{k} * call_.state_stride + v]; }

  std::vector<float> Copy() {
    std::vector<float> all;
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      for (uint32_t v = 0; v < call_.values; ++v) all.push_back(S(k, v));
    }
    return all;
  }
  void Paste(const std::vector<float>& all) {
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      for (uint32_t v = 0; v < call_.values; ++v) S(k, v) = all[k * call_.values + v];
    }
  }
  // The state itself again.
  void Settle() {
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      for (uint32_t v = 0; v < call_.values; ++v) S(k, v) *= growth_[k];
      growth_[k] = 1;
    }
  }

  float Strength(uint32_t t, uint32_t v) const {
    if (call_.strength.data == nullptr || Is(Bug::kStrengthIgnored)) return 1;
    const bool own = spec_.decay == Decay::kElement && !Is(Bug::kStrengthOfFirstValue);
    return call_.strength.row(t)[own ? v : 0];
  }

  float DecayOf(uint32_t t, uint32_t k, uint32_t v) const {
    const uint32_t at = Is(Bug::kDecayOfFirstToken) ? 0 : t;
    float log = 0;
    if (spec_.decay == Decay::kHead) log = call_.log_decay.row(at)[0];
    if (spec_.decay == Decay::kChannel) {
      log = call_.log_decay.row(at)[Is(Bug::kDecayOfFirstChannel) ? 0 : k];
    }
    if (spec_.decay == Decay::kElement) {
      const float strength = call_.strength.data == nullptr ? 1 : call_.strength.row(at)[v];
      log = strength * call_.rate[k * call_.rate_stride + v];
    }
    return std::exp(Is(Bug::kGrowthCounts) ? log : std::min(log, 0.0f));
  }

  void Recall(const float* at) {
    std::fill(recalled_.begin(), recalled_.end(), 0.0f);
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      for (uint32_t v = 0; v < call_.values; ++v) recalled_[v] += at[k] * S(k, v) * growth_[k];
    }
  }

  void Forget(uint32_t t) {
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      if (spec_.sum_keys && !Is(Bug::kSumUndecayed)) call_.key_sum[k] *= DecayOf(t, k, 0);
      if (Is(Bug::kPositiveExponent) && spec_.decay != Decay::kElement) {
        growth_[k] *= DecayOf(t, k, 0);
        continue;
      }
      for (uint32_t v = 0; v < call_.values; ++v) S(k, v) *= DecayOf(t, k, v);
    }
  }

  void Update(uint32_t t) {
    const float *key = call_.key.row(t), *value = call_.value.row(t);
    const bool delta = spec_.update == StateUpdate::kDelta;
    const bool removal = spec_.update == StateUpdate::kRemoval;
    for (uint32_t k = 0; k + Is(Bug::kLastKeyLeft) < spec_.key_width; ++k) {
      if (spec_.sum_keys)
        call_.key_sum[k] += key[k] * (Is(Bug::kStrengthInSum) ? Strength(t, 0) : 1);
      for (uint32_t v = 0; v + Is(Bug::kLastValueLeft) < call_.values; ++v) {
        float added = key[k] * Strength(t, v) * (value[v] - (delta ? recalled_[v] : 0));
        const float* write = Is(Bug::kWritesKeyForWrite) ? key : call_.write.row(t);
        if (removal) added += write[k] * recalled_[v];
        S(k, v) += added / growth_[k];
      }
    }
  }

  void Read(uint32_t t) {
    const float *query = call_.query.row(t), *key = call_.key.row(t), *value = call_.value.row(t);
    float* out = call_.out + uint64_t{t} * call_.out_stride;
    std::fill_n(out, call_.values, 0.0f);
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      const bool bonus = spec_.read_before && !Is(Bug::kBonusMissing);
      for (uint32_t v = 0; v < call_.values; ++v) {
        const float strength = Is(Bug::kBonusWithoutStrength) ? 1 : Strength(t, v);
        const float own = bonus ? call_.bonus[k] * key[k] * strength * value[v] : 0;
        out[v] += query[k] * (S(k, v) * growth_[k] + own);
      }
    }
  }

  void Normalise(uint32_t t) {
    const float* query = call_.query.row(t);
    float sum = Is(Bug::kEpsilonDropped) ? 0 : spec_.epsilon;
    for (uint32_t k = 0; k < spec_.key_width; ++k) sum += query[k] * call_.key_sum[k];
    float* out = call_.out + uint64_t{t} * call_.out_stride;
    for (uint32_t v = 0; v < call_.values; ++v) out[v] /= sum;
  }

  void Token(uint32_t t) {
    const bool removal = spec_.update == StateUpdate::kRemoval;
    const bool delta = spec_.update == StateUpdate::kDelta;
    const bool before = spec_.read_before && !Is(Bug::kReadAfter);
    if (removal && !Is(Bug::kRemovalReadsDecayed)) Recall(call_.removal.row(t));
    if (delta && Is(Bug::kDeltaReadsUndecayed)) Recall(call_.key.row(t));
    if (before) Read(t);
    if (!Is(Bug::kDecayAfterUpdate)) Forget(t);
    if (removal && Is(Bug::kRemovalReadsDecayed)) Recall(call_.removal.row(t));
    if (delta && !Is(Bug::kDeltaReadsUndecayed)) Recall(call_.key.row(t));
    Update(t);
    if (Is(Bug::kDecayAfterUpdate)) Forget(t);
    if (!before) Read(t);
    if (spec_.sum_keys) Normalise(t);
  }

  const LinearMixSpec& spec_;
  LinearMixCall call_;
  std::vector<float> recalled_;
  std::vector<float> growth_;  // [K]: the state is S times this
};

template <Bug kBug>
void WrongLinear(const LinearMixSpec& spec, const LinearMixCall& call, std::byte*) {
  Wrong<kBug>(spec, call).Run();
}

template <size_t... kIndices>
constexpr auto AllKernels(std::index_sequence<kIndices...>) {
  return std::array<LinearMixKernel, sizeof...(kIndices)>{
      WrongLinear<static_cast<Bug>(kIndices)>...};
}
constexpr auto kKernels = AllKernels(std::make_index_sequence<kBugs>());

TEST_CASE("every wrong linear attention is rejected, the right one is not", "[mutant][linear]") {
  std::array<uint32_t, kBugs> rejected{};
  for (const LinearMixSpec& spec : AllLinearSpecs()) {
    for (const LinearCase& c : PairedLinearCases(spec, 16)) {
      const LinearCaseData data(c);
      const oracle::LinearProblem problem = data.Problem();
      const auto oracle = LinearCondition(problem).Run();
      for (int bug = 0; bug < kBugs; ++bug) {
        if (bug > 0 && rejected[bug] > 2) continue;
        const Verdict verdict = data.Test(kKernels[bug], oracle);
        rejected[bug] += !verdict.accepted();
        INFO(Describe(c) << ": " << verdict.Why());
        if (bug == 0) CHECK(verdict.accepted());
      }
    }
  }
  for (int bug = 1; bug < kBugs; ++bug) {
    INFO("bug " << bug);
    CHECK(rejected[bug] > 0);
  }
}

}  // namespace
}  // namespace headroom::mutants
