// f16 x f32 -> f32 dot products in Highway, one source for all instruction sets.
#include "backends/xnnpack/dense_f16.h"

#include <algorithm>
#include <cstddef>

#include "backends/xnnpack/dense.h"
#include "base/math.h"

// Vectors of unknown width cannot be array elements; SVE machines run the NEON build.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/dense_f16.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using F16 = hn::Rebind<hwy::float16_t, F32>;

// One tile keeps kTokens x kRows sums in registers. The order of additions within a sum is the same
// in every tile (one vector of partial sums, ascending k), so prefill and decode agree bit for bit.
template <size_t kTokens, size_t kRows>
HWY_INLINE void Tile(const hwy::float16_t* HWY_RESTRICT weights, size_t columns,
                     const float* HWY_RESTRICT x, const float* bias, float* HWY_RESTRICT out,
                     size_t out_stride) {
  const F32 d;
  const F16 d16;
  const size_t lanes = hn::Lanes(d);
  hn::Vec<F32> sum[kTokens][kRows];
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t n = 0; n < kRows; ++n) sum[t][n] = hn::Zero(d);
  }
  size_t k = 0;
  for (; k + lanes <= columns; k += lanes) {
    hn::Vec<F32> w[kRows];
    for (size_t n = 0; n < kRows; ++n) {
      w[n] = hn::PromoteTo(d, hn::LoadU(d16, weights + n * columns + k));
    }
    for (size_t t = 0; t < kTokens; ++t) {
      const auto values = hn::LoadU(d, x + t * columns + k);
      for (size_t n = 0; n < kRows; ++n) sum[t][n] = hn::MulAdd(values, w[n], sum[t][n]);
    }
  }
  if (k < columns) {
    for (size_t n = 0; n < kRows; ++n) {
      const auto w = hn::PromoteTo(d, hn::LoadN(d16, weights + n * columns + k, columns - k));
      for (size_t t = 0; t < kTokens; ++t) {
        const auto values = hn::LoadN(d, x + t * columns + k, columns - k);
        sum[t][n] = hn::MulAdd(values, w, sum[t][n]);
      }
    }
  }
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t n = 0; n < kRows; ++n) {
      out[t * out_stride + n] = hn::ReduceSum(d, sum[t][n]) + (bias == nullptr ? 0.0f : bias[n]);
    }
  }
}

// All tokens for rows [begin, end), kTokens tokens at a time while they last.
template <size_t kTokens, size_t kRows>
HWY_INLINE size_t Panel(const F16Layer& layer, size_t begin, size_t end, const float* x,
                        size_t token, size_t tokens, float* out) {
  const size_t columns = layer.columns;
  const auto* weights = reinterpret_cast<const hwy::float16_t*>(layer.weights);
  for (; token + kTokens <= tokens; token += kTokens) {
    const float* rows_of_x = x + token * columns;
    float* rows_of_out = out + token * layer.rows;
    size_t n = begin;
    for (; n + kRows <= end; n += kRows) {
      Tile<kTokens, kRows>(weights + n * columns, columns, rows_of_x,
                           layer.bias == nullptr ? nullptr : layer.bias + n, rows_of_out + n,
                           layer.rows);
    }
    for (; n < end; ++n) {
      Tile<kTokens, 1>(weights + n * columns, columns, rows_of_x,
                       layer.bias == nullptr ? nullptr : layer.bias + n, rows_of_out + n,
                       layer.rows);
    }
  }
  return token;
}

void RunRows(const F16Layer& layer, size_t begin, size_t end, const float* x, size_t tokens,
             float* out) {
  // 16 registers on AVX2 and older hold 2 x 4 sums with room for operands; 32 hold 4 x 4. One token
  // takes 8 rows, to keep enough sums in flight.
  constexpr size_t kTokens = HWY_ARCH_X86 && HWY_TARGET >= HWY_AVX2 ? 2 : 4;
  size_t token = Panel<kTokens, 4>(layer, begin, end, x, 0, tokens, out);
  token = Panel<2, 4>(layer, begin, end, x, token, tokens, out);
  Panel<1, 8>(layer, begin, end, x, token, tokens, out);
}

}  // namespace headroom::xnnpack::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {
namespace {

HWY_EXPORT(RunRows);

struct Job {
  const F16Layer* layer;
  const float* x;
  float* out;
  uint32_t tokens;
  uint32_t rows_per_task;
};

}  // namespace

void RunF16Layer(const F16Layer& layer, const float* x, uint32_t tokens, float* out,
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
