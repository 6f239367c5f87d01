// How many multiply-adds of f32 one core does in registers, with the widest vectors that the
// library has: what convolutions and dense layers can reach at most.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "backends/xnnpack/kernel_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "multiply_bench.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

constexpr int kSums = 10;  // enough to hide the latency of each

// Sums of `turns` multiply-adds each; the result hangs on all of them.
float Multiply(uint32_t turns, double* multiply_adds) {
  const DF df;
  const VF factor = hn::Set(df, 0.999f), term = hn::Set(df, 1e-3f);
  VF sums[kSums];
  HR_UNROLL
  for (int i = 0; i < kSums; ++i) sums[i] = hn::Set(df, static_cast<float>(i));
  for (uint32_t turn = 0; turn < turns; ++turn) {
    HR_UNROLL
    for (int i = 0; i < kSums; ++i) sums[i] = hn::MulAdd(sums[i], factor, term);
  }
  VF sum = hn::Zero(df);
  HR_UNROLL
  for (int i = 0; i < kSums; ++i) sum = hn::Add(sum, sums[i]);
  *multiply_adds = double{kSums} * kLanes * turns;
  return hn::ReduceSum(df, sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {
HWY_EXPORT(Multiply);
static double BestRate(float* result) {
  double best = 0;
  for (int round = 0; round < 20; ++round) {
    using Clock = std::chrono::steady_clock;
    double multiply_adds = 0;
    const auto begin = Clock::now();
    *result += HWY_DYNAMIC_DISPATCH(Multiply)(4000000, &multiply_adds);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, multiply_adds / seconds);
  }
  return best;
}
}  // namespace headroom::xnnpack

int main() {
  float result = 0;
  const double rate = headroom::xnnpack::BestRate(&result);
  std::printf("%.1f GMAC/s of f32 on one core (%g)\n", rate * 1e-9, static_cast<double>(result));
}
#endif
