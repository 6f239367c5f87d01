// What a softmax mix for few queries keeps between its passes.
#if defined(HR_SOFTMAX_MIX_STATE_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_STATE_INL_H_
#undef HR_SOFTMAX_MIX_STATE_INL_H_
#else
#define HR_SOFTMAX_MIX_STATE_INL_H_
#endif

#include "backends/xnnpack/quads-inl.h"
#include "backends/xnnpack/softmax_mix_rows-inl.h"

// Rows of codes multiply in integers where an instruction sums the products of two 16-bit integers
// into 32 bits (AVX2), or of four bytes (quads-inl.h). Arm without the latter gains nothing: its
// 16-bit products are no more per instruction than f32 ones, and on many cores fewer per cycle.
#undef HR_MIX_I16
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
#define HR_MIX_I16 1
#else
#define HR_MIX_I16 0
#endif

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

inline constexpr size_t kDecodeQueries = 8;   // more go to the tile kernel
inline constexpr size_t kLatentQueries = 16;  // the same for latents in integers
// Queries whose sums are kept in registers together: 4 rows x 4 queries need 16 of them.
inline constexpr size_t kQueryBlock = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM ? 4 : 2;
inline constexpr size_t kBlocksPerVector = kLanes / 4;  // 128-bit blocks

// Keys, and values, that go four bytes at a time: on Arm all codes, on x86 those that gain over
// pairs of 16 bits. There, rows with one scale do not, and interleaving four rows of 8 bits costs
// more than it saves.
constexpr bool GoAsQuads(RowCodec codec, RowCodec first_on_x86) {
  return HR_QUADS && codec >= (HWY_ARCH_X86 ? first_on_x86 : RowCodec::kI8Token);
}
template <RowCodec kCodec>
inline constexpr bool kQuadKeys = GoAsQuads(kCodec, RowCodec::kBlock8);
template <RowCodec kCodec>
inline constexpr bool kQuadValues = GoAsQuads(kCodec, RowCodec::kBlock4);
// Queries whose sums of values are kept at once: high and low ones of each in four vectors on Arm.
template <RowCodec kCodec>
inline constexpr size_t kValueQueries = kQuadValues<kCodec>&& HWY_ARCH_ARM ? 2 : kQueryBlock;
// Keys that multiply in integers in either way.
template <RowCodec kCodec>
inline constexpr bool kIntegerRows = kQuadKeys<kCodec> ||
                                     (HR_MIX_I16 && kCodec >= RowCodec::kI8Token);

// How decode multiplies codes, for reports.
inline constexpr const char* kCodeProducts = HR_QUADS && HWY_ARCH_X86 ? "u8 x i8"
                                             : HR_QUADS               ? "i8 x i8"
                                             : HR_MIX_I16             ? "i16"
                                                                      : "f32";

// Steps that a query of integer rows is quantised to: `most`, or fewer where the sum over a row so
// wide would leave 32 bits.
template <RowCodec kCodec>
HWY_INLINE constexpr float QuerySteps(size_t width, float most) {
  const bool fits = width <= 512 || kInBlocks<kCodec>;
  return fits ? most : std::min(most, 16777216.0f / static_cast<float>(width + 1));
}

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
    q = take(queries * q_stride);
    o = take(queries * o_stride);
    scores = take(queries * kMixBlockRows);
    weights = take(queries * kMixBlockRows);
    sums = take(queries * kLanes);
    offsets = take(queries * kLanes);
    maxima = take(queries);
    q_scale = take(queries);
    q_sum = take(queries);
    weight_scale = take(queries);
    key_scale = take(ScaleFloats(key_width));
    key_minimum = take(kMixBlockRows);
    value_scale = take(ScaleFloats(value_width));
    row_scale = take(ScaleFloats(std::max(key_width, value_width)));
    visible = reinterpret_cast<int32_t*>(take(kMixBlockRows));
    spare_rows = reinterpret_cast<uint8_t*>(take(16 * q_stride));
    end = reinterpret_cast<std::byte*>(next);
  }

  uint32_t queries;
  size_t q_stride;      // elements
  size_t o_stride;      // floats
  float* q;             // [queries, q_stride] scaled and padded with 0; codes for integer rows
  float* o;             // [queries, o_stride] not normalised; order of lanes: ValueOrder
  float* scores;        // [queries, kMixBlockRows], then the weights p
  float* weights;       // [queries, kMixBlockRows] p times scales; codes for integer rows
  float* sums;          // l, per lane
  float* offsets;       // sum of p times the rows' minimum, per lane
  float* maxima;        // m, log2 domain
  float* q_scale;       // integer rows: value of one step of q
  float* q_sum;         // int8 rows: sum of q, for the rows' minimum
  float* weight_scale;  // integer rows: value of one step of the weights; 0: block unseen
  float* key_scale;     // [kMixBlockRows, scales per row]; quads: [scales per row, kMixBlockRows]
  float* key_minimum;   // [kMixBlockRows]
  float* value_scale;   // [scales per row, kMixBlockRows]
  float* row_scale;     // scales or minimums as they lie
  int32_t* visible;     // [kMixBlockRows] position, or -1 where nobody looks
  uint8_t* spare_rows;  // a copy of rows when there are fewer than a tile takes
  std::byte* end;       // of what was taken of the scratch
};

// Into which cache, 3 the first: a block of rows in f32 fills the first one of x86 cores, and lines
// on their way there keep the loads of this block waiting. Elsewhere this was not measured.
inline constexpr int kFetchLocality = HWY_ARCH_X86 ? 2 : 3;

// Rows that will be read when these are done: fetched meanwhile, row by row. null: none.
struct Ahead {
  const uint8_t* rows = nullptr;
  size_t row_bytes = 0;

  HWY_INLINE Ahead From(size_t row) const {
    return {rows == nullptr ? nullptr : rows + row * row_bytes, row_bytes};
  }
  HWY_INLINE void Fetch(size_t first, size_t count) const {
    if (rows == nullptr) return;
    const uint8_t* from = rows + first * row_bytes;
    for (size_t byte = 0; byte < count * row_bytes; byte += 64) {
      __builtin_prefetch(from + byte, 0, kFetchLocality);
    }
  }
};

#if HR_MIX_I16
using DI16 = hn::Repartition<int16_t, DI>;
inline constexpr size_t kLanes16 = 2 * kLanes;

// Vector v of the kRowBlock / kLanes16 that make a block, as int16.
template <RowCodec kCodec>
HWY_INLINE hn::Vec<DI16> LoadBlockCodes16(const uint8_t* block, size_t v) {
  const DI16 d16;
  if constexpr (kCodec == RowCodec::kBlock8) {
    const hn::Rebind<int8_t, DI16> d8;
    return hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(block) + v * kLanes16));
  } else {
    const hn::FixedTag<uint8_t, kRowBlock / 2> d8;
    const auto pairs = hn::LoadU(d8, block);
    const auto low = hn::And(pairs, hn::Set(d8, uint8_t{15})), high = hn::ShiftRight<4>(pairs);
    const auto eight = hn::Set(d16, int16_t{8});
#if HR_QUADS
    (void)v;  // a whole block; nothing takes it: such rows go as quads
    const hn::FixedTag<uint8_t, kRowBlock> both;
    return hn::Sub(hn::PromoteTo(d16, hn::Combine(both, high, low)), eight);
#else
    return hn::Sub(hn::PromoteTo(d16, v == 0 ? low : high), eight);
#endif
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_STATE_INL_H_
