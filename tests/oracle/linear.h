// Linear attention in double precision, twice: as a recurrence over a state, and in closed form
// over pairs of tokens, with no state at all. Both from the papers' formulas:
//   S' = D_t . S_{t-1}
//   S_t = S' + k (x) u,  u = b v (additive),  b (v - S'^T k) (delta: arXiv 2412.06464 eq. 10)
//   S_t = S' + w (x) (S_{t-1}^T a) + k (x) b v  (removal: arXiv 2503.14456 eq. 17)
//   y_t = S_t^T q,  or (S_{t-1} + diag(bonus) k (x) b v)^T q  (arXiv 2404.05892 eq. 9)
//   y_t / (q . z_t + epsilon),  z_t = D_t . z_{t-1} + k  (arXiv 2006.16236 eq. 9)
// Closed form: S_t = e^{G_t} S_0 + sum_j e^{G_t - G_j} sum of the outer products that token j
// wrote, G_t = sum of the log decays of tokens 0..t. What a token writes depends on earlier ones in
// delta and removal: forward substitution.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace headroom::oracle {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

enum class LinearDecay { kNone, kHead, kChannel, kElement };
enum class LinearUpdate { kAdditive, kDelta, kRemoval };

// K keys, V values, T tokens.
struct LinearProblem {
  LinearDecay decay = LinearDecay::kNone;
  LinearUpdate update = LinearUpdate::kAdditive;
  bool read_before = false, sum_keys = false;
  double epsilon = 0;
  Rows query, key, value;  // [T][K], [T][K], [T][V]
  Rows log_decay;          // [T][1] for kHead, [T][K] for kChannel
  Rows strength;           // [T][1], for kElement [T][V]; empty: 1
  Rows removal, write;     // [T][K]
  Row bonus;               // [K]
  Rows rate;               // kElement: [K][V]
  Rows state;              // [K][V] before token 0
  Row key_sum;             // [K] before token 0

  size_t tokens() const { return query.size(); }
  size_t keys() const { return state.size(); }
  size_t values() const { return state[0].size(); }

  double Strength(size_t t, size_t v) const {
    if (strength.empty()) return 1;
    return strength[t][decay == LinearDecay::kElement ? v : 0];
  }
  double LogDecay(size_t t, size_t k, size_t v) const {
    double log = 0;
    if (decay == LinearDecay::kHead) log = log_decay[t][0];
    if (decay == LinearDecay::kChannel) log = log_decay[t][k];
    if (decay == LinearDecay::kElement) log = Strength(t, v) * rate[k][v];
    return std::min(log, 0.0);
  }
};

struct LinearResult {
  Rows out;     // [T][V]
  Rows state;   // [K][V] behind the last token
  Row key_sum;  // [K]
};

// --- recurrent
// -------------------------------------------------------------------------------------

// x^T S
inline Row Held(const Rows& state, const Row& x) {
  Row sum(state[0].size(), 0.0);
  for (size_t k = 0; k < state.size(); ++k) {
    for (size_t v = 0; v < sum.size(); ++v) sum[v] += x[k] * state[k][v];
  }
  return sum;
}

// One token: state and key sum move on, the return value is y_t.
inline Row LinearStep(const LinearProblem& p, size_t t, Rows& state, Row& key_sum) {
  const Rows before = state;
  const Row& k = p.key[t];
  for (size_t i = 0; i < p.keys(); ++i) {
    for (size_t v = 0; v < p.values(); ++v) state[i][v] *= std::exp(p.LogDecay(t, i, v));
    if (p.sum_keys) key_sum[i] = key_sum[i] * std::exp(p.LogDecay(t, i, 0)) + k[i];
  }
  Row u = p.value[t];
  if (p.update == LinearUpdate::kDelta) {
    const Row held = Held(state, k);
    for (size_t v = 0; v < p.values(); ++v) u[v] -= held[v];
  }
  for (size_t v = 0; v < p.values(); ++v) u[v] *= p.Strength(t, v);
  const bool removal = p.update == LinearUpdate::kRemoval;
  const Row removed = removal ? Held(before, p.removal[t]) : Row(p.values(), 0.0);
  for (size_t i = 0; i < p.keys(); ++i) {
    for (size_t v = 0; v < p.values(); ++v) {
      state[i][v] += k[i] * u[v] + (removal ? p.write[t][i] * removed[v] : 0.0);
    }
  }
  Row out = Held(p.read_before ? before : state, p.query[t]);
  for (size_t i = 0; i < p.keys() && p.read_before; ++i) {
    const double weight = p.query[t][i] * p.bonus[i] * k[i];
    for (size_t v = 0; v < p.values(); ++v) out[v] += weight * p.Strength(t, v) * p.value[t][v];
  }
  if (p.sum_keys) {
    double sum = p.epsilon;
    for (size_t i = 0; i < p.keys(); ++i) sum += p.query[t][i] * key_sum[i];
    for (double& y : out) y /= sum;
  }
  return out;
}

inline LinearResult LinearRecurrent(const LinearProblem& p) {
  LinearResult result{{}, p.state, p.key_sum};
  for (size_t t = 0; t < p.tokens(); ++t) {
    result.out.push_back(LinearStep(p, t, result.state, result.key_sum));
  }
  return result;
}

// --- quadratic
// -------------------------------------------------------------------------------------

class LinearQuadratic {
 public:
  explicit LinearQuadratic(const LinearProblem& p) : p_(p) {
    for (size_t t = 0; t < p.tokens(); ++t) Write(t);
  }

  LinearResult Result() const {
    LinearResult result;
    for (size_t t = 0; t < p_.tokens(); ++t) result.out.push_back(Read(t));
    for (size_t k = 0; k < p_.keys(); ++k) {
      Row unit(p_.keys(), 0.0);
      unit[k] = 1;
      result.state.push_back(HeldBy(unit, p_.tokens(), p_.tokens()));
      if (p_.sum_keys) result.key_sum.push_back(KeySum(unit, p_.tokens()));
    }
    return result;
  }

 private:
  struct Outer {  // what a token wrote
    size_t token;
    Row key, value;
  };

  // Decay of tokens from..to-1 together.
  double Between(size_t from, size_t to, size_t k, size_t v) const {
    double sum = 0;
    for (size_t t = from; t < to; ++t) sum += p_.LogDecay(t, k, v);
    return std::exp(sum);
  }

  // What x finds of all that tokens before `written` wrote, once tokens before `decayed` have
  // decayed it.
  Row HeldBy(const Row& x, size_t written, size_t decayed) const {
    Row sum(p_.values(), 0.0);
    for (size_t v = 0; v < p_.values(); ++v) {
      for (size_t k = 0; k < p_.keys(); ++k) {
        sum[v] += x[k] * Between(0, decayed, k, v) * p_.state[k][v];
        for (const Outer& o : outers_) {
          if (o.token >= written) continue;
          sum[v] += x[k] * Between(o.token + 1, decayed, k, v) * o.key[k] * o.value[v];
        }
      }
    }
    return sum;
  }

  void Write(size_t t) {
    Row u = p_.value[t];
    if (p_.update == LinearUpdate::kDelta) {
      const Row held = HeldBy(p_.key[t], t, t + 1);
      for (size_t v = 0; v < p_.values(); ++v) u[v] -= held[v];
    }
    for (size_t v = 0; v < p_.values(); ++v) u[v] *= p_.Strength(t, v);
    if (p_.update == LinearUpdate::kRemoval) {
      outers_.push_back({t, p_.write[t], HeldBy(p_.removal[t], t, t)});
    }
    outers_.push_back({t, p_.key[t], u});
  }

  double KeySum(const Row& x, size_t tokens) const {
    double sum = 0;
    for (size_t k = 0; k < p_.keys(); ++k) {
      sum += x[k] * Between(0, tokens, k, 0) * p_.key_sum[k];
      for (size_t j = 0; j < tokens; ++j) sum += x[k] * Between(j + 1, tokens, k, 0) * p_.key[j][k];
    }
    return sum;
  }

  Row Read(size_t t) const {
    const size_t seen = p_.read_before ? t : t + 1;
    Row out = HeldBy(p_.query[t], seen, seen);
    double own = 0;
    for (size_t k = 0; k < p_.keys() && p_.read_before; ++k) {
      own += p_.query[t][k] * p_.bonus[k] * p_.key[t][k];
    }
    const double divisor = p_.sum_keys ? KeySum(p_.query[t], t + 1) + p_.epsilon : 1;
    for (size_t v = 0; v < p_.values(); ++v) {
      out[v] = (out[v] + own * p_.Strength(t, v) * p_.value[t][v]) / divisor;
    }
    return out;
  }

  const LinearProblem& p_;
  std::vector<Outer> outers_;
};

}  // namespace headroom::oracle
