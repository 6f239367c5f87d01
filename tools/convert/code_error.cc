#include "convert/code_error.h"

#include <cstddef>

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "convert/code_error.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace headroom::convert::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, kScales>;
using VF = hn::Vec<F32>;

// One vector of scales against all values; sums never cross lanes.
HWY_INLINE void Measure(const float* HWY_RESTRICT scales, std::span<const float> values,
                        const float* HWY_RESTRICT importance, size_t first, ScaleErrors& out) {
  const F32 d;
  const VF scale = hn::LoadU(d, scales + first);
  const VF inverse = hn::Div(hn::Set(d, 1.0f), scale);
  VF error = hn::Zero(d), product = hn::Zero(d), squares = hn::Zero(d);
  for (size_t i = 0; i < values.size(); ++i) {
    const VF x = hn::Set(d, values[i]);
    const VF w = hn::Set(d, importance == nullptr ? 1.0f : importance[i]);
    const VF clamped = hn::Min(hn::Max(hn::Mul(x, inverse), hn::Set(d, -8.0f)), hn::Set(d, 7.0f));
    const VF q = hn::Round(clamped);
    const VF e = hn::NegMulAdd(scale, q, x);
    const VF wq = hn::Mul(w, q);
    error = hn::MulAdd(hn::Mul(w, e), e, error);
    product = hn::MulAdd(wq, x, product);
    squares = hn::MulAdd(wq, q, squares);
  }
  hn::StoreU(error, d, out.error.data() + first);
  hn::StoreU(product, d, out.product.data() + first);
  hn::StoreU(squares, d, out.squares.data() + first);
}

void MeasureAll(const std::array<float, kScales>& scales, std::span<const float> values,
                std::span<const float> importance, ScaleErrors& out) {
  const float* weights = importance.empty() ? nullptr : importance.data();
  for (size_t first = 0; first < kScales; first += hn::Lanes(F32())) {
    Measure(scales.data(), values, weights, first, out);
  }
}

}  // namespace headroom::convert::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::convert {

HWY_EXPORT(MeasureAll);

ScaleErrors ErrorsOf(const std::array<float, kScales>& scales, std::span<const float> values,
                     std::span<const float> importance) {
  ScaleErrors errors;
  HWY_DYNAMIC_DISPATCH(MeasureAll)(scales, values, importance, errors);
  return errors;
}

}  // namespace headroom::convert
#endif  // HWY_ONCE
