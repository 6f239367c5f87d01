// Attention once more for Arm CPUs that have dot products of four bytes, but not all that
// Highway's next target asks for. Its baseline is compiled again in a namespace of its own, with
// the attribute that makes the instruction available.
#include "backends/xnnpack/kernel_targets.h"

// What the kernels include comes first: it is compiled for the baseline, and shared.
#include "attention/row_scores.h"
#include "attention/softmax_mix.h"
#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

// Nothing to do where the baseline has them, and nothing possible before clang 16, whose intrinsics
// need the whole file compiled for such a CPU.
#if HWY_ARCH_ARM_A64 && !defined(__ARM_FEATURE_DOTPROD) && \
    (HWY_COMPILER_GCC_ACTUAL || HWY_COMPILER_CLANG >= 1600)
#include <arm_neon.h>
#include <cpuinfo.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#define HR_ARM_DOT_PASS
#define HR_ARM_DOT_TARGET "arch=armv8.2-a+dotprod"
namespace hwy {
namespace N_NEON_DOT = HWY_NAMESPACE;  // Highway's own functions
}
#undef HWY_NAMESPACE
#define HWY_NAMESPACE N_NEON_DOT
#undef HWY_ATTR
#define HWY_ATTR __attribute__((target(HR_ARM_DOT_TARGET)))
#undef HWY_BEFORE_NAMESPACE
#define HWY_BEFORE_NAMESPACE()           \
  HWY_PUSH_ATTRIBUTES(HR_ARM_DOT_TARGET) \
  static_assert(true, "For requiring trailing semicolon")
#undef HWY_AFTER_NAMESPACE
#define HWY_AFTER_NAMESPACE() \
  HWY_POP_ATTRIBUTES          \
  static_assert(true, "For requiring trailing semicolon")

#include "backends/xnnpack/softmax_mix_fill-inl.h"

namespace headroom::xnnpack {

void FillDotMixKernels(Kernels& kernels) {
  if (!cpuinfo_initialize() || !cpuinfo_has_arm_neon_dot()) return;
  N_NEON_DOT::FillMixTable(kernels, "NEON_DOT");
}

}  // namespace headroom::xnnpack
#else
namespace headroom::xnnpack {

void FillDotMixKernels(Kernels&) {}

}  // namespace headroom::xnnpack
#endif
