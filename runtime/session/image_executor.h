// The step loop of vision models: a plan's steps bound to memory and kernels once, then run for
// every batch of pictures.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/xnnpack/convolution.h"
#include "backends/xnnpack/dense.h"
#include "backends/xnnpack/kernels.h"
#include "model/model.h"
#include "plan/image.h"
#include "plan/image_solve.h"

namespace headroom::session {

// Sees each value of f32 when it has been made, see headroom.h.
struct ValueObserver {
  void (*call)(void* user_data, uint32_t value, const float* x, size_t positions, size_t stride,
               size_t channels) = nullptr;  // null: nobody looks
  void* user_data = nullptr;
};

// Everything is borrowed and outlives the executor.
struct ImageBindings {
  const model::Model* model = nullptr;
  const plan::LoweredImage* lowered = nullptr;
  const plan::ImagePlan* plan = nullptr;
  std::vector<xnnpack::Convolution>* convolutions = nullptr;  // by layer, not yet shaped
  xnnpack::ThreadPool* pool = nullptr;
  const xnnpack::Kernels* kernels = nullptr;
  std::byte* arena = nullptr;
  const std::atomic<bool>* cancel = nullptr;
  const ValueObserver* observer = nullptr;
};

// Not thread-safe. After Bind no call allocates.
class ImageExecutor {
 public:
  explicit ImageExecutor(const ImageBindings& bindings) : b_(bindings) {}
  // Errors: those of Convolution::Shape.
  Status Bind();

  // kCancelled when the flag was raised between two steps.
  Status Run();
  // Numbers of a value, of picture `index`.
  float* Data(int32_t value, uint32_t index) const;

 private:
  // Elements of a value: of pixel p of all pictures from data + p * stride elements on.
  struct Operand {
    std::byte* data = nullptr;
    uint32_t stride = 0, channels = 0;
    uint64_t positions = 0;  // of one picture
    uint32_t rows = 0, columns = 0;
    DType dtype = DType::kF32;
    float scale = 0.0f;
    int32_t zero = 0;
    std::byte* bytes(uint64_t position) const {
      return data + position * stride * (DTypeBits(dtype) / 8);
    }
    float* f32(uint64_t position = 0) const {
      return reinterpret_cast<float*>(data) + position * stride;
    }
    int8_t* codes(uint64_t position = 0) const {
      return reinterpret_cast<int8_t*>(data) + position * stride;
    }
    uint16_t* halves(uint64_t position = 0) const {
      return reinterpret_cast<uint16_t*>(data) + position * stride;
    }
    // One position behind another without a gap.
    bool dense() const { return stride == channels; }
  };
  struct BoundStep {
    Status (ImageExecutor::*run)(const BoundStep& step);
    const plan::ImageStep* step = nullptr;
    const model::ImageOp* op = nullptr;
    Operand inputs[2];
    Operand out;
    const float* weight = nullptr;
    const float* bias = nullptr;
  };

  Operand OperandOf(int32_t value) const;
  Operand OperandAt(int32_t value, const plan::ImagePlace& place) const;
  Status BindStep(const plan::ImageStep& step, BoundStep* bound);
  Status BindConvolution(const BoundStep& bound);
  void Observe(const BoundStep& step) const;
  void ObserveValue(int32_t value, const Operand& out) const;

  Status RunConvolution(const BoundStep& step);
  Status RunNorm(const BoundStep& step);
  Status RunActivation(const BoundStep& step);
  Status RunAdd(const BoundStep& step);
  Status RunMultiply(const BoundStep& step);
  Status RunPool(const BoundStep& step);
  Status RunResize(const BoundStep& step);
  Status RunRows(const BoundStep& step);
  Status RunCopy(const BoundStep& step);
  Status RunSelfAttention(const BoundStep& step);
  Status RunPositionEmbedding(const BoundStep& step);
  Status RunConvert(const BoundStep& step);
  void Move(const Operand& from, const Operand& to, bool relu);
  void PoolRow(const BoundStep& step, uint64_t row);
  void MeanOfHalves(const Operand& in, uint64_t picture, const ops::PoolWindow& window, float* out);
  void ResizeRow(const BoundStep& step, uint64_t row);
  void AttendPicture(const BoundStep& step, uint32_t picture);

  // Calls fn(begin, end) for parts of [0, count), items of so many operations each.
  template <typename Fn>
  void ForParts(uint64_t count, uint64_t operations, const Fn& fn);
  // out = fn(in) of halves, through f32 by parts: fn(first, numbers, count) changes numbers in
  // place.
  template <typename Fn>
  void OnHalves(const uint16_t* in, uint16_t* out, uint32_t count, const Fn& fn);
  // Calls fn(position, count) for runs of positions that lie one behind another in both, or one by
  // one: channels times count numbers each.
  template <typename Fn>
  void ForRuns(const BoundStep& step, bool dense, const Fn& fn);

  ImageBindings b_;
  std::vector<BoundStep> steps_;
};

}  // namespace headroom::session
