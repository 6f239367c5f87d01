// Softmax mix in Highway, for few queries and for many, and the scores of rows.
#include "attention/softmax_mix.h"

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/softmax_mix.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"
#if HWY_TARGET != HWY_SSE2
#include "backends/xnnpack/row_scores-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SSE2
void Mix(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
         const int32_t* query_positions, uint32_t queries, uint32_t row_begin, uint32_t row_end,
         float* partials, std::byte* scratch) {
  const bool plain = lane.key_tail.width == 0 && lane.values.data != nullptr;
  const bool few = plain ? queries <= kDecodeQueries : DecodesLatent(lane, queries);
  const auto mix = few ? DecodeMix : TileMix;
  mix(lane, spec, q, q_stride, query_positions, queries, row_begin, row_end, partials, scratch);
}

void DecodeAll(const RowArray& rows, uint32_t begin, uint32_t count, float* out, uint32_t stride,
               std::byte* scratch) {
  const DecodeRowsFn decode = DecodeRowsOf(rows.codec);
  for (const uint32_t end = begin + count; begin < end; begin += kMixBlockRows) {
    const RowBlock block{begin, std::min(end - begin, kMixBlockRows), {}, false, nullptr, 0};
    decode(rows, block, nullptr, reinterpret_cast<float*>(scratch), out, stride);
    out += uint64_t{block.rows} * stride;
  }
}
#endif  // HWY_TARGET != HWY_SSE2

void FillMix(Kernels& kernels) {
#if HWY_TARGET == HWY_SSE2
  // x86 without AVX2 takes the portable definition: not worth its share of the library's size.
  kernels.mix = attention::PortableMix();
  kernels.row_scores = attention::PortableRowScores();
  kernels.decode_rows = attention::PortableDecodeRows();
#else
  kernels.mix = Mix;
  kernels.row_scores = RowScores;
  kernels.decode_rows = DecodeAll;
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
