// Linear attention, a block of tokens at a time: what the tokens of a block are to one another, so
// that the state is read and written once for all of them.
//
// All that a block reads it reads of the state S before its first token. With d_m the decay of
// token m, a vector x reads of the state behind token i
//   x . S_i = (x d_i d_{i-1} .. d_1) . S  +  sum_{j<=i} (x d_i .. d_{j+1} . w_j) u_j
// where token j wrote the outer product of w_j and u_j. Walking from x backwards, token by token,
// gives each factor in turn, and what is left at the end is the coefficient of S. Every factor is a
// product of decays, at most 1: nothing is divided by a decay, so nothing overflows.
#if defined(HR_LINEAR_MIX_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_LINEAR_MIX_BLOCK_INL_H_
#undef HR_LINEAR_MIX_BLOCK_INL_H_
#else
#define HR_LINEAR_MIX_BLOCK_INL_H_
#endif

#include <algorithm>

#include "attention/linear_mix.h"
#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

using attention::Decay;
using attention::kLinearMostReads;
using attention::kLinearMostWrites;
using attention::kLinearRow;
using attention::LinearMixCall;
using attention::LinearMixSpec;
using attention::StateUpdate;
using attention::TokenRows;

inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM;

// Tokens of a block, as many as the registers hold two vectors of for each read and write.
template <StateUpdate kUpdate>
inline constexpr size_t kBlockTokens = (kManyRegisters ? 4 : 2) /
                                       (kUpdate == StateUpdate::kRemoval ? 2 : 1);

// Reads of kTokens tokens: their outputs, then what they recall. Writes: k, then the removal's w.
template <StateUpdate kUpdate, size_t kTokens>
struct BlockShape {
  static constexpr bool kRecalls = kUpdate != StateUpdate::kAdditive;
  static constexpr bool kRemoves = kUpdate == StateUpdate::kRemoval;
  static constexpr size_t kReads = kTokens * (kRecalls ? 2 : 1);
  static constexpr size_t kWrites = kTokens * (kRemoves ? 2 : 1);
  static_assert(kReads <= kLinearMostReads && kWrites <= kLinearMostWrites);
};

// Coefficients of a block. Rows lie a constant apart, so that one pointer reaches all of them, and
// an odd number of cache lines, so that they do not compete for the same ones.
struct alignas(64) BlockCoefficients {
  float decay[kLinearRow];  // of the state, over the whole block
  float write[kLinearMostWrites][kLinearRow];
  float read[kLinearMostReads][kLinearRow];
  float pairs[kLinearMostReads][kLinearMostWrites];  // what a read finds of a write in the block
  float divisors[4 * kLinearMostWrites];  // sum_keys: of each token; the rest keeps lines whole
};

inline constexpr float kLog2OfE = 1.44269504088896341f;

// exp(min(x, 0))
HWY_INLINE VF DecayOfLog(VF x) {
  const DF df;
  return Exp2(hn::Mul(hn::Min(x, hn::Zero(df)), hn::Set(df, kLog2OfE)));
}

HWY_INLINE VF LoadDecay(const LinearMixSpec& spec, const LinearMixCall& call, uint32_t token,
                        size_t k, size_t count) {
  const DF df;
  if (spec.decay == Decay::kNone) return hn::Set(df, 1.0f);
  const float* log_decay = call.log_decay.row(token);
  if (spec.decay == Decay::kHead) return DecayOfLog(hn::Set(df, log_decay[0]));
  return DecayOfLog(hn::LoadN(df, log_decay + k, count));
}

// Adds to sums[0..] what x finds of the writes of token m, and takes x to before its decay.
template <StateUpdate kUpdate, size_t kTokens, class Sums, class Writes>
HWY_INLINE VF StepBack(VF x, size_t m, VF decay, const Writes& writes, Sums& sums) {
  sums[m] = hn::MulAdd(x, writes[m], sums[m]);
  if constexpr (kUpdate == StateUpdate::kRemoval) {
    sums[kTokens + m] = hn::MulAdd(x, writes[kTokens + m], sums[kTokens + m]);
  }
  return hn::Mul(x, decay);
}

// Moves the key sums from key k on over the tokens, and adds to what each token's query finds
// there.
template <size_t kTokens, class Writes>
HWY_INLINE void SumKeys(const LinearMixCall& call, uint32_t token, size_t k, size_t count,
                        const VF (&decays)[kTokens], const Writes& writes,
                        VF (&divisors)[kTokens]) {
  const DF df;
  VF sum = hn::LoadN(df, call.key_sum + k, count);
  HR_UNROLL
  for (uint32_t i = 0; i < kTokens; ++i) {
    sum = hn::MulAdd(sum, decays[i], writes[i]);
    const VF query = hn::LoadN(df, call.query.row(token + i) + k, count);
    divisors[i] = hn::MulAdd(query, sum, divisors[i]);
  }
  hn::StoreN(sum, df, call.key_sum + k, count);
}

template <StateUpdate kUpdate, size_t kTokens>
HWY_NOINLINE void PrepareBlock(const LinearMixSpec& spec, const LinearMixCall& call, uint32_t token,
                               BlockCoefficients& c) {
  using Shape = BlockShape<kUpdate, kTokens>;
  const DF df;
  VF sums[Shape::kReads][Shape::kWrites], divisors[kTokens];
  HR_UNROLL
  for (size_t i = 0; i < kTokens; ++i) divisors[i] = hn::Zero(df);
  HR_UNROLL
  for (size_t r = 0; r < Shape::kReads; ++r) {
    HR_UNROLL
    for (size_t w = 0; w < Shape::kWrites; ++w) sums[r][w] = hn::Zero(df);
  }
  for (size_t k = 0; k < spec.key_width; k += kLanes) {
    const size_t count = spec.key_width - k;
    VF decays[kTokens], writes[Shape::kWrites];
    HR_UNROLL
    for (uint32_t j = 0; j < kTokens; ++j) {
      decays[j] = LoadDecay(spec, call, token + j, k, count);
      writes[j] = hn::LoadN(df, call.key.row(token + j) + k, count);
      if constexpr (Shape::kRemoves) {
        writes[kTokens + j] = hn::LoadN(df, call.write.row(token + j) + k, count);
      }
    }
    HR_UNROLL
    for (uint32_t i = 0; i < kTokens; ++i) {
      const VF query = hn::LoadN(df, call.query.row(token + i) + k, count);
      VF x = query;
      if (!Shape::kRecalls && spec.read_before) {
        const VF bonus = hn::Mul(query, hn::LoadN(df, call.bonus + k, count));
        sums[i][i] = hn::MulAdd(bonus, writes[i], sums[i][i]);
      } else {
        x = StepBack<kUpdate, kTokens>(x, i, decays[i], writes, sums[i]);
      }
      HR_UNROLL
      for (size_t n = 1; n <= i; ++n) {
        x = StepBack<kUpdate, kTokens>(x, i - n, decays[i - n], writes, sums[i]);
      }
      hn::StoreU(x, df, c.read[i] + k);
      if constexpr (Shape::kRecalls) {
        x = Shape::kRemoves ? hn::LoadN(df, call.removal.row(token + i) + k, count)
                            : hn::Mul(writes[i], decays[i]);
        HR_UNROLL
        for (size_t n = 1; n <= i; ++n) {
          x = StepBack<kUpdate, kTokens>(x, i - n, decays[i - n], writes, sums[kTokens + i]);
        }
        hn::StoreU(x, df, c.read[kTokens + i] + k);
      }
    }
    if (spec.sum_keys) SumKeys<kTokens>(call, token, k, count, decays, writes, divisors);
    VF behind = hn::Set(df, 1.0f);  // decays of the tokens behind j
    HR_UNROLL
    for (size_t n = 1; n <= kTokens; ++n) {
      const size_t j = kTokens - n;
      hn::StoreU(hn::Mul(writes[j], behind), df, c.write[j] + k);
      if constexpr (Shape::kRemoves) {
        hn::StoreU(hn::Mul(writes[kTokens + j], behind), df, c.write[kTokens + j] + k);
      }
      behind = hn::Mul(behind, decays[j]);
    }
    hn::StoreU(behind, df, c.decay + k);
  }
  HR_UNROLL
  for (size_t r = 0; r < Shape::kReads; ++r) {
    HR_UNROLL
    for (size_t w = 0; w < Shape::kWrites; ++w) {
      if (w % kTokens <= r % kTokens) c.pairs[r][w] = hn::ReduceSum(df, sums[r][w]);
    }
  }
  HR_UNROLL
  for (size_t i = 0; i < kTokens; ++i) {
    if (spec.sum_keys) c.divisors[i] = hn::ReduceSum(df, divisors[i]) + spec.epsilon;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_LINEAR_MIX_BLOCK_INL_H_
