// What a convolution of pictures is.
#pragma once

#include <cstdint>

namespace headroom::xnnpack {

// Rows and columns of each; padding: top, left, bottom, right. Weight [N, kernel rows * kernel
// columns * C / groups]. Members without holes between them: they are hashed.
struct ConvolutionSpec {
  uint32_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1};
  uint32_t pad[4] = {0, 0, 0, 0};
  uint32_t groups = 1, channels = 0;  // C
  float low = 0.0f, high = 0.0f;      // results are clamped to them; equal: they are not
  // With int8 weights, elements are codes: number = (code - zero) * scale.
  float in_scale = 0.0f, out_scale = 0.0f;
  int32_t in_zero = 0, out_zero = 0;
  uint32_t halves = 0;  // 1: elements are f16, with f16 weights
  bool limited() const { return low < high; }
  bool depthwise() const { return groups == channels; }
  bool pointwise() const {
    return kernel[0] * kernel[1] * stride[0] * stride[1] * groups == 1 && !padded();
  }
  bool padded() const { return (pad[0] | pad[1] | pad[2] | pad[3]) != 0; }
};

struct ConvolutionSize {
  uint32_t batch = 1, rows = 0, columns = 0;  // of the input
};

}  // namespace headroom::xnnpack
