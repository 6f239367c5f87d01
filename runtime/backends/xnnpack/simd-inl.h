// What every Highway source here shares: vector types, unrolling, and the two functions Highway
// lacks. Included once per target, after hwy/foreach_target.h. Macros and names as in Highway's own
// headers.
#if defined(HR_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: include guard per target
#ifdef HR_SIMD_INL_H_
#undef HR_SIMD_INL_H_
#else
#define HR_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

// Arrays of vectors live in registers only when every loop over them is unrolled.
#ifndef HR_UNROLL
#if HWY_COMPILER_CLANG
#define HR_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HR_UNROLL _Pragma("GCC unroll 64")
#endif
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
inline constexpr size_t kLanes = hn::MaxLanes(DF());

// 2^x; 0 below -126, relative error < 2.5e-7 else (tests/backends measures it). x <= 127. NaN stays
// NaN. Degree-5 minimax of (2^f - 1) / f on [-0.5, 0.5], weighted for relative error.
HWY_INLINE VF Exp2(VF x) {
  const DF df;
  const DI di;
  const VF least = hn::Set(df, -127.0f);
#if HWY_ARCH_X86
  const VF clamped = hn::Max(least, x);  // in this order NaN is passed on
#else
  const VF clamped =
      hn::IfThenElse(hn::Lt(x, least), least, x);  // Arm's maximum prefers the number
#endif
  // Adding 1.5 * 2^23 leaves round(x) in the low mantissa bits.
  const VF magic = hn::Set(df, 12582912.0f);
  const VF shifted = hn::Add(clamped, magic);
  const VF f = hn::Sub(clamped, hn::Sub(shifted, magic));
  VF p = hn::Set(df, 0.001326472731307149f);
  p = hn::MulAdd(p, f, hn::Set(df, 0.009671512991189957f));
  p = hn::MulAdd(p, f, hn::Set(df, 0.05550733581185341f));
  p = hn::MulAdd(p, f, hn::Set(df, 0.24022242426872253f));
  p = hn::MulAdd(p, f, hn::Set(df, 0.6931470036506653f));
  p = hn::MulAdd(p, f, hn::Set(df, 1.0f));
  const VI exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const VF y = hn::BitCast(df, hn::Add(hn::BitCast(di, p), exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(df, -126.0f)), y);
}

// erfc(z) for z >= 0, as t exp(-z^2 + P(t)) with t = 1 / (1 + z / 2); P fitted on t in [0.1, 1].
// Relative error < 1e-6 for z < 3, growing with z^2 as the exponent rounds.
HWY_INLINE VF ErfcPositive(VF z) {
  const DF df;
  const VF t = hn::Div(hn::Set(df, 1.0f), hn::MulAdd(z, hn::Set(df, 0.5f), hn::Set(df, 1.0f)));
  constexpr float kP[] = {-1.2655048370361328f, 0.9998465180397034f,   0.37578368186950684f,
                          0.0882280245423317f,  -0.16065730154514313f, 0.23114946484565735f,
                          -1.0794709920883179f, 1.4488513469696045f,   -0.8064566254615784f,
                          0.16823077201843262f};
  VF p = hn::Set(df, kP[9]);
  for (int i = 8; i >= 0; --i) p = hn::MulAdd(p, t, hn::Set(df, kP[i]));
  return hn::Mul(t, hn::Exp(df, hn::NegMulAdd(z, z, p)));
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SIMD_INL_H_
