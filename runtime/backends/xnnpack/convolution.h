// Convolutions of pictures (NHWC) through XNNPACK operators.
//
// Their weights are packed with all others of a model (dense.h): a DenseWeights that has a
// ConvolutionSpec is one. The operators, which know sizes and addresses, belong to a session.
// f16 weights stay f16 where values are, and are widened to f32 when they are packed where those
// are f32. In f32 on x86, those of one group are run by a kernel of our own (convolution_panels.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backends/xnnpack/convolution_panels.h"
#include "base/status.h"

struct xnn_operator;
struct pthreadpool;

namespace headroom::xnnpack {

class PackingProvider;
class ThreadPool;
struct DenseWeights;
struct LayerSlice;

// What pictures consist of.
enum class Elements : uint8_t { kFloats, kHalves, kCodes };

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
  void UsePanels(const LayerSlice& slice, const std::byte* packed, uint32_t in_stride,
                 uint32_t out_stride);

  std::unique_ptr<PackingProvider> provider_;  // the operator asks it where its weights are
  xnn_operator* op_ = nullptr;                 // null: in panels
  Elements elements_ = Elements::kFloats;
  PanelLayer layer_;  // in panels
  const float* input_ = nullptr;
  float* out_ = nullptr;
  uint64_t products_ = 0;  // multiply-adds of one pixel, once shaped of a run at most
};

}  // namespace headroom::xnnpack
