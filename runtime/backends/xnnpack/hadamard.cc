// Walsh-Hadamard rotation in Highway.
#include "attention/hadamard.h"

#include <cmath>

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/hadamard.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

// Sums and differences of lanes that lie kHalf apart: lane i becomes x[i] + x[i ^ kHalf], or
// x[i ^ kHalf] - x[i] where the bit kHalf of i is set.
template <size_t kHalf>
HWY_INLINE VF PairLanes(VF x) {
  const DF df;
  VF other = x;
  if constexpr (kHalf == 1) other = hn::Reverse2(df, x);
  if constexpr (kHalf == 2) other = hn::Shuffle1032(x);
  if constexpr (kHalf == 4 && kLanes >= 8) other = hn::SwapAdjacentBlocks(x);
  if constexpr (kHalf == 8 && kLanes >= 16) other = hn::ConcatLowerUpper(df, x, x);
  const DI di;
  const auto upper = hn::Ne(hn::And(hn::Iota(di, 0), hn::Set(di, int32_t{kHalf})), hn::Zero(di));
  return hn::Add(other, hn::IfThenElse(hn::RebindMask(df, upper), hn::Neg(x), x));
}

// n channels, n a multiple of kLanes.
HWY_INLINE void RotateBlock(float* x, size_t n) {
  const DF df;
  const VF scale = hn::Set(df, 1.0f / std::sqrt(static_cast<float>(n)));
  for (size_t d = 0; d < n; d += kLanes) {
    VF v = PairLanes<2>(PairLanes<1>(hn::LoadU(df, x + d)));
    if constexpr (kLanes >= 8) v = PairLanes<4>(v);
    if constexpr (kLanes >= 16) v = PairLanes<8>(v);
    hn::StoreU(n == kLanes ? hn::Mul(v, scale) : v, df, x + d);
  }
  for (size_t half = kLanes; half < n; half *= 2) {
    const VF factor = 2 * half == n ? scale : hn::Set(df, 1.0f);
    for (size_t d = 0; d < n; d += kLanes) {
      if (d & half) continue;
      const VF a = hn::LoadU(df, x + d), b = hn::LoadU(df, x + d + half);
      hn::StoreU(hn::Mul(hn::Add(a, b), factor), df, x + d);
      hn::StoreU(hn::Mul(hn::Sub(a, b), factor), df, x + d + half);
    }
  }
}

void Hadamard(float* rows, uint32_t count, uint32_t stride, uint32_t width) {
  const uint32_t n = attention::HadamardBlock(width);
  if (n < kLanes) return attention::PortableHadamard()(rows, count, stride, width);
  for (uint32_t r = 0; r < count; ++r) {
    for (uint32_t d = 0; d < width; d += n) RotateBlock(rows + uint64_t{r} * stride + d, n);
  }
}

void FillHadamard(Kernels& kernels) {
  kernels.hadamard = HWY_TARGET == HWY_SSE2 ? attention::PortableHadamard() : Hadamard;
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {

HWY_EXPORT(FillHadamard);
void FillHadamardKernels(Kernels& kernels) { HWY_DYNAMIC_DISPATCH(FillHadamard)(kernels); }

}  // namespace headroom::xnnpack
#endif
