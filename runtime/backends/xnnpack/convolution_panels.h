// Convolutions of f32 pictures in one group, by a kernel of our own with weights in panels.
//
// Why not XNNPACK's: at the 4 x 4 positions where small vision models have most of their weights,
// it computes 21 rows for 16 and reads every weight three times from the third-level cache; and it
// computes 32 channels where a model's first layers have 16 or 24. Here a panel of weights, wide or
// half as wide, meets up to 512 pixels before the next one does, in tiles of equal height.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/xnnpack/convolution_spec.h"

namespace headroom::xnnpack {

class ThreadPool;

// Whether this CPU runs a convolution so: where it was measured to be faster, which is x86.
bool UsesPanels(const ConvolutionSpec& spec);

// Panels of PanelWidth() output channels, one behind another: biases, then for each input channel
// the weights; 0 behind the last channel. The last panel is half as wide if that is enough.
uint32_t PanelWidth();
uint64_t PanelBytes(uint32_t rows, uint32_t columns);
// weights f32 [N, K], bias f32 [N] or null.
void PackPanels(const float* weights, const float* bias, uint32_t rows, uint32_t columns,
                float* panels);

// One convolution at one size. Strides in floats from one pixel to the next.
struct PanelLayer {
  const float* panels = nullptr;
  const float* zeros = nullptr;  // what taps outside a picture read
  uint32_t rows = 0;             // N
  uint32_t columns = 0;          // K: taps times channels
  size_t in_stride = 0, out_stride = 0;
  ConvolutionSpec spec;
  ConvolutionSize size;
  uint32_t out_rows = 0, out_columns = 0;
};
void SetSize(const ConvolutionSize& size, PanelLayer* layer);

// out[p, n] = clamp(sum_k x[p, k] * weights[n, k] + bias[n]), x[p] being the taps of pixel p, 0
// outside the picture. Reads nothing past the ends of x. No allocation. A pixel's result does not
// depend on others.
void RunPanels(const PanelLayer& layer, const float* x, float* out, ThreadPool& pool);

}  // namespace headroom::xnnpack
