// f16 or int8 weights x f32 -> f32 dot products in Highway, one source for all instruction sets.
#include "backends/xnnpack/dense_in_place.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "backends/xnnpack/dense.h"
#include "base/math.h"

// Vectors of unknown width cannot be array elements; SVE machines run the NEON build.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/dense_in_place.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using F16 = hn::Rebind<hwy::float16_t, F32>;
using VF = hn::Vec<F32>;

HWY_INLINE VF PromoteHalves(hn::Vec<hn::Rebind<uint16_t, F32>> bits) {
  return hn::PromoteTo(F32(), hn::BitCast(F16(), bits));
}

// Rows of f16 weights: no scale, any number of columns.
struct HalfRows {
  explicit HalfRows(const InPlaceLayer& layer)
      : weights(reinterpret_cast<const uint16_t*>(layer.weights)), columns(layer.columns) {}

  size_t RunEnd(size_t) const { return columns; }
  HWY_INLINE void Prefetch(size_t, size_t) const {}  // rows are long
  HWY_INLINE VF Scale(size_t, size_t) const { return hn::Zero(F32()); }
  HWY_INLINE VF Load(size_t row, size_t k, VF) const {
    return PromoteHalves(hn::LoadU(hn::Rebind<uint16_t, F32>(), weights + row * columns + k));
  }
  HWY_INLINE VF LoadTail(size_t row, size_t k) const {
    return PromoteHalves(
        hn::LoadN(hn::Rebind<uint16_t, F32>(), weights + row * columns + k, columns - k));
  }

  const uint16_t* weights;
  size_t columns;
};

// Rows of int8 codes, each block with an f16 scale. Blocks are whole vectors, and powers of two: a
// division for each of them took longer than its products.
struct BlockRows {
  explicit BlockRows(const InPlaceLayer& layer)
      : codes(reinterpret_cast<const int8_t*>(layer.weights)),
        scales(layer.scales),
        columns(layer.columns),
        block(layer.block),
        shift(static_cast<size_t>(std::countr_zero(layer.block))) {}

  size_t RunEnd(size_t k) const { return k + block; }
  // A row is often half a page: the processor's own prefetching begins anew in each.
  HWY_INLINE void Prefetch(size_t row, size_t k) const {
    if (k % 64 == 0) hwy::Prefetch(codes + row * columns + k);
  }
  HWY_INLINE VF Scale(size_t row, size_t k) const {
    const uint16_t bits = scales[(row * columns + k) >> shift];
    return PromoteHalves(hn::Set(hn::Rebind<uint16_t, F32>(), bits));
  }
  HWY_INLINE VF Load(size_t row, size_t k, VF scale) const {
    const hn::RebindToSigned<F32> di;
    const auto code = hn::LoadU(hn::Rebind<int8_t, F32>(), codes + row * columns + k);
    return hn::Mul(hn::ConvertTo(F32(), hn::PromoteTo(di, code)), scale);
  }
  HWY_INLINE VF LoadTail(size_t, size_t) const { return hn::Zero(F32()); }  // there is none

  const int8_t* codes;
  const uint16_t* scales;
  size_t columns;
  size_t block, shift;
};

// One tile keeps kTokens x kRows sums in registers. The order of additions within a sum is the same
// in every tile (one vector of partial sums, ascending k), so prefill and decode agree bit for bit.
template <size_t kTokens, size_t kRows, class Rows>
HWY_INLINE void Tile(const Rows& rows, size_t row, const float* HWY_RESTRICT x, const float* bias,
                     float* HWY_RESTRICT out, size_t out_stride) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const size_t columns = rows.columns;
  VF sum[kTokens][kRows];
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t n = 0; n < kRows; ++n) sum[t][n] = hn::Zero(d);
  }
  size_t k = 0;
  while (k + lanes <= columns) {
    const size_t end = rows.RunEnd(k);
    VF scale[kRows], w[kRows];
    for (size_t n = 0; n < kRows; ++n) scale[n] = rows.Scale(row + n, k);
    if constexpr (kTokens == 1) {
      for (size_t n = 0; n < kRows; ++n) rows.Prefetch(row + kRows + n, k);
    }
    for (; k + lanes <= end; k += lanes) {
      for (size_t n = 0; n < kRows; ++n) w[n] = rows.Load(row + n, k, scale[n]);
      for (size_t t = 0; t < kTokens; ++t) {
        const VF values = hn::LoadU(d, x + t * columns + k);
        for (size_t n = 0; n < kRows; ++n) sum[t][n] = hn::MulAdd(values, w[n], sum[t][n]);
      }
    }
  }
  if (k < columns) {
    for (size_t n = 0; n < kRows; ++n) {
      const VF w = rows.LoadTail(row + n, k);
      for (size_t t = 0; t < kTokens; ++t) {
        const VF values = hn::LoadN(d, x + t * columns + k, columns - k);
        sum[t][n] = hn::MulAdd(values, w, sum[t][n]);
      }
    }
  }
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t n = 0; n < kRows; ++n) {
      out[t * out_stride + n] =
          hn::ReduceSum(d, sum[t][n]) + (bias == nullptr ? 0.0f : bias[row + n]);
    }
  }
}

// All tokens for rows [begin, end), kTokens tokens at a time while they last.
template <size_t kTokens, size_t kRows, class Rows>
HWY_INLINE size_t Panel(const InPlaceLayer& layer, const Rows& rows, size_t begin, size_t end,
                        const float* x, size_t token, size_t tokens, float* out) {
  for (; token + kTokens <= tokens; token += kTokens) {
    const float* rows_of_x = x + token * layer.columns;
    float* rows_of_out = out + token * layer.rows;
    size_t n = begin;
    for (; n + kRows <= end; n += kRows) {
      Tile<kTokens, kRows>(rows, n, rows_of_x, layer.bias, rows_of_out + n, layer.rows);
    }
    for (; n < end; ++n) {
      Tile<kTokens, 1>(rows, n, rows_of_x, layer.bias, rows_of_out + n, layer.rows);
    }
  }
  return token;
}

template <class Rows>
HWY_INLINE void RunRowsOf(const InPlaceLayer& layer, size_t begin, size_t end, const float* x,
                          size_t tokens, float* out) {
  // 16 registers on AVX2 and older hold 2 x 4 sums with room for operands; 32 hold 4 x 4. One token
  // takes 8 rows, to keep enough sums in flight.
  constexpr size_t kTokens = HWY_ARCH_X86 && HWY_TARGET >= HWY_AVX2 ? 2 : 4;
  const Rows rows(layer);
  size_t token = Panel<kTokens, 4>(layer, rows, begin, end, x, 0, tokens, out);
  token = Panel<2, 4>(layer, rows, begin, end, x, token, tokens, out);
  Panel<1, 8>(layer, rows, begin, end, x, token, tokens, out);
}

void RunRows(const InPlaceLayer& layer, size_t begin, size_t end, const float* x, size_t tokens,
             float* out) {
  if (layer.scales == nullptr) return RunRowsOf<HalfRows>(layer, begin, end, x, tokens, out);
  return RunRowsOf<BlockRows>(layer, begin, end, x, tokens, out);
}

}  // namespace headroom::xnnpack::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {
namespace {

HWY_EXPORT(RunRows);

struct Job {
  const InPlaceLayer* layer;
  const float* x;
  float* out;
  uint32_t tokens;
  uint32_t rows_per_task;
};

}  // namespace

void RunInPlaceLayer(const InPlaceLayer& layer, const float* x, uint32_t tokens, float* out,
                     ThreadPool& pool) {
  if (pool.HandleFor(uint64_t{tokens} * layer.rows * layer.columns) == nullptr) {
    HWY_DYNAMIC_DISPATCH(RunRows)(layer, 0, layer.rows, x, tokens, out);
    return;
  }
  // Enough tasks to even out threads of unequal speed; few enough rows that a task's weights stay
  // in the second-level cache while the tokens pass by.
  const uint32_t wanted = static_cast<uint32_t>(CeilDiv(layer.rows, uint64_t{pool.threads()} * 8));
  const uint32_t rows_per_task =
      std::clamp(static_cast<uint32_t>(RoundUp(wanted, 8)), 8u, tokens == 1 ? 256u : 32u);
  Job job{&layer, x, out, tokens, rows_per_task};
  pool.ParallelFor(
      static_cast<uint32_t>(CeilDiv(layer.rows, rows_per_task)),
      [](void* context, size_t index) {
        const Job& work = *static_cast<const Job*>(context);
        const size_t begin = index * work.rows_per_task;
        const size_t end = std::min<size_t>(begin + work.rows_per_task, work.layer->rows);
        HWY_DYNAMIC_DISPATCH(RunRows)(*work.layer, begin, end, work.x, work.tokens, work.out);
      },
      &job);
}

}  // namespace headroom::xnnpack
#endif  // HWY_ONCE
