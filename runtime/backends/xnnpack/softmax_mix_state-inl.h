// What a softmax mix for few queries keeps between its passes.
#if defined(HR_SOFTMAX_MIX_STATE_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_STATE_INL_H_
#undef HR_SOFTMAX_MIX_STATE_INL_H_
#else
#define HR_SOFTMAX_MIX_STATE_INL_H_
#endif

#include "backends/xnnpack/softmax_mix-inl.h"

#undef HR_MIX_I16
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
#define HR_MIX_I16 1  // multiply-add of 16-bit pairs into 32 bits is one or two instructions
#else
#define HR_MIX_I16 0
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

inline constexpr size_t kDecodeQueries = 8;  // more go to the tile kernel
// Queries whose sums are kept in registers together: 4 rows x 4 queries need 16 of them.
inline constexpr size_t kQueryBlock = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM ? 4 : 2;
inline constexpr size_t kBlocksPerVector = kLanes / 4;  // 128-bit blocks

template <RowCodec kCodec>
inline constexpr bool kIntegerRows = kCodec == RowCodec::kI8Token&& HR_MIX_I16;

// Everything that lives across blocks, carved out of the caller's scratch.
struct DecodeState {
  DecodeState(uint32_t queries_in, uint32_t key_width, uint32_t value_width, std::byte* scratch)
      : queries(queries_in),
        q_stride((key_width + 63) / 64 * 64),
        o_stride((value_width + 63) / 64 * 64) {
    float* next = reinterpret_cast<float*>(scratch);
    const auto take = [&next](size_t floats) {
      float* taken = next;
      next += (floats + 15) / 16 * 16;
      return taken;
    };
    q = take(kDecodeQueries * q_stride);
    o = take(kDecodeQueries * o_stride);
    scores = take(kDecodeQueries * kMixBlockRows);
    weights = reinterpret_cast<int16_t*>(take(kDecodeQueries * kMixBlockRows / 2));
    sums = take(kDecodeQueries * kLanes);
    offsets = take(kDecodeQueries * kLanes);
    maxima = take(kDecodeQueries);
    q_scale = take(kDecodeQueries);
    q_sum = take(kDecodeQueries);
    weight_scale = take(kDecodeQueries);
    key_scale = take(kMixBlockRows);
    key_minimum = take(kMixBlockRows);
    value_scale = take(kMixBlockRows);
    value_minimum = take(kMixBlockRows);
    visible = reinterpret_cast<int32_t*>(take(kMixBlockRows));
    spare_rows = reinterpret_cast<uint8_t*>(take(16 * q_stride));
  }

  uint32_t queries;
  size_t q_stride;      // elements
  size_t o_stride;      // floats
  float* q;             // [queries, q_stride] scaled and padded with 0; int16 for integer rows
  float* o;             // [queries, o_stride] not normalised; order of lanes: see AddValuesI16
  float* scores;        // [queries, kMixBlockRows], then the weights p
  int16_t* weights;     // [queries, kMixBlockRows] for integer rows
  float* sums;          // l, per lane
  float* offsets;       // sum of p times the rows' minimum, per lane
  float* maxima;        // m, log2 domain
  float* q_scale;       // integer rows: value of one step of q
  float* q_sum;         // int8 rows: sum of q, for the rows' minimum
  float* weight_scale;  // integer rows: value of one step of the weights; 0: block unseen
  float* key_scale;     // [kMixBlockRows]
  float* key_minimum;
  float* value_scale;
  float* value_minimum;
  int32_t* visible;     // [kMixBlockRows] position, or -1 where nobody looks
  uint8_t* spare_rows;  // a copy of rows when there are fewer than a tile takes
};

#if HR_MIX_I16
using DI16 = hn::Repartition<int16_t, DI>;
inline constexpr size_t kLanes16 = 2 * kLanes;
#endif

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_STATE_INL_H_
