#include "convert/scale_search.h"

#include <algorithm>
#include <limits>

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "convert/scale_search.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace headroom::convert::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, kScales>;
using U32 = hn::RebindToUnsigned<F32>;
using VF = hn::Vec<F32>;

// What codes at a scale make of the values. Sums never cross lanes.
struct Sums {
  VF error;    // sum w (x - s q)^2
  VF product;  // sum w x q
  VF squares;  // sum w q^2
};

// kWeighted: with an importance of each value. !kCorrect: the error alone.
template <bool kWeighted, bool kCorrect>
HWY_INLINE Sums Measure(VF scale, std::span<const float> values, const float* importance) {
  const F32 d;
  const VF inverse = hn::Div(hn::Set(d, 1.0f), scale);
  Sums sums = {hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (size_t i = 0; i < values.size(); ++i) {
    const VF x = hn::Set(d, values[i]);
    const VF clamped = hn::Min(hn::Max(hn::Mul(x, inverse), hn::Set(d, -8.0f)), hn::Set(d, 7.0f));
    const VF q = hn::Round(clamped);
    const VF e = hn::NegMulAdd(scale, q, x);
    const VF we = kWeighted ? hn::Mul(hn::Set(d, importance[i]), e) : e;
    sums.error = hn::MulAdd(we, e, sums.error);
    if constexpr (kCorrect) {
      const VF wq = kWeighted ? hn::Mul(hn::Set(d, importance[i]), q) : q;
      sums.product = hn::MulAdd(wq, x, sums.product);
      sums.squares = hn::MulAdd(wq, q, sums.squares);
    }
  }
  return sums;
}

// To the nearest even.
HWY_INLINE VF Stored(VF scale, ScaleType type) {
  if (type == ScaleType::kFloat) return scale;
  const F32 d;
  const U32 du;
  const auto bits = hn::BitCast(du, scale);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd);
  return hn::BitCast(d, hn::And(rounded, hn::Set(du, 0xffff0000)));
}

// A correction is as large as a normal float, finite and of the sign that was asked for.
HWY_INLINE VF Correction(VF scale, const Sums& sums, ScaleType type) {
  const F32 d;
  const VF wanted = Stored(hn::Div(sums.product, sums.squares), type);
  const auto large = hn::Ge(hn::Abs(wanted), hn::Set(d, std::numeric_limits<float>::min()));
  const auto finite = hn::Le(hn::Abs(wanted), hn::Set(d, std::numeric_limits<float>::max()));
  const auto same_sign = hn::Gt(hn::Mul(wanted, scale), hn::Zero(d));
  return hn::IfThenElse(hn::And(hn::And(large, finite), same_sign), wanted, scale);
}

// The better one of each lane and its error.
struct Best {
  VF scale, error;
  HWY_INLINE void Offer(VF other, VF its_error) {
    scale = hn::IfThenElse(hn::Lt(its_error, error), other, scale);
    error = hn::Min(its_error, error);
  }
};

template <bool kWeighted>
HWY_INLINE Best FindInLanes(VF scale, ScaleType type, std::span<const float> values,
                            const float* importance) {
  Best best = {scale, hn::Set(F32(), std::numeric_limits<float>::infinity())};
  for (int corrections = 0; corrections < 2; ++corrections) {
    const Sums sums = Measure<kWeighted, true>(scale, values, importance);
    best.Offer(scale, sums.error);
    scale = Correction(scale, sums, type);
  }
  best.Offer(scale, Measure<kWeighted, false>(scale, values, importance).error);
  return best;
}

float Find(float extreme, const std::array<float, kScales>& divisors, ScaleType type,
           std::span<const float> values, std::span<const float> importance) {
  const F32 d;
  float scales[kScales], errors[kScales];
  for (size_t first = 0; first < kScales; first += hn::Lanes(d)) {
    const VF divisor = hn::LoadU(d, divisors.data() + first);
    const VF scale = Stored(hn::Div(hn::Set(d, extreme), divisor), type);
    const Best best = importance.empty()
                          ? FindInLanes<false>(scale, type, values, nullptr)
                          : FindInLanes<true>(scale, type, values, importance.data());
    hn::StoreU(best.scale, d, scales + first);
    hn::StoreU(best.error, d, errors + first);
  }
  return scales[std::min_element(errors, errors + kScales) - errors];
}

}  // namespace headroom::convert::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::convert {

HWY_EXPORT(Find);

float FindScale(float extreme, const std::array<float, kScales>& divisors, ScaleType type,
                std::span<const float> values, std::span<const float> importance) {
  return HWY_DYNAMIC_DISPATCH(Find)(extreme, divisors, type, values, importance);
}

}  // namespace headroom::convert
#endif  // HWY_ONCE
