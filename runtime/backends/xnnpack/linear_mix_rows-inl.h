// Linear attention: a block of tokens and two vectors of values, over the rows of the state.
//
// Each number of the state is loaded and stored once a block. What only adds reads the state as the
// rows pass, before they change. Delta and removal must have read before they can write: they read
// for the block behind theirs, from the rows just written.
#if defined(HR_LINEAR_MIX_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_LINEAR_MIX_ROWS_INL_H_
#undef HR_LINEAR_MIX_ROWS_INL_H_
#else
#define HR_LINEAR_MIX_ROWS_INL_H_
#endif

#include "backends/xnnpack/linear_mix_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

inline constexpr size_t kGroupVectors = 2;
inline constexpr size_t kGroup = kGroupVectors * kLanes;

// Cache lines that a later block needs: fetched one with each row, as more at once would keep the
// loads of this block waiting.
struct LinesAhead {
  const uint64_t* lines = nullptr;  // addresses
  size_t count = 0;

  HWY_INLINE void Fetch(size_t i) const {
    if (i < count) {
      hwy::Prefetch(reinterpret_cast<const float*>(static_cast<uintptr_t>(lines[i])));  // NOLINT
    }
  }
  // Those behind the first n.
  HWY_INLINE LinesAhead Behind(size_t n) const {
    return n < count ? LinesAhead{lines + n, count - n} : LinesAhead{};
  }
};

// Neighbouring values: in the caller's state, or at its edge copied to rows of whole vectors.
struct ValueGroup {
  size_t column;  // of the call's values
  size_t count;   // <= kGroup
  float* state;
  size_t stride;
};

// Arrays of kCount times two vectors.
template <size_t kCount>
using Vectors = VF[kCount][kGroupVectors];

HWY_INLINE VF LoadValues(const float* row, size_t v, size_t count) {
  const DF df;
  if (HWY_LIKELY(count == kGroup)) return hn::LoadU(df, row + v * kLanes);
  return count <= v * kLanes ? hn::Zero(df) : hn::LoadN(df, row + v * kLanes, count - v * kLanes);
}
HWY_INLINE void StoreValues(VF x, float* row, size_t v, size_t count) {
  const DF df;
  if (HWY_LIKELY(count == kGroup)) return hn::StoreU(x, df, row + v * kLanes);
  if (count > v * kLanes) hn::StoreN(x, df, row + v * kLanes, count - v * kLanes);
}

template <size_t kCount>
HWY_INLINE void SetZero(Vectors<kCount>& x) {
  HR_UNROLL
  for (size_t i = 0; i < kCount; ++i) {
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) x[i][v] = hn::Zero(DF());
  }
}

// sums[r] += read[r][k] * row
template <size_t kReads>
HWY_INLINE void ReadRow(const BlockCoefficients& c, size_t k, const VF (&row)[kGroupVectors],
                        Vectors<kReads>& sums) {
  HR_UNROLL
  for (size_t r = 0; r < kReads; ++r) {
    const VF factor = hn::Set(DF(), c.read[r][k]);
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) sums[r][v] = hn::MulAdd(factor, row[v], sums[r][v]);
  }
}

HWY_INLINE void LoadRow(const float* from, VF (&row)[kGroupVectors]) {
  HR_UNROLL
  for (size_t v = 0; v < kGroupVectors; ++v) row[v] = hn::LoadU(DF(), from + v * kLanes);
}

template <size_t kReads>
HWY_INLINE void ReadRows(const BlockCoefficients& c, size_t keys, const ValueGroup& group,
                         Vectors<kReads>& sums) {
  SetZero<kReads>(sums);
  const float* from = group.state;
  for (size_t k = 0; k < keys; ++k, from += group.stride) {
    VF row[kGroupVectors];
    LoadRow(from, row);
    ReadRow<kReads>(c, k, row, sums);
  }
}

// Whether rows are read as they were, as the block behind needs them, or not at all.
enum class Reading { kOld, kNew, kNone };

// row = decay row + sum_w write[w][k] values[w]; `reads` are the coefficients of kNew.
template <Reading kReading, size_t kReads, size_t kWrites>
HWY_INLINE void UpdateRows(const BlockCoefficients& c, const BlockCoefficients& reads, size_t keys,
                           const ValueGroup& group, const Vectors<kWrites>& values,
                           const LinesAhead& ahead, Vectors<kReads>& sums) {
  const DF df;
  SetZero<kReads>(sums);
  float* at = group.state;
  for (size_t k = 0; k < keys; ++k, at += group.stride) {
    ahead.Fetch(k);
    VF row[kGroupVectors];
    LoadRow(at, row);
    if constexpr (kReading == Reading::kOld) ReadRow<kReads>(c, k, row, sums);
    const VF decay = hn::Set(df, c.decay[k]);
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) row[v] = hn::Mul(row[v], decay);
    HR_UNROLL
    for (size_t w = 0; w < kWrites; ++w) {
      const VF factor = hn::Set(df, c.write[w][k]);
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) row[v] = hn::MulAdd(factor, values[w][v], row[v]);
    }
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) hn::StoreU(row[v], df, at + v * kLanes);
    if constexpr (kReading == Reading::kNew) ReadRow<kReads>(reads, k, row, sums);
  }
}

// A block of tokens of a call: its values and outputs.
template <StateUpdate kUpdate, size_t kTokens>
class BlockValues {
 public:
  using Shape = BlockShape<kUpdate, kTokens>;
  using Reads = Vectors<Shape::kReads>;
  using Writes = Vectors<Shape::kWrites>;

  BlockValues(const LinearMixSpec& spec, const LinearMixCall& call, uint32_t token,
              const BlockCoefficients& c)
      : spec_(spec), call_(call), token_(token), c_(c) {}

  // What the tokens write, from what they read of the state before the block; kRecalls only for
  // what those that do not are given no reads.
  HWY_INLINE void Write(const ValueGroup& group, const Reads& reads, Writes& writes) const {
    const DF df;
    HR_UNROLL
    for (uint32_t i = 0; i < kTokens; ++i) {
      const float* value = call_.value.row(token_ + i) + group.column;
      const float* strength =
          call_.strength.data == nullptr ? nullptr : call_.strength.row(token_ + i);
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        VF u = LoadValues(value, v, group.count);
        if constexpr (Shape::kRecalls) {
          const VF recalled = Found<kTokens>(i, v, i, reads, writes);
          if constexpr (Shape::kRemoves) writes[kTokens + i][v] = recalled;
          if constexpr (!Shape::kRemoves) u = hn::Sub(u, recalled);
        }
        writes[i][v] = strength == nullptr ? u : hn::Mul(u, hn::Set(df, *strength));
      }
    }
  }

  HWY_INLINE void Output(const ValueGroup& group, const Reads& reads, const Writes& writes) const {
    const DF df;
    HR_UNROLL
    for (uint32_t i = 0; i < kTokens; ++i) {
      float* out = call_.out + uint64_t{token_ + i} * call_.out_stride + group.column;
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        VF y = Found<0>(i, v, i + 1, reads, writes);
        if (spec_.sum_keys) y = hn::Div(y, hn::Set(df, c_.divisors[i]));
        StoreValues(y, out, v, group.count);
      }
    }
  }

 private:
  // Read kFirst + i, with what it finds of the first `tokens` tokens' writes.
  template <size_t kFirst>
  HWY_INLINE VF Found(size_t i, size_t v, size_t tokens, const Reads& reads,
                      const Writes& writes) const {
    const DF df;
    VF sum = reads[kFirst + i][v];
    HR_UNROLL
    for (size_t j = 0; j < tokens; ++j) {
      sum = hn::MulAdd(hn::Set(df, c_.pairs[kFirst + i][j]), writes[j][v], sum);
      if constexpr (Shape::kRemoves) {
        const VF pair = hn::Set(df, c_.pairs[kFirst + i][kTokens + j]);
        sum = hn::MulAdd(pair, writes[kTokens + j][v], sum);
      }
    }
    return sum;
  }

  const LinearMixSpec& spec_;
  const LinearMixCall& call_;
  uint32_t token_;
  const BlockCoefficients& c_;
};

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_LINEAR_MIX_ROWS_INL_H_
