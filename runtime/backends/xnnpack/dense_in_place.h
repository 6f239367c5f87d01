// Dense layers whose weights are multiplied where they lie in the model file: f16, and int8 in
// blocks.
//
// Why not XNNPACK's f16: its operator takes and gives f16 activations, which overflow past 65504
// (real models do), and on Arm also sums in f16, an error near 1 % at K = 2048; its f32_f16
// operator widens a whole tensor on the heap while packing and keeps 4 bytes a weight. XNNPACK has
// no int8 in blocks at all. Here a weight costs its own bytes in the mapped model and nothing more,
// activations and sums are f32, and every CPU is served.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headroom::xnnpack {

class ThreadPool;

struct InPlaceLayer {
  const std::byte* weights = nullptr;  // [N, K] as in the model: f16, or int8 codes
  const uint16_t* scales = nullptr;    // f16 [N, K / block] of int8 codes; null: weights are f16
  uint32_t block = 0;                  // a multiple of 32 that divides K; 0: weights are f16
  const float* bias = nullptr;         // f32 [N] or null
  uint32_t columns = 0;                // K
  uint32_t rows = 0;                   // N
};

// out[t, n] = sum_k x[t, k] * weights[n, k] + bias[n]; x [T, K], out [T, N], both contiguous. A
// weight of int8 is code * scale, which f32 holds exactly. A row's result does not depend on T.
// Reads nothing past the ends. No allocation.
void RunInPlaceLayer(const InPlaceLayer& layer, const float* x, uint32_t tokens, float* out,
                     ThreadPool& pool);

}  // namespace headroom::xnnpack
