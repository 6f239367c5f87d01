// Reading cached rows: vectors of elements or codes, scales, and whole rows decoded to f32.
#if defined(HR_SOFTMAX_MIX_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_ROWS_INL_H_
#undef HR_SOFTMAX_MIX_ROWS_INL_H_
#else
#define HR_SOFTMAX_MIX_ROWS_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

template <RowCodec kCodec>
inline constexpr bool kInBlocks = kCodec == RowCodec::kBlock8 || kCodec == RowCodec::kBlock4;
inline constexpr size_t kBlockVectors = kRowBlock / kLanes;

template <RowCodec kCodec>
HWY_INLINE const uint8_t* RowAt(const RowArray& rows, size_t row) {
  return reinterpret_cast<const uint8_t*>(rows.data) + row * RowDataBytes(kCodec, rows.width);
}

// kLanes elements of a row from element d on, as f32; for kI8Token the bare codes
// (-128..127).
template <RowCodec kCodec>
HWY_INLINE VF LoadRow(const uint8_t* row, size_t d) {
  const DF df;
  if constexpr (kCodec == RowCodec::kF32) {
    return hn::LoadU(df, reinterpret_cast<const float*>(row) + d);
  } else if constexpr (kCodec == RowCodec::kF16) {
    const hn::Rebind<hwy::float16_t, DF> d16;
    return hn::PromoteTo(df, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(row) + d));
  } else {
    const hn::Rebind<int8_t, DF> d8;
    const DI di;
    return hn::ConvertTo(
        df, hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const int8_t*>(row) + d)));
  }
}

// As LoadRow for the last `count` < kLanes elements; the other lanes are 0 and memory is not
// touched.
template <RowCodec kCodec>
HWY_INLINE VF LoadRowTail(const uint8_t* row, size_t d, size_t count) {
  const DF df;
  if constexpr (kCodec == RowCodec::kF32) {
    return hn::LoadN(df, reinterpret_cast<const float*>(row) + d, count);
  } else if constexpr (kCodec == RowCodec::kF16) {
    const hn::Rebind<uint16_t, DF> du16;
    const hn::Rebind<hwy::float16_t, DF> d16;
    const auto bits = hn::LoadN(du16, reinterpret_cast<const uint16_t*>(row) + d, count);
    return hn::PromoteTo(df, hn::BitCast(d16, bits));
  } else {
    const hn::Rebind<int8_t, DF> d8;
    const DI di;
    const auto codes = hn::LoadN(d8, reinterpret_cast<const int8_t*>(row) + d, count);
    return hn::ConvertTo(df, hn::PromoteTo(di, codes));
  }
}

// Splits {f16 scale, f16 minimum} of `rows` rows into two f32 arrays. The minimum is moved by 128
// steps, to go with codes that are stored as code - 128.
HWY_INLINE void LoadRowMeta(const uint16_t* meta, size_t rows, float* scales, float* minimums) {
  const DF df;
  const hn::RebindToUnsigned<DF> du;
  const hn::Rebind<uint16_t, DF> du16;
  const hn::Rebind<hwy::float16_t, DF> d16;
  const VF offset = hn::Set(df, 128.0f);
  for (size_t r = 0; r < rows; r += kLanes) {
    const size_t count = std::min(kLanes, rows - r);
    const auto pairs =
        hn::BitCast(du, hn::LoadN(hn::Repartition<uint16_t, DF>(), meta + 2 * r, 2 * count));
    const auto low = hn::TruncateTo(du16, pairs);
    const auto high = hn::TruncateTo(du16, hn::ShiftRight<16>(pairs));
    const VF scale = hn::PromoteTo(df, hn::BitCast(d16, low));
    hn::StoreU(scale, df, scales + r);
    hn::StoreU(hn::MulAdd(scale, offset, hn::PromoteTo(df, hn::BitCast(d16, high))), df,
               minimums + r);
  }
}

// Scales of `rows` rows from `first` on, as they lie: [rows, scales per row].
HWY_INLINE void LoadBlockScales(const RowArray& array, size_t first, size_t rows, float* scales) {
  const DF df;
  const hn::Rebind<uint16_t, DF> du16;
  const hn::Rebind<hwy::float16_t, DF> d16;
  const size_t per_row = (array.width + kRowBlock - 1) / kRowBlock, count = rows * per_row;
  const uint16_t* from = array.meta + first * per_row;
  for (size_t i = 0; i < count; i += kLanes) {
    const auto halves = hn::BitCast(d16, hn::LoadN(du16, from + i, count - i));
    hn::StoreU(hn::PromoteTo(df, halves), df, scales + i);  // room for whole vectors
  }
}

// [row][block] to [block][row].
HWY_INLINE void TransposeScales(const float* from, size_t rows, size_t blocks, float* to) {
  const DF df;
  if (blocks == 2) {
    for (size_t r = 0; r < rows; r += kLanes) {
      VF even, odd;
      hn::LoadInterleaved2(df, from + 2 * r, even, odd);
      hn::Store(even, df, to + r);
      hn::Store(odd, df, to + kMixBlockRows + r);
    }
    return;
  }
  for (size_t r = 0; r < rows; ++r) {
    for (size_t b = 0; b < blocks; ++b) to[b * kMixBlockRows + r] = *from++;
  }
}

// Vector v of the kBlockVectors that make a block: its bare codes.
template <RowCodec kCodec>
HWY_INLINE VF LoadBlockCodes(const uint8_t* block, size_t v) {
  const DF df;
  const DI di;
  if constexpr (kCodec == RowCodec::kBlock8) {
    return LoadRow<RowCodec::kI8Token>(block, v * kLanes);
  } else {
    const hn::Rebind<uint8_t, DF> d8;
    const size_t byte = v * kLanes % (kRowBlock / 2);
    const VI pairs = hn::PromoteTo(di, hn::LoadU(d8, block + byte));
    const VI nibble =
        v < kBlockVectors / 2 ? hn::And(pairs, hn::Set(di, 15)) : hn::ShiftRight<4>(pairs);
    return hn::ConvertTo(df, hn::Sub(nibble, hn::Set(di, 8)));
  }
}

// --- whole rows
// ----------------------------------------------------------------------------------

template <RowCodec kCodec>
HWY_INLINE void DecodeBlocks(const uint8_t* row, const float* scales, size_t width, float* out) {
  const DF df;
  constexpr size_t kBlockBytes = RowDataBytes(kCodec, kRowBlock);
  for (size_t begin = 0; begin < width; begin += kRowBlock, row += kBlockBytes) {
    const VF scale = hn::Set(df, *scales++);
    HR_UNROLL
    for (size_t v = 0; v < kBlockVectors; ++v) {
      const size_t d = begin + v * kLanes;
      if (d >= width) break;
      hn::StoreN(hn::Mul(LoadBlockCodes<kCodec>(row, v), scale), df, out + d, width - d);
    }
  }
}

template <RowCodec kCodec>
HWY_INLINE void DecodeElements(const uint8_t* row, VF scale, VF minimum, size_t width, float* out) {
  const DF df;
  const auto decode = [&](VF x) HWY_ATTR {
    return kCodec == RowCodec::kI8Token ? hn::MulAdd(x, scale, minimum) : x;
  };
  size_t d = 0;
  for (; d + kLanes <= width; d += kLanes) {
    hn::StoreU(decode(LoadRow<kCodec>(row, d)), df, out + d);
  }
  if (d < width) {
    hn::StoreN(decode(LoadRowTail<kCodec>(row, d, width - d)), df, out + d, width - d);
  }
}

// Decodes a block of rows to f32, row r to out + r * stride; nothing behind a row's width is
// written. Rows that nobody sees may hold anything: they become 0. `scales`: room for
// ScaleFloats(width).
using DecodeRowsFn = void (*)(const RowArray& rows, const RowBlock& block, const int32_t* visible,
                              float* scales, float* out, size_t stride);

HWY_INLINE size_t ScaleFloats(size_t width) {
  return kMixBlockRows * std::max<size_t>((width + kRowBlock - 1) / kRowBlock, 2);
}

template <RowCodec kCodec>
HWY_NOINLINE void DecodeRows(const RowArray& rows, const RowBlock& block, const int32_t* visible,
                             float* scales, float* out, size_t stride) {
  const DF df;
  float* minimums = scales + kMixBlockRows;  // of kI8Token
  const size_t blocks = (rows.width + kRowBlock - 1) / kRowBlock;
  if constexpr (kCodec == RowCodec::kI8Token) {
    LoadRowMeta(rows.meta + 2 * uint64_t{block.begin}, block.rows, scales, minimums);
  }
  if constexpr (kInBlocks<kCodec>) LoadBlockScales(rows, block.begin, block.rows, scales);
  for (size_t r = 0; r < block.rows; ++r, out += stride) {
    if (visible != nullptr && visible[r] < 0) {  // its weight of 0 must stay 0
      std::memset(out, 0, rows.width * sizeof(float));
      continue;
    }
    const uint8_t* row = RowAt<kCodec>(rows, block.begin + r);
    if constexpr (kInBlocks<kCodec>) {
      DecodeBlocks<kCodec>(row, scales + r * blocks, rows.width, out);
    } else {
      const bool coded = kCodec == RowCodec::kI8Token;
      DecodeElements<kCodec>(row, hn::Set(df, coded ? scales[r] : 1.0f),
                             hn::Set(df, coded ? minimums[r] : 0.0f), rows.width, out);
    }
  }
}

HWY_INLINE DecodeRowsFn DecodeRowsOf(RowCodec codec) {
  constexpr DecodeRowsFn kDecode[kRowCodecs] = {
      DecodeRows<RowCodec::kF32>, DecodeRows<RowCodec::kF16>, DecodeRows<RowCodec::kI8Token>,
      DecodeRows<RowCodec::kBlock8>, DecodeRows<RowCodec::kBlock4>};
  return kDecode[static_cast<int>(codec)];
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_ROWS_INL_H_
