// The softmax mix for any number of queries, and what goes into the table of kernels.
#if defined(HR_SOFTMAX_MIX_FILL_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_FILL_INL_H_
#undef HR_SOFTMAX_MIX_FILL_INL_H_
#else
#define HR_SOFTMAX_MIX_FILL_INL_H_
#endif

#include "backends/xnnpack/kernels.h"
#include "backends/xnnpack/row_scores-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

inline void Mix(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
                const int32_t* query_positions, uint32_t queries, uint32_t row_begin,
                uint32_t row_end, float* partials, std::byte* scratch) {
  const bool plain = lane.key_tail.width == 0 && lane.values.data != nullptr;
  const bool few = plain ? queries <= kDecodeQueries : DecodesLatent(lane, queries);
  const auto mix = few ? DecodeMix : TileMix;
  mix(lane, spec, q, q_stride, query_positions, queries, row_begin, row_end, partials, scratch);
}

inline void DecodeAll(const RowArray& rows, uint32_t begin, uint32_t count, float* out,
                      uint32_t stride, std::byte* scratch) {
  const DecodeRowsFn decode = DecodeRowsOf(rows.codec);
  for (const uint32_t end = begin + count; begin < end; begin += kMixBlockRows) {
    const RowBlock block{begin, std::min(end - begin, kMixBlockRows), {}, false, nullptr, 0};
    decode(rows, block, nullptr, reinterpret_cast<float*>(scratch), out, stride);
    out += uint64_t{block.rows} * stride;
  }
}

inline void FillMixTable(Kernels& kernels, const char* isa) {
  kernels.mix = Mix;
  kernels.row_scores = RowScores;
  kernels.decode_rows = DecodeAll;
  kernels.isa = isa;
  kernels.code_products = kCodeProducts;
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_FILL_INL_H_
