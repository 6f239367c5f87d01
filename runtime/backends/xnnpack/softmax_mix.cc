// Softmax mix in Highway: one kernel per row codec, for few queries and for many.
#include "attention/softmax_mix.h"

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/softmax_mix.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"
#if HWY_TARGET != HWY_SSE2
#include "backends/xnnpack/softmax_mix_decode-inl.h"
#include "backends/xnnpack/softmax_mix_tile-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SSE2
template <RowCodec kCodec>
void MixRows(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
             const int32_t* query_positions, uint32_t queries, uint32_t row_begin, uint32_t row_end,
             float* partials, std::byte* scratch) {
  if (queries <= kDecodeQueries) {
    DecodeMix<kCodec>(lane, spec, q, q_stride, query_positions, queries, row_begin, row_end,
                      partials, scratch);
  } else {
    TileMix(DecodeRows<kCodec>, lane, spec, q, q_stride, query_positions, queries, row_begin,
            row_end, partials, scratch);
  }
}

void Mix(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
         const int32_t* query_positions, uint32_t queries, uint32_t row_begin, uint32_t row_end,
         float* partials, std::byte* scratch) {
  const auto mix = lane.keys.codec == RowCodec::kF32   ? MixRows<RowCodec::kF32>
                   : lane.keys.codec == RowCodec::kF16 ? MixRows<RowCodec::kF16>
                                                       : MixRows<RowCodec::kI8Token>;
  mix(lane, spec, q, q_stride, query_positions, queries, row_begin, row_end, partials, scratch);
}
#endif  // HWY_TARGET != HWY_SSE2

void FillMix(Kernels& kernels) {
#if HWY_TARGET == HWY_SSE2
  // x86 without AVX2 takes the portable definition: not worth its share of the library's size.
  kernels.mix = attention::PortableMix();
#else
  kernels.mix = Mix;
#endif
  kernels.isa = hwy::TargetName(HWY_TARGET);
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
