// Linear attention whose decay differs from number to number (Mamba-1): token by token, as there is
// nothing that tokens could share. Values lie in the lanes, and exp is what takes the time.
#if defined(HR_LINEAR_MIX_ELEMENT_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_LINEAR_MIX_ELEMENT_INL_H_
#undef HR_LINEAR_MIX_ELEMENT_INL_H_
#else
#define HR_LINEAR_MIX_ELEMENT_INL_H_
#endif

#include "backends/xnnpack/linear_mix_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// A token and a group of values; rates: K rows of a group.
template <StateUpdate kUpdate>
class ElementToken {
 public:
  ElementToken(const LinearMixSpec& spec, const LinearMixCall& call, uint32_t token,
               const ValueGroup& group, const float* rates, size_t rate_stride)
      : spec_(spec),
        call_(call),
        token_(token),
        group_(group),
        rates_(rates),
        rate_stride_(rate_stride) {
    const float* value = call.value.row(token) + group.column;
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) {
      strength_[v] = hn::Set(DF(), 1.0f);
      if (call.strength.data != nullptr) {
        strength_[v] = LoadValues(call.strength.row(token) + group.column, v, group.count);
      }
      step_[v] = hn::Mul(strength_[v], hn::Set(DF(), kLog2OfE));
      value_[v] = LoadValues(value, v, group.count);
      out_[v] = recalled_[v] = hn::Zero(DF());
    }
  }

  HWY_INLINE void Run() {
    constexpr bool kRecalls = kUpdate != StateUpdate::kAdditive;
    for (size_t k = 0; k < spec_.key_width && kRecalls; ++k) Recall(k);
    const bool removes = kUpdate == StateUpdate::kRemoval;
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) {
      if constexpr (kUpdate == StateUpdate::kDelta) value_[v] = hn::Sub(value_[v], recalled_[v]);
      value_[v] = hn::Mul(value_[v], strength_[v]);
    }
    const float* query = call_.query.row(token_);
    const float* key = call_.key.row(token_);
    const float* write = removes ? call_.write.row(token_) : key;
    for (size_t k = 0; k < spec_.key_width; ++k) Update(k, query[k], key[k], write[k]);
    float* out = call_.out + uint64_t{token_} * call_.out_stride + group_.column;
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) StoreValues(out_[v], out, v, group_.count);
  }

 private:
  HWY_INLINE VF DecayOf(size_t k, size_t v) const {
    const VF rate = hn::LoadU(DF(), rates_ + k * rate_stride_ + v * kLanes);
    return Exp2(hn::Min(hn::Mul(step_[v], rate), hn::Zero(DF())));
  }

  // Decays the row, and reads it: delta behind the decay, removal before it.
  HWY_INLINE void Recall(size_t k) {
    const DF df;
    const bool removes = kUpdate == StateUpdate::kRemoval;
    const float* at = removes ? call_.removal.row(token_) : call_.key.row(token_);
    float* row = group_.state + k * group_.stride;
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) {
      const VF old = hn::LoadU(df, row + v * kLanes), s = hn::Mul(old, DecayOf(k, v));
      recalled_[v] = hn::MulAdd(hn::Set(df, at[k]), removes ? old : s, recalled_[v]);
      hn::StoreU(s, df, row + v * kLanes);
    }
  }

  HWY_INLINE void Update(size_t k, float query_k, float key_k, float write_k) {
    const DF df;
    const VF query = hn::Set(df, query_k), key = hn::Set(df, key_k);
    float* row = group_.state + k * group_.stride;
    HR_UNROLL
    for (size_t v = 0; v < kGroupVectors; ++v) {
      VF s = hn::LoadU(df, row + v * kLanes);
      const VF added = hn::Mul(key, value_[v]);
      if (spec_.read_before) {
        out_[v] = hn::MulAdd(query, hn::MulAdd(hn::Set(df, call_.bonus[k]), added, s), out_[v]);
      }
      if constexpr (kUpdate == StateUpdate::kAdditive) {
        s = hn::MulAdd(s, DecayOf(k, v), added);
      } else {
        s = hn::Add(s, added);
      }
      if constexpr (kUpdate == StateUpdate::kRemoval) {
        s = hn::MulAdd(hn::Set(df, write_k), recalled_[v], s);
      }
      if (!spec_.read_before) out_[v] = hn::MulAdd(query, s, out_[v]);
      hn::StoreU(s, df, row + v * kLanes);
    }
  }

  const LinearMixSpec& spec_;
  const LinearMixCall& call_;
  uint32_t token_;
  const ValueGroup group_;
  const float* rates_;
  size_t rate_stride_;
  VF strength_[kGroupVectors], step_[kGroupVectors], value_[kGroupVectors],
      recalled_[kGroupVectors], out_[kGroupVectors];
};

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_LINEAR_MIX_ELEMENT_INL_H_
