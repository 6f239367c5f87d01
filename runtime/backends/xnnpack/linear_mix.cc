// Linear attention in Highway.
#include "attention/linear_mix.h"

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/linear_mix.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"
#if HWY_TARGET != HWY_SSE2
#include "backends/xnnpack/linear_mix-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

void FillLinearMix(Kernels& kernels) {
#if HWY_TARGET == HWY_SSE2
  // x86 without AVX2 takes the portable definition: not worth its share of the library's size.
  kernels.linear_mix = attention::PortableLinearMix();
#else
  kernels.linear_mix = LinearMix;
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {

HWY_EXPORT(FillLinearMix);
void FillLinearMixKernels(Kernels& kernels) { HWY_DYNAMIC_DISPATCH(FillLinearMix)(kernels); }

}  // namespace headroom::xnnpack
#endif
