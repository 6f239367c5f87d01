// Linear attention, portable and of every instruction set, against the oracle; the oracle against
// itself; and what must hold without one.
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "support/kernel_subjects.h"
#include "support/linear_tester.h"

namespace headroom::test {
namespace {

// Of every specification; the widths 64 to 128 with many tokens are a few of them.
constexpr uint32_t kPairedCases = 40;

// An allowance that no kernel ever comes near bounds nothing: drift inside it would go unseen.
constexpr double kLeastRatio = 0.01;

void RunAll(const std::vector<LinearCase>& cases) {
  const auto subjects = KernelSubjects();
  std::vector<Verdict> totals(subjects.size());
  for (const LinearCase& c : cases) {
    const LinearCaseData data(c);
    const oracle::LinearProblem problem = data.Problem();
    const auto oracle = LinearCondition(problem).Run();
    for (size_t s = 0; s < subjects.size(); ++s) {
      const Verdict verdict = data.Test(subjects[s].linear_mix, oracle);
      INFO(subjects[s].isa << ", " << Describe(c) << ": " << verdict.Why());
      REQUIRE(verdict.accepted());
      totals[s].Join(verdict);
    }
  }
  for (size_t s = 0; s < subjects.size(); ++s) {
    UNSCOPED_INFO(subjects[s].isa << ": worst error / allowance " << totals[s].worst_ratio);
    CHECK(totals[s].worst_ratio > kLeastRatio);
  }
}

void RunUpdate(StateUpdate update) {
  for (const LinearMixSpec& spec : AllLinearSpecs()) {
    if (spec.update == update) RunAll(PairedLinearCases(spec, kPairedCases));
  }
}

TEST_CASE("linear attention that adds matches the oracle", "[linear]") {
  RunUpdate(StateUpdate::kAdditive);
}
TEST_CASE("linear attention by the delta rule matches the oracle", "[linear]") {
  RunUpdate(StateUpdate::kDelta);
}
TEST_CASE("linear attention with removal matches the oracle", "[linear]") {
  RunUpdate(StateUpdate::kRemoval);
}

TEST_CASE("linear attention keeps its digits over thousands of tokens", "[linear]") {
  for (const LinearMixSpec& spec : AllLinearSpecs()) {
    std::vector<LinearCase> cases;
    for (const LogDecays decays : {LogDecays::kConstant, LogDecays::kWeak, LogDecays::kExtreme}) {
      LinearCase c;
      c.spec = spec;
      c.spec.key_width = decays == LogDecays::kWeak ? 64 : 3;
      c.spec.value_width = decays == LogDecays::kWeak ? 1 : 17;
      c.tokens = 4096;
      c.decays = decays;
      cases.push_back(c);
    }
    RunAll(cases);
  }
}

// --- properties that need no oracle
// ----------------------------------------------------------------

// Two runs of one kernel on one case, within twice the allowance of either.
Verdict Same(const LinearCaseData& data, const LinearOutcome& a, const LinearOutcome& b) {
  const oracle::LinearProblem problem = data.Problem();
  auto oracle = LinearCondition(problem).Run();
  const auto take = [](const GuardedRows& rows, oracle::Rows* exact, oracle::Rows* allowed) {
    *exact = rows.Doubles(rows.count);
    for (oracle::Row& row : *allowed) {
      for (double& x : row) x *= 2;
    }
  };
  take(a.out, &oracle.exact.out, &oracle.out);
  take(a.state, &oracle.exact.state, &oracle.state);
  oracle.exact.key_sum = a.key_sum.Doubles(0, a.key_sum.size());
  return data.Check(b, oracle);
}

TEST_CASE("tokens in two calls give what they give in one", "[linear][property]") {
  for (const LinearMixSpec& spec : AllLinearSpecs()) {
    LinearCase c;
    c.spec = spec;
    c.spec.key_width = 64;
    c.spec.value_width = 33;
    c.tokens = 71;
    const LinearCaseData data(c);
    for (const xnnpack::Kernels& kernels : KernelSubjects()) {
      const LinearOutcome whole = data.Run(kernels.linear_mix);
      for (const uint32_t cut : {1u, 35u, 64u, 65u}) {
        const Verdict verdict = Same(data, whole, data.Run(kernels.linear_mix, cut));
        INFO(kernels.isa << ", " << Describe(c) << " cut " << cut << ": " << verdict.Why());
        REQUIRE(verdict.accepted());
      }
    }
  }
}

TEST_CASE("a block of values alone gives what it gives among all", "[linear][property]") {
  for (const LinearMixSpec& spec : AllLinearSpecs()) {
    if (spec.sum_keys) continue;  // one call moves the key sum
    LinearCase c;
    c.spec = spec;
    c.spec.key_width = 65;
    c.spec.value_width = 80;
    c.tokens = 66;
    const LinearCaseData data(c);
    for (const xnnpack::Kernels& kernels : KernelSubjects()) {
      const LinearOutcome whole = data.Run(kernels.linear_mix);
      for (const uint32_t block : {16u, 17u, 48u}) {
        const Verdict verdict = Same(data, whole, data.Run(kernels.linear_mix, 0, block));
        INFO(kernels.isa << ", " << Describe(c) << " block " << block << ": " << verdict.Why());
        REQUIRE(verdict.accepted());
      }
    }
  }
}

// --- the oracle
// ------------------------------------------------------------------------------------

TEST_CASE("the recurrence and the closed form of linear attention agree", "[linear][oracle]") {
  for (const LinearMixSpec& spec : AllLinearSpecs()) {
    for (const LogDecays decays : {LogDecays::kPlain, LogDecays::kExtreme, LogDecays::kStrong}) {
      LinearCase c;
      c.spec = spec;
      c.spec.key_width = 5;
      c.spec.value_width = 3;
      c.tokens = 17;
      c.decays = decays;
      const oracle::LinearProblem problem = LinearCaseData(c).Problem();
      const oracle::LinearResult a = oracle::LinearRecurrent(problem);
      const oracle::LinearResult b = oracle::LinearQuadratic(problem).Result();
      const auto condition = LinearCondition(problem).Run();
      Verdict verdict;  // double has 29 bits more than the allowance is for; 20 are left to it
      for (uint32_t v = 0; v < c.spec.value_width; ++v) {
        for (uint32_t t = 0; t < c.tokens; ++t) {
          verdict.Check(b.out[t][v], a.out[t][v], condition.out[t][v] * 0x1p-20, "out");
        }
        for (uint32_t k = 0; k < c.spec.key_width; ++k) {
          verdict.Check(b.state[k][v], a.state[k][v], condition.state[k][v] * 0x1p-20, "state");
        }
      }
      for (size_t k = 0; k < a.key_sum.size(); ++k) {
        verdict.Check(b.key_sum[k], a.key_sum[k], condition.key_sum[k] * 0x1p-20, "key sum");
      }
      INFO(Describe(c) << ": " << verdict.Why());
      CHECK(verdict.accepted());
    }
  }
}

// --- golden vectors
// --------------------------------------------------------------------------------

// Made by a program of its own, in another language, and printed with seven digits.
constexpr double kPrinted = 0.5e-7;
constexpr uint32_t kT = 4, kK = 3, kV = 2;

struct Golden {
  LinearMixSpec spec;
  std::vector<float> query, key, value, log_decay, strength, bonus, rate;
  std::vector<float> skip;         // [V]: y += skip x value, after
  std::vector<double> out, state;  // state: empty where none was printed
};

Golden Plain() {
  Golden g;
  g.spec.key_width = kK;
  g.spec.value_width = kV;
  const auto number = [](uint32_t mixed, uint32_t modulus, int middle) {
    return static_cast<float>(static_cast<int>(mixed % modulus) - middle) / 2;
  };
  for (uint32_t t = 0; t < kT; ++t) {
    for (uint32_t i = 0; i < kK; ++i) g.query.push_back(number(3 * t + 2 * i, 5, 2));
    for (uint32_t i = 0; i < kK; ++i) g.key.push_back(number(2 * t + 3 * i + 1, 5, 2));
    for (uint32_t i = 0; i < kV; ++i) g.value.push_back(number(t + 2 * i + 1, 7, 3));
  }
  return g;
}

Golden ByHead() {
  Golden g = Plain();
  g.spec.decay = Decay::kHead;
  g.log_decay.assign(kT, -0.5f);
  g.out = {-0.5, 0, 0.3831633, 0.375, 0.1789884, 0.7951020, 0.3682055, 0.4451287};
  g.state = {0.0195952, -0.5145608, -0.6311603, -1.2887045, 0.0660603, 0.6306744};
  return g;
}

Golden WithBonus() {
  Golden g = Plain();
  g.spec.decay = Decay::kChannel;
  g.spec.read_before = true;
  for (uint32_t t = 0; t < kT; ++t) {
    for (uint32_t i = 0; i < kK; ++i) g.log_decay.push_back(-0.1f * static_cast<float>(1 + t + i));
  }
  g.bonus = {0.5f, 0.25f, 0.0f};
  g.out = {-0.25, 0, 1.125, 0.125, 0.1749082, -0.4375, 0.1934308, -0.8918728};
  g.state = {0.0791385, -0.5461737, -0.6995518, -1.2983771, 0.0835645, 0.6420297};
  return g;
}

Golden GatedDelta() {
  Golden g = Plain();
  g.spec.decay = Decay::kHead;
  g.spec.update = StateUpdate::kDelta;
  const auto normalise = [](std::vector<float>& rows, double scale) {
    for (uint32_t t = 0; t < kT; ++t) {
      double squares = 1e-6;
      for (uint32_t i = 0; i < kK; ++i) squares += double{rows[t * kK + i]} * rows[t * kK + i];
      for (uint32_t i = 0; i < kK; ++i) {
        rows[t * kK + i] = static_cast<float>(rows[t * kK + i] * scale / std::sqrt(squares));
      }
    }
  };
  normalise(g.query, 1 / std::sqrt(3.0));
  normalise(g.key, 1);
  for (uint32_t t = 0; t < kT; ++t) {
    g.strength.push_back(static_cast<float>(t + 1) / 5);
    g.log_decay.push_back(-0.1f * static_cast<float>(t + 1));
  }
  g.out = {-0.0365148, 0, 0.0199487, 0.0632455, 0.0460636, 0.2387753, 0.1196684, 0.2106423};
  g.state = {0.0072729, -0.3283883, -0.3977171, -1.0545805, 0.0954473, 0.4958757};
  return g;
}

Golden ByElement() {
  Golden g = Plain();
  g.spec.decay = Decay::kElement;
  for (uint32_t t = 0; t < kT; ++t) {
    for (uint32_t v = 0; v < kV; ++v) g.strength.push_back(0.1f * static_cast<float>(1 + t + v));
  }
  for (uint32_t k = 0; k < kK; ++k) g.rate.insert(g.rate.end(), kV, -static_cast<float>(k + 1));
  g.skip = {1.0f, 0.5f};
  g.out = {-1.05, 0, -0.4874997, 0.3625, 0.0393405, 0.9128340, 0.6414764, 1.0525186};
  g.state = {-0.0045008, -0.2121195, -0.2042, -0.6888215, 0.0877544, 0.3404548};
  return g;
}

Golden Normalised() {
  Golden g = Plain();
  g.spec.sum_keys = true;
  g.spec.epsilon = 1e-10f;
  for (std::vector<float>* rows : {&g.query, &g.key}) {
    for (float& x : *rows) x = x > 0 ? x + 1 : std::exp(x);
  }
  g.out = {-1, 0, -0.6858177, 0.3141823, -0.5578311, 0.4421689, -0.2813394, 0.7186606};
  return g;
}

oracle::Rows Doubles(const std::vector<float>& all, uint32_t width) {
  oracle::Rows rows;
  for (size_t i = 0; i < all.size(); i += width) {
    rows.emplace_back(all.begin() + i, all.begin() + i + width);
  }
  return rows;
}

oracle::LinearProblem ProblemOf(const Golden& g) {
  oracle::LinearProblem p;
  p.decay = static_cast<oracle::LinearDecay>(g.spec.decay);
  p.update = static_cast<oracle::LinearUpdate>(g.spec.update);
  p.read_before = g.spec.read_before;
  p.sum_keys = g.spec.sum_keys;
  p.epsilon = g.spec.epsilon;
  p.query = Doubles(g.query, kK);
  p.key = Doubles(g.key, kK);
  p.value = Doubles(g.value, kV);
  p.log_decay = Doubles(g.log_decay, g.spec.decay == Decay::kChannel ? kK : 1);
  p.strength = Doubles(g.strength, g.spec.decay == Decay::kElement ? kV : 1);
  p.bonus.assign(g.bonus.begin(), g.bonus.end());
  p.rate = Doubles(g.rate, kV);
  p.state.assign(kK, oracle::Row(kV, 0.0));
  if (g.spec.sum_keys) p.key_sum.assign(kK, 0.0);
  return p;
}

// Row-major outputs and state against the printed ones, with `allowed` per number on top.
void CheckGolden(const Golden& g, std::vector<double> out, const std::vector<double>& state,
                 const oracle::Rows& allowed, Verdict* verdict) {
  for (uint32_t i = 0; i < kT * kV; ++i) {
    if (!g.skip.empty()) out[i] += double{g.skip[i % kV]} * g.value[i];
    const double more = allowed.empty() ? 0 : allowed[i / kV][i % kV];
    // The inputs are f32 here and were not there: a few roundings of numbers near 1.
    verdict->Check(out[i], g.out[i], 1.02 * kPrinted + 2 * kRoundoff + more,
                   "out " + std::to_string(i));
  }
  for (size_t i = 0; i < g.state.size(); ++i) {
    verdict->Check(state[i], g.state[i], 1.02 * kPrinted + 4 * kRoundoff,
                   "state " + std::to_string(i));
  }
}

std::vector<double> Flat(const oracle::Rows& rows) {
  std::vector<double> all;
  for (const oracle::Row& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

TEST_CASE("golden vectors of linear attention, by the oracle and by the kernels", "[linear]") {
  for (const Golden& g : {ByHead(), WithBonus(), GatedDelta(), ByElement(), Normalised()}) {
    const oracle::LinearProblem problem = ProblemOf(g);
    Verdict verdict;
    for (const oracle::LinearResult& r :
         {oracle::LinearRecurrent(problem), oracle::LinearQuadratic(problem).Result()}) {
      CheckGolden(g, Flat(r.out), Flat(r.state), {}, &verdict);
    }
    INFO("decay " << static_cast<int>(g.spec.decay) << ": " << verdict.Why());
    CHECK(verdict.accepted());
    const auto condition = LinearCondition(problem).Run();
    for (const xnnpack::Kernels& kernels : KernelSubjects()) {
      std::vector<float> state(kK * kV, 0.0f), key_sum(kK, 0.0f), out(kT * kV, NAN);
      const GuardedMemory scratch(attention::LinearMixScratchBytes(g.spec), 64);
      LinearMixCall call;
      call.tokens = kT;
      call.values = kV;
      call.query = {g.query.data(), kK};
      call.key = {g.key.data(), kK};
      call.value = {g.value.data(), kV};
      if (!g.log_decay.empty()) {
        call.log_decay = {g.log_decay.data(), g.spec.decay == Decay::kChannel ? kK : 1};
      }
      if (!g.strength.empty()) {
        call.strength = {g.strength.data(), g.spec.decay == Decay::kElement ? kV : 1};
      }
      call.bonus = g.bonus.data();
      call.rate = g.rate.data();
      call.rate_stride = kV;
      call.state = state.data();
      call.state_stride = kV;
      call.key_sum = key_sum.data();
      call.out = out.data();
      call.out_stride = kV;
      kernels.linear_mix(g.spec, call, scratch.data());
      Verdict by_kernel;
      CheckGolden(g, {out.begin(), out.end()}, {state.begin(), state.end()}, condition.out,
                  &by_kernel);
      INFO(kernels.isa << ": " << by_kernel.Why());
      CHECK(by_kernel.accepted());
    }
  }
}

}  // namespace
}  // namespace headroom::test
