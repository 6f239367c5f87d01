// Rows into the cache and partial results together, in Highway.
#include "attention/row_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention/softmax_mix.h"
#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/row_codec.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

void EncodeF16(const float* row, uint32_t width, std::byte* data, uint16_t*) {
  const DF df;
  const hn::Rebind<hwy::float16_t, DF> d16;
  const hn::Rebind<uint16_t, DF> du16;
  uint16_t* out = reinterpret_cast<uint16_t*>(data);
  uint32_t d = 0;
  for (; d + kLanes <= width; d += kLanes) {
    hn::StoreU(hn::BitCast(du16, hn::DemoteTo(d16, hn::LoadU(df, row + d))), du16, out + d);
  }
  if (d < width) {
    const VF x = hn::LoadN(df, row + d, width - d);
    hn::StoreN(hn::BitCast(du16, hn::DemoteTo(d16, x)), du16, out + d, width - d);
  }
}

// Smallest and largest number of the row; NaN is no number. {inf, -inf} when there is none.
HWY_INLINE void RowRange(const float* row, uint32_t width, float* low, float* high) {
  const DF df;
  const VF infinity = hn::Inf(df);
  VF smallest = infinity, largest = hn::Neg(infinity);
  for (uint32_t d = 0; d < width; d += kLanes) {
    const VF x = hn::LoadN(df, row + d, width - d);
    const auto number = hn::And(hn::FirstN(df, width - d), hn::Not(hn::IsNaN(x)));
    smallest = hn::Min(smallest, hn::IfThenElse(number, x, infinity));
    largest = hn::Max(largest, hn::IfThenElse(number, x, hn::Neg(infinity)));
  }
  *low = hn::ReduceMin(df, smallest);
  *high = hn::ReduceMax(df, largest);
}

void EncodeI8Token(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  const DF df;
  const DI di;
  const hn::Rebind<int8_t, DF> d8;
  float low, high;
  RowRange(row, width, &low, &high);
  const attention::I8TokenRange range = attention::MakeI8TokenRange(low, high);
  meta[0] = range.scale_f16;
  meta[1] = range.minimum_f16;
  int8_t* out = reinterpret_cast<int8_t*>(data);
  const VF minimum = hn::Set(df, range.minimum), inverse = hn::Set(df, range.inverse_scale);
  for (uint32_t d = 0; d < width; d += kLanes) {
    const VF x = hn::Mul(hn::Sub(hn::LoadN(df, row + d, width - d), minimum), inverse);
    const VF number = hn::IfThenZeroElse(hn::IsNaN(x), x);
    const VF code = hn::Min(hn::Max(number, hn::Zero(df)), hn::Set(df, 255.0f));
    const VI stored = hn::Sub(hn::NearestInt(code), hn::Set(di, 128));
    hn::StoreN(hn::DemoteTo(d8, stored), d8, out + d, width - d);
  }
}

// kLanes elements of a row from element d on, as a block codec keeps them: NaN is 0, and so is what
// lies behind the row.
HWY_INLINE VF LoadElements(const float* row, uint32_t width, uint32_t d) {
  const DF df;
  const VF x = d < width ? hn::LoadN(df, row + d, width - d) : hn::Zero(df);
  const VF clip = hn::Set(df, attention::kRowClip);
  return hn::Min(hn::Max(hn::IfThenZeroElse(hn::IsNaN(x), x), hn::Neg(clip)), clip);
}

inline constexpr uint32_t kBlockVectors = kRowBlock / kLanes;

void EncodeBlock8(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  const DF df;
  const DI di;
  const hn::Rebind<int8_t, DF> d8;
  int8_t* out = reinterpret_cast<int8_t*>(data);
  for (uint32_t begin = 0; begin < width; begin += kRowBlock) {
    VF largest = hn::Zero(df);
    for (uint32_t v = 0; v < kBlockVectors; ++v) {
      largest = hn::Max(largest, hn::Abs(LoadElements(row, width, begin + v * kLanes)));
    }
    const attention::BlockScale scale = attention::MakeBlock8Scale(hn::ReduceMax(df, largest));
    *meta++ = scale.scale_f16;
    for (uint32_t d = begin; d < begin + kRowBlock; d += kLanes) {
      const VF x = hn::Mul(LoadElements(row, width, d), hn::Set(df, scale.inverse));
      const VF whole = hn::Trunc(x);  // halves round away from zero
      const auto up = hn::Ge(hn::Abs(hn::Sub(x, whole)), hn::Set(df, 0.5f));
      const VF step = hn::IfThenElseZero(up, hn::CopySign(hn::Set(df, 1.0f), x));
      const VI code = hn::ConvertTo(di, hn::Add(whole, step));
      hn::StoreU(hn::DemoteTo(d8, code), d8, out + d);
    }
  }
}

// The first element of largest magnitude in a block.
HWY_INLINE float ExtremeOfBlock(const float* row, uint32_t width, uint32_t begin) {
  const DF df;
  VF largest = hn::Zero(df);
  for (uint32_t v = 0; v < kBlockVectors; ++v) {
    largest = hn::Max(largest, hn::Abs(LoadElements(row, width, begin + v * kLanes)));
  }
  const float magnitude = hn::ReduceMax(df, largest);
  for (uint32_t d = begin; d < width; d += kLanes) {
    const VF x = LoadElements(row, width, d);
    const intptr_t lane = hn::FindFirstTrue(df, hn::Eq(hn::Abs(x), hn::Set(df, magnitude)));
    if (lane >= 0) return hn::ExtractLane(x, static_cast<size_t>(lane));
  }
  return 0.0f;
}

void EncodeBlock4(const float* row, uint32_t width, std::byte* data, uint16_t* meta) {
  const DF df;
  const DI di;
  const hn::Rebind<uint8_t, DF> d8;
  constexpr uint32_t kHalf = kRowBlock / 2;
  uint8_t* out = reinterpret_cast<uint8_t*>(data);
  for (uint32_t begin = 0; begin < width; begin += kRowBlock) {
    const attention::BlockScale scale =
        attention::MakeBlock4Scale(ExtremeOfBlock(row, width, begin));
    *meta++ = scale.scale_f16;
    const auto codes = [&](uint32_t d) HWY_ATTR {
      const VF x = hn::Mul(LoadElements(row, width, d), hn::Set(df, scale.inverse));
      return hn::ConvertTo(di, hn::Min(hn::Add(x, hn::Set(df, 8.5f)), hn::Set(df, 15.0f)));
    };
    for (uint32_t d = begin; d < begin + kHalf; d += kLanes, out += kLanes) {
      const VI pair = hn::Or(codes(d), hn::ShiftLeft<4>(codes(d + kHalf)));
      hn::StoreU(hn::DemoteTo(d8, pair), d8, out);
    }
  }
}

void Merge(const float* partials, uint64_t stride_floats, uint32_t count, uint32_t value_width,
           float sink_logit, float* out) {
  const DF df;
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  float maximum = sink_logit;
  for (uint32_t j = 0; j < count; ++j) {
    if (!(partials[j * stride_floats] <= maximum))
      maximum = partials[j * stride_floats];  // takes NaN
  }
  std::memset(out, 0, value_width * sizeof(float));
  if (maximum == kMinusInfinity) return;  // nothing was visible anywhere
  float total = std::exp(sink_logit - maximum);
  for (uint32_t j = 0; j < count; ++j) {
    const float* record = partials + j * stride_floats;
    if (record[0] == kMinusInfinity) continue;
    const float weight = std::exp(record[0] - maximum);
    total += weight * record[1];
    for (uint32_t d = 0; d < value_width; d += kLanes) {
      const VF o = hn::LoadN(df, record + 2 + d, value_width - d);
      const VF sum = hn::MulAdd(o, hn::Set(df, weight), hn::LoadN(df, out + d, value_width - d));
      hn::StoreN(sum, df, out + d, value_width - d);
    }
  }
  const VF inverse = hn::Set(df, 1.0f / total);
  for (uint32_t d = 0; d < value_width; d += kLanes) {
    const VF sum = hn::LoadN(df, out + d, value_width - d);
    hn::StoreN(hn::Mul(sum, inverse), df, out + d, value_width - d);
  }
}

void FillRowCodec(Kernels& kernels) {
  kernels.encode_row[static_cast<int>(RowCodec::kF32)] =
      attention::PortableEncodeRow(RowCodec::kF32);  // a copy: nothing to speed up
  kernels.encode_row[static_cast<int>(RowCodec::kF16)] = EncodeF16;
  kernels.encode_row[static_cast<int>(RowCodec::kI8Token)] = EncodeI8Token;
  // x86 without AVX2 takes the portable definition of what it cannot do much faster.
  const bool wide = HWY_TARGET != HWY_SSE2;
  kernels.encode_row[static_cast<int>(RowCodec::kBlock8)] =
      wide ? EncodeBlock8 : attention::PortableEncodeRow(RowCodec::kBlock8);
  kernels.encode_row[static_cast<int>(RowCodec::kBlock4)] =
      wide ? EncodeBlock4 : attention::PortableEncodeRow(RowCodec::kBlock4);
  kernels.merge = Merge;
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {

HWY_EXPORT(FillRowCodec);
void FillRowCodecKernels(Kernels& kernels) { HWY_DYNAMIC_DISPATCH(FillRowCodec)(kernels); }

}  // namespace headroom::xnnpack
#endif
