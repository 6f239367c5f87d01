// Instruction sets we compile for, and how each family of kernels enters the table. Include before
// Highway.
//
// x86: AVX-512 as in Ice Lake and Zen 4 (with VNNI), AVX2, and SSE2 as the baseline. Arm: NEON, and
// NEON with the bf16 and dot-product extensions. Left out, because every set costs compile time and
// 60 KB: sets between SSE2 and AVX2; AVX-512 without VNNI (servers; they take AVX2); Sapphire
// Rapids and Zen 4 (nothing here uses what they add); SVE (its vectors cannot be kept in arrays).
//
// Many Arm CPUs have dot products without bf16 (Cortex-A76, Apple M1), for which Highway knows no
// target: softmax_mix_dot.cc compiles attention once more for them.
#pragma once

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS                                                             \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_SPR | HWY_AVX3_ZEN4 | HWY_NEON | HWY_SVE | \
   HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#include "backends/xnnpack/kernels.h"

namespace headroom::xnnpack {

void FillMixKernels(Kernels& kernels);        // softmax_mix.cc
void FillDotMixKernels(Kernels& kernels);     // softmax_mix_dot.cc; nothing where the CPU lacks it
void FillLinearMixKernels(Kernels& kernels);  // linear_mix.cc
void FillRowCodecKernels(Kernels& kernels);   // row_codec.cc
void FillHadamardKernels(Kernels& kernels);   // hadamard.cc
void FillPointwiseKernels(Kernels& kernels);  // pointwise.cc
void FillImageKernels(Kernels& kernels);      // image.cc

}  // namespace headroom::xnnpack
