// Convolutions of pictures (NHWC) through XNNPACK operators.
//
// Their weights are packed with all others of a model (dense.h): a DenseWeights that has a
// ConvolutionSpec is one. The operators, which know sizes and addresses, belong to a session.
// f16 weights are widened to f32 when they are packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"

struct xnn_operator;
struct pthreadpool;

namespace headroom::xnnpack {

class PackingProvider;
class ThreadPool;
struct DenseWeights;

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
  bool limited() const { return low < high; }
  bool depthwise() const { return groups == channels; }
};

struct ConvolutionSize {
  uint32_t batch = 1, rows = 0, columns = 0;  // of the input
};

// One convolution at one size between two places of memory. Move-only. Nothing after Shape
// allocates. Not thread-safe.
class Convolution {
 public:
  // Strides from one pixel to the next, in elements. `packed`: DenseSet::packed_weights. Errors:
  // kUnsupported, kOutOfMemory.
  static Result<Convolution> Create(const DenseWeights& layer, const std::byte* packed,
                                    uint32_t in_stride, uint32_t out_stride);
  Convolution();
  Convolution(Convolution&& other) noexcept;
  Convolution& operator=(Convolution&& other) noexcept;
  ~Convolution();

  // kInternal when it needs more workspace than `workspace_bytes`: the plan was wrong.
  Status Shape(const ConvolutionSize& size, uint64_t workspace_bytes, ThreadPool& pool);
  // Before the first run. Input and output do not overlap; up to DenseSet::kSpareInputBytes behind
  // the input are read.
  Status Bind(const void* input, void* out, void* workspace);
  Status Run(ThreadPool& pool);

 private:
  std::unique_ptr<PackingProvider> provider_;  // the operator asks it where its weights are
  xnn_operator* op_ = nullptr;
  bool codes_ = false;
  uint64_t products_ = 0;  // multiply-adds of one pixel, once shaped of a run at most
};

}  // namespace headroom::xnnpack
