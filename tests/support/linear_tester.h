// Tester of linear attention kernels: a case as plain data becomes vectors with strides of their
// own, gaps of NaN between them and forbidden pages behind them; the kernel's outputs and state are
// compared with the oracle, and nothing else may have changed. Product kernels and mutants alike.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "attention/linear_mix.h"
#include "support/compare.h"
#include "support/linear_condition.h"
#include "support/pointwise_tester.h"

namespace headroom::test {

using attention::Decay;
using attention::LinearMixCall;
using attention::LinearMixKernel;
using attention::LinearMixSpec;
using attention::StateUpdate;
using attention::TokenRows;

// Log decays: as models have them; one for all; mixed from {0, -1e-6, -0.5, -30, -200, 0.7}; weak,
// so that a state of thousands of tokens stays; so strong that e^-sum overflows within a chunk.
enum class LogDecays { kPlain, kConstant, kExtreme, kWeak, kStrong };

struct LinearCase {
  LinearMixSpec spec;
  uint32_t tokens = 1;
  LogDecays decays = LogDecays::kPlain;
  bool strengths = true;
  uint32_t gap = 0;  // between rows lie one to six times as many floats; 0: none
  uint32_t seed = 1;
};

inline std::string Describe(const LinearCase& c) {
  constexpr const char* kDecays[] = {"no decay", "decay by head", "by channel", "by element"};
  constexpr const char* kUpdates[] = {"additive", "delta", "removal"};
  constexpr const char* kLogs[] = {"plain", "constant", "extreme", "weak", "strong"};
  return std::string(kUpdates[static_cast<int>(c.spec.update)]) + ", " +
         kDecays[static_cast<int>(c.spec.decay)] + " " + kLogs[static_cast<int>(c.decays)] +
         (c.spec.read_before ? ", read before" : "") + (c.spec.sum_keys ? ", sum of keys" : "") +
         (c.strengths ? ", strengths" : "") + ": K " + std::to_string(c.spec.key_width) + " V " +
         std::to_string(c.spec.value_width) + " T " + std::to_string(c.tokens) + " gap " +
         std::to_string(c.gap) + " seed " + std::to_string(c.seed);
}

// Vectors of a token each, in guarded memory.
struct GuardedRows {
  uint32_t width = 0, stride = 0, count = 0;
  GuardedFloats floats{0};

  GuardedRows() = default;
  // gap < 0: one row for all.
  GuardedRows(uint32_t width_in, uint32_t tokens, int gap)
      : width(width_in),
        stride(gap < 0 ? 0 : width_in + static_cast<uint32_t>(gap)),
        count(gap < 0 ? 1 : tokens),
        floats((count - 1) * stride + width) {}

  bool empty() const { return width == 0; }
  float& At(uint32_t row, uint32_t i) const { return floats[row * stride + i]; }
  TokenRows View(uint32_t token = 0, uint32_t from = 0) const {
    if (empty()) return {};
    return {floats.data() + uint64_t{token} * stride + from, stride};
  }
  oracle::Rows Doubles(uint32_t tokens) const {
    oracle::Rows rows;
    for (uint32_t t = 0; t < tokens && !empty(); ++t) {
      rows.push_back(floats.Doubles(count == 1 ? 0 : t * stride, width));
    }
    return rows;
  }
};

// What a run leaves: the state of `keys` rows, a key sum, and the outputs.
struct LinearOutcome {
  GuardedRows state, out;
  GuardedFloats key_sum{0};
};

class LinearCaseData {
 public:
  explicit LinearCaseData(const LinearCase& c) : case_(c), random_(c.seed * 7919 + 5) {
    const uint32_t keys = c.spec.key_width, values = c.spec.value_width;
    MakeKeys();
    value_ = Fill(values, Gap(3), [&] { return Normal(); });
    MakeDecays();
    if (c.strengths) {
      const bool element = c.spec.decay == Decay::kElement;
      strength_ =
          Fill(element ? values : 1, Gap(4), [&] { return Share() * (element ? 0.3f : 1.0f); });
    }
    if (c.spec.read_before) {
      bonus_ = GuardedFloats(keys, 1.0f, 0.3f, random_);
    }
    state_ = GuardedRows(values, keys, Gap(1));
    for (uint32_t k = 0; k < keys; ++k) {
      for (uint32_t v = 0; v < values; ++v) state_.At(k, v) = Normal();
    }
    key_sum_ = GuardedFloats(c.spec.sum_keys ? keys : 0, 0.3f, 2.0f, random_);
  }

  const LinearCase& test_case() const { return case_; }

  // All of the case in double.
  oracle::LinearProblem Problem() const {
    const LinearMixSpec& spec = case_.spec;
    oracle::LinearProblem p;
    p.decay = static_cast<oracle::LinearDecay>(spec.decay);
    p.update = static_cast<oracle::LinearUpdate>(spec.update);
    p.read_before = spec.read_before;
    p.sum_keys = spec.sum_keys;
    p.epsilon = spec.epsilon;
    p.query = query_.Doubles(case_.tokens);
    p.key = key_.Doubles(case_.tokens);
    p.value = value_.Doubles(case_.tokens);
    p.log_decay = log_decay_.Doubles(case_.tokens);
    p.strength = strength_.Doubles(case_.tokens);
    p.removal = removal_.Doubles(case_.tokens);
    p.write = write_.Doubles(case_.tokens);
    p.bonus = bonus_.Doubles(0, bonus_.size());
    p.rate = rate_.Doubles(spec.key_width);
    p.state = state_.Doubles(spec.key_width);
    p.key_sum = key_sum_.Doubles(0, key_sum_.size());
    return p;
  }

  LinearOutcome Start() const {
    LinearOutcome o;
    o.state = GuardedRows(state_.width, case_.spec.key_width, Gap(1));
    std::copy_n(state_.floats.data(), state_.floats.size(), o.state.floats.data());
    o.out = GuardedRows(state_.width, case_.tokens, Gap(2));
    o.key_sum = GuardedFloats(key_sum_.size());
    std::copy_n(key_sum_.data(), key_sum_.size(), o.key_sum.data());
    return o;
  }

  // Tokens [begin, end) and values [from, from + values) of the case.
  LinearMixCall Call(const LinearOutcome& o, uint32_t begin, uint32_t end, uint32_t from,
                     uint32_t values) const {
    LinearMixCall call;
    call.tokens = end - begin;
    call.values = values;
    call.query = query_.View(begin);
    call.key = key_.View(begin);
    call.value = value_.View(begin, from);
    call.log_decay = log_decay_.View(begin);
    const bool element = case_.spec.decay == Decay::kElement;
    call.strength = strength_.View(begin, element ? from : 0);
    call.removal = removal_.View(begin);
    call.write = write_.View(begin);
    call.bonus = bonus_.size() > 0 ? bonus_.data() : nullptr;
    call.rate = element ? rate_.floats.data() + from : nullptr;
    call.rate_stride = rate_.stride;
    call.state = o.state.floats.data() + from;
    call.state_stride = o.state.stride;
    call.key_sum = o.key_sum.size() > 0 ? o.key_sum.data() : nullptr;
    call.out = o.out.floats.data() + uint64_t{begin} * o.out.stride + from;
    call.out_stride = o.out.stride;
    return call;
  }

  // The whole case in blocks of values as the runtime makes them.
  LinearOutcome Run(LinearMixKernel kernel, uint32_t cut = 0, uint32_t block = 0) const {
    const uint32_t values = case_.spec.value_width;
    if (case_.spec.sum_keys) block = values;
    if (block == 0) block = std::min(values, attention::kMostCallValues);
    LinearOutcome o = Start();
    for (uint32_t from = 0; from < values; from += block) {
      const uint32_t count = std::min(block, values - from);
      for (const auto& [begin, end] : {std::pair(0u, cut), std::pair(cut, case_.tokens)}) {
        if (begin == end) continue;
        const GuardedMemory scratch(attention::LinearMixScratchBytes(case_.spec), 64);
        std::memset(scratch.data(), 0xff, scratch.bytes());  // NaN, to those who trust it
        kernel(case_.spec, Call(o, begin, end, from, count), scratch.data());
      }
    }
    return o;
  }

  // Against allowances of the oracle, made once for many kernels.
  Verdict Check(const LinearOutcome& o, const LinearCondition::Allowances& oracle) const {
    Verdict verdict;
    for (uint32_t t = 0; t < case_.tokens; ++t) {
      CheckRow(o.out, t, oracle.exact.out[t], oracle.out[t], "out T ", &verdict);
    }
    for (uint32_t k = 0; k < case_.spec.key_width; ++k) {
      CheckRow(o.state, k, oracle.exact.state[k], oracle.state[k], "state K ", &verdict);
    }
    for (size_t k = 0; k < o.key_sum.size(); ++k) {
      verdict.Check(o.key_sum[k], oracle.exact.key_sum[k], oracle.key_sum[k],
                    "key sum K " + std::to_string(k));
    }
    return verdict;
  }

  Verdict Test(LinearMixKernel kernel, const LinearCondition::Allowances& oracle) const {
    const std::vector<double> before = Snapshot();
    Verdict verdict = Check(Run(kernel), oracle);
    if (Snapshot() != before) verdict.Fail("an input changed");
    return verdict;
  }

 private:
  // Every kind of rows lies a gap of its own apart, so that none passes for another.
  int Gap(uint32_t kind) const { return static_cast<int>(kind * case_.gap); }
  float Normal() { return normal_(random_); }
  float Share() { return std::uniform_real_distribution<float>(0.05f, 0.95f)(random_); }

  template <typename Fn>
  GuardedRows Fill(uint32_t width, int gap, const Fn& make) {
    GuardedRows rows(width, case_.tokens, gap);
    for (uint32_t t = 0; t < rows.count; ++t) {
      for (uint32_t i = 0; i < width; ++i) rows.At(t, i) = make();
    }
    return rows;
  }

  static void Normalise(const GuardedRows& rows, uint32_t t) {
    double squares = 1e-12;
    for (uint32_t i = 0; i < rows.width; ++i) squares += double{rows.At(t, i)} * rows.At(t, i);
    for (uint32_t i = 0; i < rows.width; ++i) {
      rows.At(t, i) = static_cast<float>(rows.At(t, i) / std::sqrt(squares));
    }
  }

  // Queries and keys as their models have them: positive under a key sum, keys of norm 1 where they
  // are also read by, so that what is held stays bounded.
  void MakeKeys() {
    const LinearMixSpec& spec = case_.spec;
    const uint32_t keys = spec.key_width;
    const auto feature = [&] { return spec.sum_keys ? 0.1f + std::fabs(Normal()) : Normal(); };
    query_ = Fill(keys, Gap(1), feature);
    key_ = Fill(keys, Gap(2), feature);
    for (uint32_t t = 0; t < case_.tokens; ++t) {
      Normalise(query_, t);
      if (spec.update == StateUpdate::kDelta) Normalise(key_, t);
    }
    if (spec.update != StateUpdate::kRemoval) return;
    removal_ = Fill(keys, Gap(4), [&] { return Normal(); });
    write_ = Fill(keys, Gap(5), [&] { return Share(); });
    for (uint32_t t = 0; t < case_.tokens; ++t) {
      Normalise(removal_, t);
      for (uint32_t i = 0; i < keys; ++i) write_.At(t, i) *= -removal_.At(t, i);
    }
  }

  float LogDecay() {
    constexpr float kExtremes[] = {0.0f, -1e-6f, -0.5f, -30.0f, -200.0f, 0.7f};
    switch (case_.decays) {
      case LogDecays::kPlain:
      case LogDecays::kConstant:
        return -0.3f * std::exp(Normal());
      case LogDecays::kExtreme:
        return kExtremes[random_() % std::size(kExtremes)];
      case LogDecays::kWeak:
        return -1e-5f * Share();
      case LogDecays::kStrong:
        return -4.0f * Share();
    }
    return 0;
  }

  void MakeDecays() {
    const LinearMixSpec& spec = case_.spec;
    const int gap = case_.decays == LogDecays::kConstant ? -1 : Gap(6);
    if (spec.decay == Decay::kHead) log_decay_ = Fill(1, gap, [&] { return LogDecay(); });
    if (spec.decay == Decay::kChannel) {
      log_decay_ = Fill(spec.key_width, gap, [&] { return LogDecay(); });
    }
    if (spec.decay == Decay::kElement) {
      rate_ = GuardedRows(spec.value_width, spec.key_width, Gap(2));
      for (uint32_t k = 0; k < spec.key_width; ++k) {
        for (uint32_t v = 0; v < spec.value_width; ++v) rate_.At(k, v) = LogDecay();
      }
    }
  }

  static void CheckRow(const GuardedRows& rows, uint32_t row, const oracle::Row& exact,
                       const oracle::Row& allowed, const char* what, Verdict* verdict) {
    const std::string where = what + std::to_string(row) + " V ";
    for (uint32_t v = 0; v < rows.width; ++v) {
      verdict->Check(rows.At(row, v), exact[v], allowed[v], where + std::to_string(v));
    }
    for (uint32_t v = rows.width; v < rows.stride && row + 1 < rows.count; ++v) {
      if (!std::isnan(rows.At(row, v))) verdict->Fail("gap overwritten: " + where);
    }
  }

  std::vector<double> Snapshot() const {
    std::vector<double> all;
    for (const GuardedRows* rows :
         {&query_, &key_, &value_, &log_decay_, &strength_, &removal_, &write_, &rate_, &state_}) {
      for (size_t i = 0; i < rows->floats.size(); ++i) {
        const float x = rows->floats[i];
        all.push_back(std::isnan(x) ? 1e300 : x);  // NaN is not equal to itself
      }
    }
    return all;
  }

  LinearCase case_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  GuardedRows query_, key_, value_, log_decay_, strength_, removal_, write_, rate_, state_;
  GuardedFloats bonus_{0}, key_sum_{0};
};

// --- cases
// -----------------------------------------------------------------------------------------

// Every combination of decay, update and read that the specification allows.
inline std::vector<LinearMixSpec> AllLinearSpecs() {
  std::vector<LinearMixSpec> specs;
  for (const Decay decay : {Decay::kNone, Decay::kHead, Decay::kChannel, Decay::kElement}) {
    for (const StateUpdate update :
         {StateUpdate::kAdditive, StateUpdate::kDelta, StateUpdate::kRemoval}) {
      for (const bool before : {false, true}) {
        for (const bool sum : {false, true}) {
          if (before && update != StateUpdate::kAdditive) continue;
          if (sum && decay == Decay::kElement) continue;
          LinearMixSpec spec;
          spec.decay = decay;
          spec.update = update;
          spec.read_before = before;
          spec.sum_keys = sum;
          spec.epsilon = sum ? 0.05f : 0.0f;
          specs.push_back(spec);
        }
      }
    }
  }
  return specs;
}

// Widths and tokens around the vectors, register blocks and chunks of any kernel of ours, combined
// in pairs: strides that share no factor with the lists' lengths.
inline std::vector<LinearCase> PairedLinearCases(const LinearMixSpec& spec, uint32_t count) {
  constexpr uint32_t kWidths[] = {1, 3, 8, 16, 63, 64, 65, 128};
  constexpr uint32_t kTokens[] = {1, 2, 7, 63, 64, 65, 200};
  std::vector<LinearCase> cases;
  for (uint32_t i = 0; i < count; ++i) {
    LinearCase c;
    c.spec = spec;
    c.spec.key_width = kWidths[(i * 3 + i / 8) % std::size(kWidths)];
    c.spec.value_width = kWidths[(i * 5 + 7) % std::size(kWidths)];
    c.tokens = kTokens[(i * 2 + 6 + i / 7) % std::size(kTokens)];
    c.decays = static_cast<LogDecays>(i % 5);
    c.strengths = i % 3 != 1;
    c.gap = i % 4 == 0 ? 0 : i % 4 * 3 - 2;
    c.seed = i + 1;
    cases.push_back(c);
  }
  return cases;
}

}  // namespace headroom::test
