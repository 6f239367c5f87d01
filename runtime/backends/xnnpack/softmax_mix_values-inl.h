// The weighted sum of a block's values.
#if defined(HR_SOFTMAX_MIX_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_VALUES_INL_H_
#undef HR_SOFTMAX_MIX_VALUES_INL_H_
#else
#define HR_SOFTMAX_MIX_VALUES_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix_state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// o[h, c0 .. c0 + kColumns * kLanes) += sum over rows of p[h, row] * value; `tail` > 0: only the
// first `tail` elements of the last vector exist.
template <RowCodec kCodec, size_t kQueries, size_t kColumns>
HWY_INLINE void AddColumns(const uint8_t* rows, size_t row_bytes, size_t count, const float* p,
                           float* o, size_t o_stride, size_t column, size_t tail) {
  const DF df;
  VF acc[kQueries][kColumns];
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c)
      acc[h][c] = hn::Load(df, o + h * o_stride + column + c * kLanes);
  }
  for (size_t r = 0; r < count; ++r) {
    const uint8_t* row = rows + r * row_bytes;
    VF value[kColumns];
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c) {
      const size_t d = column + c * kLanes;
      value[c] = c + 1 == kColumns && HWY_UNLIKELY(tail > 0) ? LoadRowTail<kCodec>(row, d, tail)
                                                             : LoadRow<kCodec>(row, d);
    }
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      const VF weight = hn::Set(df, p[h * kMixBlockRows + r]);
      HR_UNROLL
      for (size_t c = 0; c < kColumns; ++c) acc[h][c] = hn::MulAdd(weight, value[c], acc[h][c]);
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c)
      hn::Store(acc[h][c], df, o + h * o_stride + column + c * kLanes);
  }
}

template <RowCodec kCodec, size_t kQueries>
HWY_NOINLINE void AddValues(const uint8_t* rows, size_t row_bytes, size_t width, size_t first_row,
                            size_t count, const DecodeState& state, size_t first_query) {
  const float* p = state.scores + first_query * kMixBlockRows + first_row;
  float* o = state.o + first_query * state.o_stride;
  rows += first_row * row_bytes;
  size_t column = 0;
  for (; column + 4 * kLanes <= width; column += 4 * kLanes) {
    AddColumns<kCodec, kQueries, 4>(rows, row_bytes, count, p, o, state.o_stride, column, 0);
  }
  for (; column + kLanes <= width; column += kLanes) {
    AddColumns<kCodec, kQueries, 1>(rows, row_bytes, count, p, o, state.o_stride, column, 0);
  }
  if (column < width) {
    AddColumns<kCodec, kQueries, 1>(rows, row_bytes, count, p, o, state.o_stride, column,
                                    width - column);
  }
}

#if HR_MIX_I16
// As AddColumns for int8 rows, two at a time: pairs of codes of the same channel times pairs of
// weights. A group of kLanes16 channels fills two vectors of sums in the order that InterleaveLower
// and InterleaveUpper leave; ValueOrder says which channel a lane holds. Hidden rows have weight 0.
template <size_t kQueries, size_t kGroups>
HWY_INLINE void AddColumnsI16(const uint8_t* rows, size_t row_bytes, size_t count,
                              const DecodeState& state, size_t first_query, size_t column,
                              size_t tail) {
  const DF df;
  const DI di;
  const DI16 d16;
  const hn::Rebind<int8_t, DI16> d8;
  const int16_t* weights = state.weights + first_query * kMixBlockRows;
  VI acc[kQueries][2 * kGroups];
  VI unused = hn::Zero(di);
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    HR_UNROLL
    for (size_t c = 0; c < 2 * kGroups; ++c) acc[h][c] = hn::Zero(di);
  }
  for (size_t r = 0; r < count; r += 2) {
    const int8_t* first = reinterpret_cast<const int8_t*>(rows + r * row_bytes) + column;
    const int8_t* second = r + 1 < count ? first + row_bytes : first;  // its weight is then 0
    hn::Vec<DI16> pairs[2 * kGroups];
    HR_UNROLL
    for (size_t g = 0; g < kGroups; ++g) {
      const size_t d = g * kLanes16;
      const bool partial = HWY_UNLIKELY(tail > 0) && g + 1 == kGroups;
      const auto a =
          hn::PromoteTo(d16, partial ? hn::LoadN(d8, first + d, tail) : hn::LoadU(d8, first + d));
      const auto b =
          hn::PromoteTo(d16, partial ? hn::LoadN(d8, second + d, tail) : hn::LoadU(d8, second + d));
      pairs[2 * g] = hn::InterleaveLower(d16, a, b);
      pairs[2 * g + 1] = hn::InterleaveUpper(d16, a, b);
    }
    HR_UNROLL
    for (size_t h = 0; h < kQueries; ++h) {
      int32_t pair;
      std::memcpy(&pair, weights + h * kMixBlockRows + r, sizeof(pair));
      const auto weight = hn::BitCast(d16, hn::Set(di, pair));
      HR_UNROLL
      for (size_t c = 0; c < 2 * kGroups; ++c) {
        acc[h][c] = hn::ReorderWidenMulAccumulate(di, pairs[c], weight, acc[h][c], unused);
      }
    }
  }
  HR_UNROLL
  for (size_t h = 0; h < kQueries; ++h) {
    const VF scale = hn::Set(df, state.weight_scale[first_query + h]);
    float* o = state.o + (first_query + h) * state.o_stride + column;
    HR_UNROLL
    for (size_t c = 0; c < 2 * kGroups; ++c) {
      const VF sum = hn::ConvertTo(df, acc[h][c]);
      hn::Store(hn::MulAdd(sum, scale, hn::Load(df, o + c * kLanes)), df, o + c * kLanes);
    }
  }
}

template <size_t kQueries>
HWY_NOINLINE void AddValuesI16(const uint8_t* rows, size_t row_bytes, size_t width, size_t count,
                               const DecodeState& state, size_t first_query) {
  size_t column = 0;
  for (; column + 2 * kLanes16 <= width; column += 2 * kLanes16) {
    AddColumnsI16<kQueries, 2>(rows, row_bytes, count, state, first_query, column, 0);
  }
  for (; column < width; column += kLanes16) {
    const size_t tail = width - column < kLanes16 ? width - column : 0;
    AddColumnsI16<kQueries, 1>(rows, row_bytes, count, state, first_query, column, tail);
  }
}
#endif  // HR_MIX_I16

// Where the sum of channel c lies in o.
template <RowCodec kCodec>
HWY_INLINE size_t ValueOrder(size_t c) {
  if constexpr (kIntegerRows<kCodec>) {
    // Inside a group of 2 * kLanes channels: block of 8 channels, then which half of it, then lane.
    const size_t group = c / (2 * kLanes) * (2 * kLanes), k = c % (2 * kLanes);
    return group + (k % 8 / 4) * kLanes + k / 8 * 4 + k % 4;
  } else {
    return c;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_VALUES_INL_H_
