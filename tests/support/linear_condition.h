// How far f32 may lie from the oracle of linear attention: the roundings of every token, carried
// through the tokens behind it.
//
// A number of the state is rounded when it is decayed, when something is added, and by what is read
// of the state (delta, removal). Those fall either way: their variances add, and the update carries
// them on. exp of a log decay is not like that: where a decay stays the same over the tokens, so
// does its error. What it does is found by carrying the derivative along. Kernels that take tokens
// in chunks round products of decays, keys and queries instead, relative to what the tokens of the
// chunk wrote: `written`.
#pragma once

#include "oracle/linear.h"
#include "support/tolerance.h"

namespace headroom::test {

class LinearCondition {
 public:
  // Allowances; the result itself too.
  struct Allowances {
    oracle::LinearResult exact;
    oracle::Rows out, state;
    oracle::Row key_sum;
  };

  explicit LinearCondition(const oracle::LinearProblem& p)
      : p_(p), state_(p.state), key_sum_(p.key_sum) {
    variance_ = slope_ = written_ = oracle::Rows(p.keys(), oracle::Row(p.values(), 0.0));
    sum_variance_ = sum_slope_ = oracle::Row(p.key_sum.size(), 0.0);
  }

  Allowances Run() {
    Allowances result;
    for (size_t t = 0; t < p_.tokens(); ++t) Step(t, &result);
    result.exact.state = state_;
    result.exact.key_sum = key_sum_;
    result.state = state_;
    for (size_t k = 0; k < p_.keys(); ++k) {
      for (size_t v = 0; v < p_.values(); ++v) {
        result.state[k][v] = LinearStateAllowance(state_[k][v], variance_[k][v], slope_[k][v]);
      }
    }
    for (size_t k = 0; k < key_sum_.size(); ++k) {
      result.key_sum.push_back(LinearStateAllowance(key_sum_[k], sum_variance_[k], sum_slope_[k]));
    }
    return result;
  }

 private:
  double Terms() const {
    return static_cast<double>(p_.keys() + std::min<size_t>(p_.tokens(), 64));
  }
  double Magnitude(size_t k, size_t v) const {
    return std::fabs(state_[k][v]) + std::sqrt(written_[k][v]);
  }

  // What reading column v by x errs: as it is summed, and by what the state errs, at random and
  // not.
  struct Reading {
    double summed = 0, variance = 0, slope = 0, signed_slope = 0;
  };
  Reading Read(const oracle::Row& x, size_t v) const {
    Reading r;
    for (size_t k = 0; k < p_.keys(); ++k) {
      r.summed += Roundings(Terms()) * std::fabs(x[k]) * Magnitude(k, v);
      r.variance += x[k] * x[k] * variance_[k][v];
      r.slope += std::fabs(x[k] * slope_[k][v]);
      r.signed_slope += x[k] * slope_[k][v];
    }
    return r;
  }

  void Decay(size_t t) {
    for (size_t k = 0; k < p_.keys(); ++k) {
      for (size_t v = 0; v < p_.values(); ++v) {
        const double log = p_.LogDecay(t, k, v), d = std::exp(log);
        state_[k][v] *= d;
        written_[k][v] *= d * d;
        variance_[k][v] = d * d * variance_[k][v] + state_[k][v] * state_[k][v];
        slope_[k][v] = d * slope_[k][v] + LinearDecayError(log) * Magnitude(k, v);
      }
    }
  }

  // Token t writes at `key` what reading the state by `x` found, times `factor`.
  void Carry(const oracle::Row& key, const oracle::Row& x, double factor, size_t v,
             const Reading& read, const oracle::Row& decays) {
    const double summed = read.summed / 4;  // Roundings are four standard deviations
    for (size_t k = 0; k < p_.keys(); ++k) {
      const double back = factor * key[k];
      variance_[k][v] = variance_[k][v] + 2 * back * x[k] * variance_[k][v] / decays[k] +
                        back * back * (read.variance + summed * summed);
      slope_[k][v] += back * read.signed_slope;
    }
  }

  void Step(size_t t, Allowances* result) {
    const oracle::Rows before = state_;
    oracle::Rows after = before;
    oracle::Row sum_after = key_sum_;
    result->exact.out.push_back(oracle::LinearStep(p_, t, after, sum_after));
    const bool removal = p_.update == oracle::LinearUpdate::kRemoval;
    const bool delta = p_.update == oracle::LinearUpdate::kDelta;
    std::vector<Reading> reads, recalls;
    for (size_t v = 0; v < p_.values(); ++v) {
      if (p_.read_before) reads.push_back(Read(p_.query[t], v));
      if (removal) recalls.push_back(Read(p_.removal[t], v));
    }
    Decay(t);
    for (size_t v = 0; v < p_.values() && delta; ++v) recalls.push_back(Read(p_.key[t], v));
    for (size_t v = 0; v < p_.values(); ++v) {
      oracle::Row decays(p_.keys(), 1.0);
      for (size_t k = 0; k < p_.keys() && removal; ++k) {
        decays[k] = std::max(std::exp(p_.LogDecay(t, k, v)), kSmallest);
      }
      if (delta) Carry(p_.key[t], p_.key[t], -p_.Strength(t, v), v, recalls[v], decays);
      if (removal) Carry(p_.write[t], p_.removal[t], 1, v, recalls[v], decays);
      for (size_t k = 0; k < p_.keys(); ++k) {
        const double added = after[k][v] - state_[k][v];
        written_[k][v] += added * added;
        variance_[k][v] += 2 * added * added + after[k][v] * after[k][v];
      }
    }
    state_ = after;
    for (size_t v = 0; v < p_.values() && !p_.read_before; ++v) {
      reads.push_back(Read(p_.query[t], v));
    }
    result->out.push_back(OutAllowances(t, reads, result->exact.out.back(), sum_after));
  }

  oracle::Row OutAllowances(size_t t, const std::vector<Reading>& reads, const oracle::Row& out,
                            const oracle::Row& sum_after) {
    double own = 0, divisor = 1, divisor_allowance = 0;
    for (size_t k = 0; k < p_.keys() && p_.read_before; ++k) {
      own += std::fabs(p_.query[t][k] * p_.bonus[k] * p_.key[t][k]);
    }
    if (p_.sum_keys) divisor = StepSum(t, sum_after, &divisor_allowance);
    oracle::Row allowed;
    for (size_t v = 0; v < p_.values(); ++v) {
      const double bonus = own * std::fabs(p_.Strength(t, v) * p_.value[t][v]);
      const Reading& r = reads[v];
      const double read =
          LinearReadAllowance(r.summed + Roundings(Terms()) * bonus, r.variance, r.slope);
      allowed.push_back((read + std::fabs(out[v]) * divisor_allowance) / std::fabs(divisor) +
                        2 * kRoundoff * std::fabs(out[v]) + kSmallest);
    }
    return allowed;
  }

  // The divisor of token t; moves the key sum on.
  double StepSum(size_t t, const oracle::Row& after, double* allowance) {
    double divisor = p_.epsilon, summed = p_.epsilon, variance = 0, slope = 0;
    for (size_t k = 0; k < p_.keys(); ++k) {
      const double log = p_.LogDecay(t, k, 0), d = std::exp(log), decayed = d * key_sum_[k];
      sum_variance_[k] = d * d * sum_variance_[k] + decayed * decayed + after[k] * after[k];
      sum_slope_[k] = d * sum_slope_[k] + LinearDecayError(log) * decayed;
      key_sum_[k] = after[k];
      const double q = p_.query[t][k];
      divisor += q * after[k];
      summed += Roundings(Terms()) * std::fabs(q * after[k]);
      variance += q * q * sum_variance_[k];
      slope += std::fabs(q * sum_slope_[k]);
    }
    *allowance = LinearReadAllowance(summed, variance, slope);
    return divisor;
  }

  const oracle::LinearProblem& p_;
  oracle::Rows state_;
  oracle::Row key_sum_;
  oracle::Rows variance_, slope_;  // in units of kRoundoff^2 and of kRoundoff
  oracle::Rows written_;           // squares of what was added, decayed
  oracle::Row sum_variance_, sum_slope_;
};

}  // namespace headroom::test
