// Dense layers with f16 weights, multiplied where they lie in the model file.
//
// Why not XNNPACK's: its f16 operator takes and gives f16 activations, which overflow past 65504
// (real models do), and on Arm also sums in f16, an error near 1 % at K = 2048; its f32_f16
// operator widens a whole tensor on the heap while packing and keeps 4 bytes a weight. Here a
// weight costs its own 2 bytes in the mapped model and nothing more, activations and sums are f32,
// and every CPU is served.
#pragma once

#include <cstdint>

namespace headroom::xnnpack {

class ThreadPool;

struct F16Layer {
  const uint16_t* weights = nullptr;  // f16 [N, K], as in the model
  const float* bias = nullptr;        // f32 [N] or null
  uint32_t columns = 0;               // K
  uint32_t rows = 0;                  // N
};

// out[t, n] = sum_k x[t, k] * weights[n, k] + bias[n]; x [T, K], out [T, N], both contiguous.
// A row's result does not depend on T. Reads nothing past the ends. No allocation.
void RunF16Layer(const F16Layer& layer, const float* x, uint32_t tokens, float* out,
                 ThreadPool& pool);

}  // namespace headroom::xnnpack
