// A convolution's weights in XNNPACK's terms. Private to this folder.
#pragma once

#include <xnnpack.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/xnnpack/convolution.h"
#include "backends/xnnpack/dense_layer.h"

namespace headroom::xnnpack {

// What XNNPACK reads while it packs: f32, or codes with a bias in units of their products.
struct ConvolutionSource {
  const void* weights = nullptr;
  const void* bias = nullptr;
  std::vector<std::byte> copy;
  std::vector<int32_t> codes;  // bias
};
// Widens f16, and puts int8 weights where XNNPACK may read past their end.
ConvolutionSource SourceOf(const LayerSlice& slice);

// `source` is read only if the provider has no packed weights, or the convolution is depthwise.
xnn_status CreateConvolution(const LayerSlice& slice, const ConvolutionSource& source,
                             size_t in_stride, size_t out_stride,
                             xnn_weights_cache_provider* provider, xnn_operator_t* out);

// kUnsupported for what XNNPACK refuses, by name.
Status CheckConvolution(const LayerSlice& slice, const char* name);

}  // namespace headroom::xnnpack
