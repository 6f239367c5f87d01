// Operations on pictures beside convolutions, in Highway.
#include "ops/image.h"

#include <algorithm>
#include <cmath>

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/image.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

using ops::CodeScale;
using ops::PoolWindow;
using ops::SelfAttention;

using DC = hn::Rebind<int8_t, DF>;

// Calls fn(first, lanes) for every vector of `width` numbers; the last may have fewer.
template <class Fn>
HWY_INLINE void ForLanes(uint32_t width, const Fn& fn) {
  uint32_t i = 0;
  for (; i + kLanes <= width; i += kLanes) fn(i, kLanes);
  if (i < width) fn(i, width - i);
}

// Sum of term(x) over all positions and channels.
template <class Term>
HWY_INLINE float SumPositions(const float* x, uint32_t stride, uint32_t positions,
                              uint32_t channels, const Term& term) {
  const DF df;
  VF sums[2] = {hn::Zero(df), hn::Zero(df)};
  for (uint32_t p = 0; p < positions; ++p, x += stride) {
    uint32_t c = 0;
    for (; c + 2 * kLanes <= channels; c += 2 * kLanes) {
      HR_UNROLL
      for (int i = 0; i < 2; ++i) {
        sums[i] = hn::Add(sums[i], term(hn::LoadU(df, x + c + i * kLanes)));
      }
    }
    for (; c + kLanes <= channels; c += kLanes) {
      sums[0] = hn::Add(sums[0], term(hn::LoadU(df, x + c)));
    }
    if (c == channels) continue;
    const VF last = term(hn::LoadN(df, x + c, channels - c));
    sums[1] = hn::Add(sums[1], hn::IfThenElseZero(hn::FirstN(df, channels - c), last));
  }
  return hn::ReduceSum(df, hn::Add(sums[0], sums[1]));
}

void GroupNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride,
               uint32_t positions, uint32_t channels, uint32_t groups, const float* weight,
               const float* bias, float epsilon) {
  const DF df;
  const uint32_t part = channels / groups;
  const float count = static_cast<float>(positions) * static_cast<float>(part);
  for (uint32_t first = 0; first < channels; first += part) {
    const float mean =
        SumPositions(x + first, x_stride, positions, part, [](VF v) HWY_ATTR { return v; }) / count;
    const VF shift = hn::Set(df, mean);
    const float squares = SumPositions(x + first, x_stride, positions, part, [&](VF v) HWY_ATTR {
      const VF centred = hn::Sub(v, shift);
      return hn::Mul(centred, centred);
    });
    const VF scale = hn::Set(df, 1.0f / std::sqrt(squares / count + epsilon));
    for (uint32_t p = 0; p < positions; ++p) {
      const float* from = x + uint64_t{p} * x_stride + first;
      float* to = out + uint64_t{p} * out_stride + first;
      ForLanes(part, [&](uint32_t c, size_t lanes) HWY_ATTR {
        const VF normal = hn::Mul(hn::Sub(hn::LoadN(df, from + c, lanes), shift), scale);
        const VF w = hn::LoadN(df, weight + first + c, lanes);
        hn::StoreN(hn::MulAdd(normal, w, hn::LoadN(df, bias + first + c, lanes)), df, to + c,
                   lanes);
      });
    }
  }
}

template <bool kMax>
void Pool(const float* x, uint32_t x_stride, uint32_t columns, const PoolWindow& window,
          uint32_t channels, float* out) {
  const DF df;
  const float pixels = static_cast<float>(window.row_end - window.row_begin) *
                       static_cast<float>(window.column_end - window.column_begin);
  const VF part = hn::Set(df, 1.0f / pixels);
  ForLanes(channels, [&](uint32_t c, size_t lanes) HWY_ATTR {
    const VF none = kMax ? hn::Set(df, -HUGE_VALF) : hn::Zero(df);
    VF sum = none;
    for (uint32_t row = window.row_begin; row < window.row_end; ++row) {
      const float* pixel = x + (uint64_t{row} * columns + window.column_begin) * x_stride + c;
      VF of_row = none;  // by itself: one sum of thousands of equal numbers drifts
      for (uint32_t i = window.column_begin; i < window.column_end; ++i, pixel += x_stride) {
        const VF v = hn::LoadN(df, pixel, lanes);
        of_row = kMax ? hn::Max(of_row, v) : hn::Add(of_row, v);
      }
      sum = kMax ? hn::Max(sum, of_row) : hn::Add(sum, of_row);
    }
    hn::StoreN(kMax ? sum : hn::Mul(sum, part), df, out + c, lanes);
  });
}

void PoolCodes(const int8_t* x, uint32_t x_stride, uint32_t columns, const PoolWindow& window,
               uint32_t channels, CodeScale scale, float* out) {
  const DF df;
  const DI di;
  const float pixels = static_cast<float>(window.row_end - window.row_begin) *
                       static_cast<float>(window.column_end - window.column_begin);
  const VF part = hn::Set(df, 1.0f / pixels), ratio = hn::Set(df, scale.ratio);
  const VF zero = hn::Set(df, static_cast<float>(scale.zero));
  ForLanes(channels, [&](uint32_t c, size_t lanes) HWY_ATTR {
    VF sum = hn::Zero(df);
    for (uint32_t row = window.row_begin; row < window.row_end; ++row) {
      const int8_t* pixel = x + (uint64_t{row} * columns + window.column_begin) * x_stride + c;
      VI of_row = hn::Zero(di);  // exact: a row has few pixels
      for (uint32_t i = window.column_begin; i < window.column_end; ++i, pixel += x_stride) {
        of_row = hn::Add(of_row, hn::PromoteTo(di, hn::LoadN(DC(), pixel, lanes)));
      }
      sum = hn::Add(sum, hn::ConvertTo(df, of_row));
    }
    const VF mean = hn::Mul(sum, part);
    hn::StoreN(hn::Mul(hn::Sub(mean, zero), ratio), df, out + c, lanes);
  });
}

void Blend(const float* const from[4], const float weights[4], float* out, uint32_t channels) {
  const DF df;
  ForLanes(channels, [&](uint32_t c, size_t lanes) HWY_ATTR {
    VF sum = hn::Mul(hn::Set(df, weights[0]), hn::LoadN(df, from[0] + c, lanes));
    for (int i = 1; i < 4; ++i) {
      sum = hn::MulAdd(hn::Set(df, weights[i]), hn::LoadN(df, from[i] + c, lanes), sum);
    }
    hn::StoreN(sum, df, out + c, lanes);
  });
}

constexpr uint32_t kQueries = ops::kAttentionTile;
// Vectors of values beside kQueries sums each: as many as there are registers for.
constexpr int kValueVectors = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE2 ? 1 : 2;

// Plain products of queries and keys.
HWY_INLINE void Scores(const SelfAttention& at, const float* const queries[kQueries],
                       const float* turned, uint32_t padded, float* scores) {
  const DF df;
  for (uint32_t t = 0; t < padded; t += kLanes) {
    VF sums[kQueries];
    HR_UNROLL
    for (uint32_t q = 0; q < kQueries; ++q) sums[q] = hn::Zero(df);
    for (uint32_t d = 0; d < at.query_width; ++d) {
      const VF keys = hn::LoadU(df, turned + uint64_t{d} * padded + t);
      HR_UNROLL
      for (uint32_t q = 0; q < kQueries; ++q) {
        sums[q] = hn::MulAdd(hn::Set(df, queries[q][d]), keys, sums[q]);
      }
    }
    HR_UNROLL
    for (uint32_t q = 0; q < kQueries; ++q) hn::StoreU(sums[q], df, scores + q * padded + t);
  }
}

// Weights that add up to 1, 0 behind the last position.
HWY_INLINE void Softmax(float* scores, uint32_t positions, float scale) {
  const DF df;
  constexpr float kLog2E = 1.4426950408889634f;
  VF largest = hn::Set(df, -HUGE_VALF);
  const VF factor = hn::Set(df, scale * kLog2E);
  ForLanes(positions, [&](uint32_t t, size_t lanes) HWY_ATTR {
    const VF s = hn::Mul(hn::LoadU(df, scores + t), factor);
    hn::StoreU(s, df, scores + t);
    largest = hn::Max(largest, hn::IfThenElse(hn::FirstN(df, lanes), s, largest));
  });
  const VF most = hn::Set(df, hn::ReduceMax(df, largest));
  VF sum = hn::Zero(df);
  ForLanes(positions, [&](uint32_t t, size_t lanes) HWY_ATTR {
    const VF weight = Exp2(hn::Sub(hn::LoadU(df, scores + t), most));
    const VF kept = hn::IfThenElseZero(hn::FirstN(df, lanes), weight);
    hn::StoreU(kept, df, scores + t);
    sum = hn::Add(sum, kept);
  });
  const VF inverse = hn::Set(df, 1.0f / hn::ReduceSum(df, sum));
  ForLanes(positions, [&](uint32_t t, size_t) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(df, scores + t), inverse), df, scores + t);
  });
}

// Columns [c, c + width) of the outputs of `count` queries; width at most kVectors vectors.
template <int kVectors>
HWY_INLINE void MixValues(const SelfAttention& at, const float* values, const float* scores,
                          uint32_t padded, uint32_t count, size_t width, float* out) {
  const DF df;
  VF sums[kQueries][kVectors];
  HR_UNROLL
  for (uint32_t q = 0; q < kQueries; ++q) {
    HR_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[q][v] = hn::Zero(df);
  }
  const bool whole = width == kVectors * kLanes;
  for (uint32_t t = 0; t < at.positions; ++t, values += at.stride) {
    VF row[kVectors];
    HR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      row[v] = whole ? hn::LoadU(df, values + v * kLanes) : hn::LoadN(df, values, width);
    }
    HR_UNROLL
    for (uint32_t q = 0; q < kQueries; ++q) {
      const VF weight = hn::Set(df, scores[q * padded + t]);
      HR_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[q][v] = hn::MulAdd(weight, row[v], sums[q][v]);
    }
  }
  const VF zero = hn::Zero(df);
  for (uint32_t q = 0; q < count; ++q, out += at.out_stride) {
    HR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const VF mixed = at.relu ? hn::Max(sums[q][v], zero) : sums[q][v];
      if (whole) {
        hn::StoreU(mixed, df, out + v * kLanes);
      } else {
        hn::StoreN(mixed, df, out, width);
      }
    }
  }
}

void Attend(const SelfAttention& at, uint32_t head, const float* turned, uint32_t begin,
            uint32_t end, float* scores) {
  const uint32_t padded = ops::PaddedPositions(at.positions);
  const float* queries[kQueries];
  for (uint32_t q = 0; q < kQueries; ++q) {  // behind the last query, that one again
    queries[q] =
        at.qkv + uint64_t{std::min(begin + q, end - 1)} * at.stride + head * at.query_width;
  }
  Scores(at, queries, turned, padded, scores);
  for (uint32_t q = 0; q < kQueries; ++q) Softmax(scores + q * padded, at.positions, at.scale);
  const float* values =
      at.qkv + uint64_t{2} * at.heads * at.query_width + uint64_t{head} * at.value_width;
  float* out = at.out + uint64_t{begin} * at.out_stride + uint64_t{head} * at.value_width;
  constexpr uint32_t kStep = kValueVectors * kLanes;
  uint32_t c = 0;
  for (; c + kStep <= at.value_width; c += kStep) {
    MixValues<kValueVectors>(at, values + c, scores, padded, end - begin, kStep, out + c);
  }
  for (; c < at.value_width; c += kLanes) {
    const size_t width = std::min<size_t>(kLanes, at.value_width - c);
    MixValues<1>(at, values + c, scores, padded, end - begin, width, out + c);
  }
}

HWY_INLINE VF Numbers(const int8_t* codes, size_t lanes, VF zero, VF ratio) {
  const DI di;
  const VI wide = hn::PromoteTo(di, hn::LoadN(DC(), codes, lanes));
  return hn::Mul(hn::Sub(hn::ConvertTo(DF(), wide), zero), ratio);
}

// Rounds what lies within the codes' range, and what lies outside to its ends.
HWY_INLINE void StoreCodes(VF value, int32_t zero, int8_t* out, size_t lanes) {
  const DF df;
  const VF low = hn::Set(df, -128.0f - static_cast<float>(zero));
  const VF high = hn::Set(df, 127.0f - static_cast<float>(zero));
  const VI codes = hn::Add(hn::NearestInt(hn::Min(hn::Max(value, low), high)), hn::Set(DI(), zero));
  hn::StoreN(hn::DemoteTo(DC(), codes), DC(), out, lanes);
}

void Quantise(const float* x, float scale, int32_t zero, int8_t* out, uint32_t count) {
  const DF df;
  const VF inverse = hn::Set(df, 1.0f / scale);
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    StoreCodes(hn::Mul(hn::LoadN(df, x + i, lanes), inverse), zero, out + i, lanes);
  });
}

void Dequantise(const int8_t* x, float scale, int32_t zero, float* out, uint32_t count) {
  const DF df;
  const VF shift = hn::Set(df, static_cast<float>(zero)), ratio = hn::Set(df, scale);
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    hn::StoreN(Numbers(x + i, lanes, shift, ratio), df, out + i, lanes);
  });
}

void AddCodes(const int8_t* a, CodeScale a_scale, const int8_t* b, CodeScale b_scale,
              int32_t out_zero, int8_t* out, uint32_t count) {
  const DF df;
  const VF a_zero = hn::Set(df, static_cast<float>(a_scale.zero));
  const VF b_zero = hn::Set(df, static_cast<float>(b_scale.zero));
  const VF a_ratio = hn::Set(df, a_scale.ratio), b_ratio = hn::Set(df, b_scale.ratio);
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    const VF sum =
        hn::Add(Numbers(a + i, lanes, a_zero, a_ratio), Numbers(b + i, lanes, b_zero, b_ratio));
    StoreCodes(sum, out_zero, out + i, lanes);
  });
}

void MoveCodes(const int8_t* x, CodeScale scale, int32_t out_zero, bool relu, int8_t* out,
               uint32_t count) {
  const DF df;
  const VF zero = hn::Set(df, static_cast<float>(scale.zero)), ratio = hn::Set(df, scale.ratio);
  const VF least = hn::Set(df, relu ? 0.0f : -HUGE_VALF);
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    StoreCodes(hn::Max(Numbers(x + i, lanes, zero, ratio), least), out_zero, out + i, lanes);
  });
}

void ScaleCodes(const int8_t* x, CodeScale scale, const float* factors, int32_t out_zero,
                int8_t* out, uint32_t count) {
  const DF df;
  const VF zero = hn::Set(df, static_cast<float>(scale.zero)), ratio = hn::Set(df, scale.ratio);
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    const VF number = Numbers(x + i, lanes, zero, ratio);
    StoreCodes(hn::Mul(number, hn::LoadN(df, factors + i, lanes)), out_zero, out + i, lanes);
  });
}

using DH = hn::Rebind<hwy::float16_t, DF>;
using DU16 = hn::Rebind<uint16_t, DF>;

void ToHalves(const float* x, uint16_t* out, uint32_t count) {
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    const auto halves = hn::DemoteTo(DH(), hn::LoadN(DF(), x + i, lanes));
    hn::StoreN(hn::BitCast(DU16(), halves), DU16(), out + i, lanes);
  });
}

void FromHalves(const uint16_t* x, float* out, uint32_t count) {
  ForLanes(count, [&](uint32_t i, size_t lanes) HWY_ATTR {
    const auto halves = hn::BitCast(DH(), hn::LoadN(DU16(), x + i, lanes));
    hn::StoreN(hn::PromoteTo(DF(), halves), DF(), out + i, lanes);
  });
}

void FillImage(Kernels& kernels) {
  kernels.image = ops::PortableImage();  // turning keys moves numbers alone
  kernels.image.group_norm = GroupNorm;
  kernels.image.pool[0] = Pool<true>;
  kernels.image.pool[1] = Pool<false>;
  kernels.image.pool_codes = PoolCodes;
  kernels.image.blend = Blend;
  kernels.image.self_attention = Attend;
  kernels.image.quantise = Quantise;
  kernels.image.dequantise = Dequantise;
  kernels.image.add_codes = AddCodes;
  kernels.image.move_codes = MoveCodes;
  kernels.image.scale_codes = ScaleCodes;
  // Without instructions for them, Highway's halves know no infinity.
  if (HWY_TARGET == HWY_SSE2) return;
  kernels.image.to_halves = ToHalves;
  kernels.image.from_halves = FromHalves;
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {

HWY_EXPORT(FillImage);
void FillImageKernels(Kernels& kernels) { HWY_DYNAMIC_DISPATCH(FillImage)(kernels); }

}  // namespace headroom::xnnpack
#endif
