// Softmax mix in Highway, for few queries and for many, and the scores of rows.
#include "attention/softmax_mix.h"

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/softmax_mix.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"
#if HWY_TARGET != HWY_SSE2
#include "backends/xnnpack/softmax_mix_fill-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

void FillMix(Kernels& kernels) {
#if HWY_TARGET == HWY_SSE2
  // x86 without AVX2 takes the portable definition: not worth its share of the library's size.
  kernels.mix = attention::PortableMix();
  kernels.row_scores = attention::PortableRowScores();
  kernels.decode_rows = attention::PortableDecodeRows();
  kernels.isa = hwy::TargetName(HWY_TARGET);
  kernels.code_products = "f32";
#else
  FillMixTable(kernels, hwy::TargetName(HWY_TARGET));
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {

HWY_EXPORT(FillMix);
void FillMixKernels(Kernels& kernels) { HWY_DYNAMIC_DISPATCH(FillMix)(kernels); }

}  // namespace headroom::xnnpack
#endif
