#include "attention/hadamard.h"

#include <cmath>

namespace headroom::attention {
namespace {

void RotateBlock(float* x, uint32_t n) {
  for (uint32_t half = 1; half < n; half *= 2) {
    for (uint32_t i = 0; i < n; ++i) {
      if (i & half) continue;
      const float a = x[i], b = x[i + half];
      x[i] = a + b;
      x[i + half] = a - b;
    }
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(n));
  for (uint32_t i = 0; i < n; ++i) x[i] *= scale;
}

void Hadamard(float* rows, uint32_t count, uint32_t stride, uint32_t width) {
  const uint32_t n = HadamardBlock(width);
  if (n <= 1) return;
  for (uint32_t r = 0; r < count; ++r) {
    for (uint32_t d = 0; d < width; d += n) RotateBlock(rows + uint64_t{r} * stride + d, n);
  }
}

}  // namespace

HadamardKernel PortableHadamard() { return Hadamard; }

}  // namespace headroom::attention
