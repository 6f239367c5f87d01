#include "session/image_executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/math.h"

namespace headroom::session {
namespace {

using model::ImageOp;
using plan::ImageStepKind;

// Below this many elementary operations a second thread costs more than it saves.
constexpr uint64_t kParallelOperations = 32 * 1024;
// Of one call of a kernel, which counts in 32 bits.
constexpr uint64_t kMostNumbers = uint64_t{1} << 24;
// Halves that are f32 on the stack at a time.
constexpr uint32_t kHalvesAtOnce = 512;

// The pixels that place `at` of `count` sees along one axis.
struct Span {
  uint32_t begin = 0, end = 0;
};
Span WindowSpan(const model::WindowSpec& window, int axis, uint32_t at, uint32_t count,
                uint32_t size) {
  if (window.adaptive || window.kernel[axis] == 0) {
    const uint64_t begin = uint64_t{at} * size / count;
    return {static_cast<uint32_t>(begin),
            static_cast<uint32_t>(CeilDiv((uint64_t{at} + 1) * size, count))};
  }
  const int64_t first = int64_t{at} * window.stride[axis] - window.pad[axis];
  const int64_t last = first + window.kernel[axis];
  return {static_cast<uint32_t>(std::max<int64_t>(first, 0)),
          static_cast<uint32_t>(std::min<int64_t>(last, size))};
}

// Where place `at` of `count` lies among `size` pixels, and what the two beside it count.
struct Between {
  uint32_t first = 0, second = 0;
  float second_part = 0.0f;
};
Between PlaceBetween(const ImageOp& op, uint32_t at, uint32_t count, uint32_t size) {
  float place = 0.0f;
  if (!op.bilinear) {
    place = static_cast<float>(uint64_t{at} * size / count);  // f32 rounds products this large
  } else if (op.align_corners) {
    place = count == 1 ? 0.0f
                       : static_cast<float>(at) * static_cast<float>(size - 1) /
                             static_cast<float>(count - 1);
  } else {
    const float ratio = static_cast<float>(size) / static_cast<float>(count);
    place = std::max((static_cast<float>(at) + 0.5f) * ratio - 0.5f, 0.0f);
  }
  Between between;
  between.first = std::min(static_cast<uint32_t>(place), size - 1);
  between.second = std::min(between.first + 1, size - 1);
  between.second_part = place - static_cast<float>(between.first);
  return between;
}

}  // namespace

template <typename Fn>
void ImageExecutor::ForParts(uint64_t count, uint64_t operations, const Fn& fn) {
  const uint64_t threads = b_.pool->threads();
  if (threads == 1 || count == 1 || count * operations < kParallelOperations) {
    return fn(uint64_t{0}, count);
  }
  struct Task {
    const Fn* fn;
    uint64_t count, parts;
  } task{&fn, count, std::min(count, threads * 4)};
  b_.pool->ParallelFor(
      static_cast<uint32_t>(task.parts),
      [](void* context, size_t part) {
        const Task& task = *static_cast<const Task*>(context);
        (*task.fn)(part * task.count / task.parts, (part + 1) * task.count / task.parts);
      },
      &task);
}

template <typename Fn>
void ImageExecutor::ForRuns(const BoundStep& step, bool dense, const Fn& fn) {
  const uint32_t channels = step.out.channels;
  const uint64_t positions = step.out.positions * b_.plan->size.batch;
  const uint64_t most = dense ? kMostNumbers / channels : 1;  // positions of a run
  ForParts(positions, channels, [&](uint64_t begin, uint64_t end) {
    for (uint64_t p = begin; p < end; p += most) {
      fn(p, static_cast<uint32_t>(std::min(most, end - p) * channels));
    }
  });
}

template <typename Fn>
void ImageExecutor::OnHalves(const uint16_t* in, uint16_t* out, uint32_t count, const Fn& fn) {
  float numbers[kHalvesAtOnce];
  for (uint32_t first = 0; first < count; first += kHalvesAtOnce) {
    const uint32_t part = std::min(kHalvesAtOnce, count - first);
    b_.kernels->image.from_halves(in + first, numbers, part);
    fn(first, numbers, part);
    b_.kernels->image.to_halves(numbers, out + first, part);
  }
}

ImageExecutor::Operand ImageExecutor::OperandAt(int32_t value,
                                                const plan::ImagePlace& place) const {
  const plan::ImageBuffer& buffer = b_.lowered->buffers[place.buffer];
  const model::ImageValue& spec = b_.model->image.values[value];
  const plan::ImageExtent& extent = b_.plan->extents[value];
  Operand operand;
  operand.data = b_.arena + b_.plan->value_region.offset + b_.plan->values.offsets[place.buffer] +
                 uint64_t{place.channel} * (DTypeBits(buffer.dtype) / 8);
  operand.stride = buffer.channels;
  operand.channels = spec.channels;
  operand.rows = extent.rows;
  operand.columns = extent.columns;
  operand.positions = extent.positions();
  operand.dtype = spec.dtype;
  operand.scale = spec.scale;
  operand.zero = spec.zero_point;
  return operand;
}

ImageExecutor::Operand ImageExecutor::OperandOf(int32_t value) const {
  return OperandAt(value, b_.lowered->places[value]);
}

float* ImageExecutor::Data(int32_t value, uint32_t index) const {
  const Operand operand = OperandOf(value);
  return operand.f32(index * operand.positions);
}

Status ImageExecutor::Bind() {
  for (const plan::ImageStep& step : b_.lowered->steps) {
    HR_RETURN_IF_ERROR(BindStep(step, &steps_.emplace_back()));
  }
  return {};
}

Status ImageExecutor::BindStep(const plan::ImageStep& step, BoundStep* bound) {
  static constexpr Status (ImageExecutor::*kRun[])(const BoundStep&) = {
      &ImageExecutor::RunConvolution,
      &ImageExecutor::RunNorm,
      &ImageExecutor::RunActivation,
      &ImageExecutor::RunAdd,
      &ImageExecutor::RunMultiply,
      &ImageExecutor::RunPool,
      &ImageExecutor::RunResize,
      &ImageExecutor::RunRows,
      &ImageExecutor::RunCopy,
      &ImageExecutor::RunSelfAttention,
      &ImageExecutor::RunPositionEmbedding,
      &ImageExecutor::RunConvert};  // by ImageStepKind
  bound->run = kRun[static_cast<int>(step.kind)];
  bound->step = &step;
  bound->op = &b_.model->image.ops[step.op];
  for (int i = 0; i < 2; ++i) {
    if (step.inputs[i] != model::kNone) bound->inputs[i] = OperandOf(step.inputs[i]);
  }
  // A copy takes part of the output's channels.
  const bool part = step.kind == ImageStepKind::kCopy;
  bound->out = OperandAt(step.output, step.target);
  if (part) bound->out.channels = bound->inputs[0].channels;
  if (step.kind == ImageStepKind::kConvolution) return BindConvolution(*bound);
  if (bound->op->weight != model::kNone) bound->weight = b_.model->tensors[bound->op->weight].f32();
  if (bound->op->bias != model::kNone) bound->bias = b_.model->tensors[bound->op->bias].f32();
  return {};
}

Status ImageExecutor::BindConvolution(const BoundStep& bound) {
  xnnpack::Convolution& convolution = (*b_.convolutions)[bound.step->layer];
  const Operand& in = bound.inputs[0];
  HR_RETURN_IF_ERROR(convolution.Shape({b_.plan->size.batch, in.rows, in.columns},
                                       b_.plan->workspace_region.bytes, *b_.pool));
  return convolution.Bind(in.data, bound.out.data, b_.arena + b_.plan->workspace_region.offset);
}

Status ImageExecutor::Run() {
  if (b_.observer->call != nullptr) ObserveValue(0, OperandOf(0));
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (b_.cancel->load(std::memory_order_relaxed)) {
      return Status::Make(StatusCode::kCancelled, "cancelled at step %zu of %zu", i, steps_.size());
    }
    HR_RETURN_IF_ERROR((this->*steps_[i].run)(steps_[i]));
    if (b_.observer->call != nullptr) Observe(steps_[i]);
  }
  return {};
}

void ImageExecutor::Observe(const BoundStep& step) const {
  if (step.step->kind != ImageStepKind::kCopy) ObserveValue(step.step->output, step.out);
}

void ImageExecutor::ObserveValue(int32_t value, const Operand& out) const {
  if (out.dtype != DType::kF32) return;
  b_.observer->call(b_.observer->user_data, static_cast<uint32_t>(value), out.f32(),
                    out.positions * b_.plan->size.batch, out.stride, out.channels);
}

Status ImageExecutor::RunConvolution(const BoundStep& step) {
  return (*b_.convolutions)[step.step->layer].Run(*b_.pool);
}

Status ImageExecutor::RunNorm(const BoundStep& step) {
  const Operand &in = step.inputs[0], &out = step.out;
  const float epsilon = step.op->epsilon;
  if (step.op->groups == 0) {
    const uint64_t positions = out.positions * b_.plan->size.batch;
    ForParts(positions, uint64_t{out.channels} * 4, [&](uint64_t begin, uint64_t end) {
      b_.kernels->pointwise.layer_norm(in.f32(begin), in.stride, out.f32(begin), out.stride,
                                       static_cast<uint32_t>(end - begin), out.channels,
                                       step.weight, step.bias, epsilon);
    });
    return {};
  }
  const auto positions = static_cast<uint32_t>(out.positions);
  ForParts(b_.plan->size.batch, out.positions * out.channels, [&](uint64_t begin, uint64_t end) {
    for (uint64_t picture = begin; picture < end; ++picture) {
      const uint64_t first = picture * out.positions;
      b_.kernels->image.group_norm(in.f32(first), in.stride, out.f32(first), out.stride, positions,
                                   out.channels, step.op->groups, step.weight, step.bias, epsilon);
    }
  });
  return {};
}

Status ImageExecutor::RunActivation(const BoundStep& step) {
  const Operand &in = step.inputs[0], &out = step.out;
  if (out.dtype == DType::kI8) {
    Move(in, out, true);
    return {};
  }
  const auto activation = b_.kernels->pointwise.activation[step.op->activation];
  ForRuns(step, in.dense() && out.dense(), [&](uint64_t position, uint32_t count) {
    if (out.dtype == DType::kF16) {
      return OnHalves(in.halves(position), out.halves(position), count,
                      [&](uint32_t, float* x, uint32_t part) { activation(x, nullptr, x, part); });
    }
    activation(in.f32(position), nullptr, out.f32(position), count);
  });
  return {};
}

Status ImageExecutor::RunAdd(const BoundStep& step) {
  const Operand &a = step.inputs[0], &b = step.inputs[1], &out = step.out;
  const bool dense = a.dense() && b.dense() && out.dense();
  if (out.dtype == DType::kI8) {
    const ops::CodeScale a_scale{a.scale / out.scale, a.zero}, b_scale{b.scale / out.scale, b.zero};
    ForRuns(step, dense, [&](uint64_t position, uint32_t count) {
      b_.kernels->image.add_codes(a.codes(position), a_scale, b.codes(position), b_scale, out.zero,
                                  out.codes(position), count);
    });
    return {};
  }
  ForRuns(step, dense, [&](uint64_t position, uint32_t count) {
    if (out.dtype == DType::kF16) {
      return OnHalves(a.halves(position), out.halves(position), count,
                      [&](uint32_t first, float* x, uint32_t part) {
                        float y[kHalvesAtOnce];
                        b_.kernels->image.from_halves(b.halves(position) + first, y, part);
                        b_.kernels->pointwise.add(x, y, x, part);
                      });
    }
    b_.kernels->pointwise.add(a.f32(position), b.f32(position), out.f32(position), count);
  });
  return {};
}

Status ImageExecutor::RunMultiply(const BoundStep& step) {
  const Operand &in = step.inputs[0], &factors = step.inputs[1], &out = step.out;
  const bool one = factors.positions == 1 && out.positions != 1;  // position for a whole picture
  const ops::CodeScale scale{in.scale / out.scale, in.zero};
  ForRuns(step, false, [&](uint64_t position, uint32_t count) {
    const float* by = factors.f32(one ? position / out.positions : position);
    if (out.dtype == DType::kI8) {
      return b_.kernels->image.scale_codes(in.codes(position), scale, by, out.zero,
                                           out.codes(position), count);
    }
    if (out.dtype == DType::kF16) {
      return OnHalves(in.halves(position), out.halves(position), count,
                      [&](uint32_t first, float* x, uint32_t part) {
                        b_.kernels->pointwise.multiply(x, by + first, x, part);
                      });
    }
    b_.kernels->pointwise.multiply(in.f32(position), by, out.f32(position), count);
  });
  return {};
}

Status ImageExecutor::RunPool(const BoundStep& step) {
  const uint64_t rows = uint64_t{b_.plan->size.batch} * step.out.rows;
  const uint64_t operations = step.inputs[0].positions * step.out.channels / step.out.rows;
  ForParts(rows, operations, [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < end; ++row) PoolRow(step, row);
  });
  return {};
}

void ImageExecutor::PoolRow(const BoundStep& step, uint64_t row) {
  const Operand &in = step.inputs[0], &out = step.out;
  const auto pool = b_.kernels->image.pool[static_cast<int>(step.op->pool)];
  const uint64_t picture = row / out.rows;
  const model::WindowSpec& window = step.op->window;
  const Span rows = WindowSpan(window, 0, static_cast<uint32_t>(row % out.rows), out.rows, in.rows);
  for (uint32_t column = 0; column < out.columns; ++column) {
    const Span columns = WindowSpan(window, 1, column, out.columns, in.columns);
    const ops::PoolWindow pixels{rows.begin, rows.end, columns.begin, columns.end};
    float* to = out.f32(row * out.columns + column);
    if (in.dtype == DType::kI8) {
      b_.kernels->image.pool_codes(in.codes(picture * in.positions), in.stride, in.columns, pixels,
                                   out.channels, {in.scale, in.zero}, to);
    } else if (in.dtype == DType::kF16) {
      MeanOfHalves(in, picture, pixels, to);
    } else {
      pool(in.f32(picture * in.positions), in.stride, in.columns, pixels, out.channels, to);
    }
  }
}

void ImageExecutor::MeanOfHalves(const Operand& in, uint64_t picture, const ops::PoolWindow& window,
                                 float* out) {
  std::fill(out, out + in.channels, 0.0f);
  const auto add = b_.kernels->pointwise.add;
  for (uint32_t row = window.row_begin; row < window.row_end; ++row) {
    const uint64_t first = picture * in.positions + uint64_t{row} * in.columns;
    for (uint32_t c = 0; c < in.channels; c += kHalvesAtOnce) {
      const uint32_t part = std::min(kHalvesAtOnce, in.channels - c);
      float numbers[kHalvesAtOnce], of_row[kHalvesAtOnce] = {};  // as in ops/image.cc
      for (uint32_t column = window.column_begin; column < window.column_end; ++column) {
        b_.kernels->image.from_halves(in.halves(first + column) + c, numbers, part);
        add(of_row, numbers, of_row, part);
      }
      add(out + c, of_row, out + c, part);
    }
  }
  const float pixels = static_cast<float>(window.row_end - window.row_begin) *
                       static_cast<float>(window.column_end - window.column_begin);
  b_.kernels->pointwise.scale(out, 1.0f / pixels, out, in.channels);
}

Status ImageExecutor::RunResize(const BoundStep& step) {
  const uint64_t rows = uint64_t{b_.plan->size.batch} * step.out.rows;
  const uint64_t operations = uint64_t{step.out.columns} * step.out.channels * 4;
  ForParts(rows, operations, [&](uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < end; ++row) ResizeRow(step, row);
  });
  return {};
}

void ImageExecutor::ResizeRow(const BoundStep& step, uint64_t row) {
  const Operand &in = step.inputs[0], &out = step.out;
  const uint64_t first = row / out.rows * in.positions;
  const Between y =
      PlaceBetween(*step.op, static_cast<uint32_t>(row % out.rows), out.rows, in.rows);
  const auto pixel = [&](uint32_t r, uint32_t c) {
    return in.f32(first + uint64_t{r} * in.columns + c);
  };
  for (uint32_t column = 0; column < out.columns; ++column) {
    const Between x = PlaceBetween(*step.op, column, out.columns, in.columns);
    const float* from[4] = {pixel(y.first, x.first), pixel(y.first, x.second),
                            pixel(y.second, x.first), pixel(y.second, x.second)};
    const float down = y.second_part, right = x.second_part;
    const float weights[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right),
                              down * right};
    b_.kernels->image.blend(from, weights, out.f32(row * out.columns + column), out.channels);
  }
}

// Whole rows of positions, of each picture the same.
Status ImageExecutor::RunRows(const BoundStep& step) {
  const Operand &in = step.inputs[0], &out = step.out;
  for (uint32_t picture = 0; picture < b_.plan->size.batch; ++picture) {
    const uint64_t from = picture * in.positions + uint64_t{step.op->begin} * in.columns;
    for (uint64_t p = 0; p < out.positions; ++p) {
      std::memcpy(out.f32(picture * out.positions + p), in.f32(from + p),
                  out.channels * sizeof(float));
    }
  }
  return {};
}

Status ImageExecutor::RunCopy(const BoundStep& step) {
  const Operand &in = step.inputs[0], &out = step.out;
  const uint64_t bytes = uint64_t{in.channels} * (DTypeBits(in.dtype) / 8);
  ForRuns(step, false, [&](uint64_t position, uint32_t) {
    std::memcpy(out.bytes(position), in.bytes(position), bytes);
  });
  return {};
}

Status ImageExecutor::RunSelfAttention(const BoundStep& step) {
  for (uint32_t picture = 0; picture < b_.plan->size.batch; ++picture) {
    AttendPicture(step, picture);
  }
  return {};
}

void ImageExecutor::AttendPicture(const BoundStep& step, uint32_t picture) {
  const Operand &in = step.inputs[0], &out = step.out;
  const model::SelfAttentionSpec& spec = step.op->attention;
  struct Task {
    ops::SelfAttention at;
    const ops::ImageKernels* kernels;
    float *turned, *scores;
    uint32_t padded, tiles;
    float* KeysOf(uint32_t head) const { return turned + uint64_t{head} * at.query_width * padded; }
  } task;
  task.at = {in.f32(picture * in.positions),
             in.stride,
             static_cast<uint32_t>(in.positions),
             spec.heads,
             spec.query_width,
             spec.value_width,
             spec.scale,
             spec.relu,
             out.f32(picture * out.positions),
             out.stride};
  task.kernels = &b_.kernels->image;
  task.padded = ops::PaddedPositions(in.positions);
  task.tiles = static_cast<uint32_t>(CeilDiv(in.positions, ops::kAttentionTile));
  task.turned = reinterpret_cast<float*>(b_.arena + b_.plan->attention_region.offset);
  task.scores = task.KeysOf(spec.heads);
  for (uint32_t head = 0; head < spec.heads; ++head) {
    task.kernels->turn_keys(task.at, head, task.KeysOf(head));
  }
  b_.pool->ParallelForWorker(
      task.tiles * spec.heads,
      [](void* context, size_t worker, size_t index) {
        const Task& task = *static_cast<const Task*>(context);
        const auto head = static_cast<uint32_t>(index / task.tiles);
        const auto begin = static_cast<uint32_t>(index % task.tiles) * ops::kAttentionTile;
        const uint32_t end = std::min(begin + ops::kAttentionTile, task.at.positions);
        task.kernels->self_attention(task.at, head, task.KeysOf(head), begin, end,
                                     task.scores + worker * ops::kAttentionTile * task.padded);
      },
      &task);
}

Status ImageExecutor::RunPositionEmbedding(const BoundStep& step) {
  const Operand &in = step.inputs[0], &out = step.out;
  const uint32_t prefix = step.op->begin, channels = out.channels;
  ForParts(b_.plan->size.batch * out.positions, channels, [&](uint64_t begin, uint64_t end) {
    for (uint64_t p = begin; p < end; ++p) {
      const uint64_t picture = p / out.positions, row = p % out.positions;
      const float* position = step.weight + row * channels;
      if (row < prefix) {
        std::memcpy(out.f32(p), position, channels * sizeof(float));
      } else {
        b_.kernels->pointwise.add(in.f32(picture * in.positions + row - prefix), position,
                                  out.f32(p), channels);
      }
    }
  });
  return {};
}

void ImageExecutor::Move(const Operand& from, const Operand& to, bool relu) {
  const ops::CodeScale scale{from.scale / to.scale, from.zero};
  const uint64_t positions = to.positions * b_.plan->size.batch;
  ForParts(positions, to.channels, [&](uint64_t begin, uint64_t end) {
    for (uint64_t p = begin; p < end; ++p) {
      b_.kernels->image.move_codes(from.codes(p), scale, to.zero, relu, to.codes(p), to.channels);
    }
  });
}

Status ImageExecutor::RunConvert(const BoundStep& step) {
  const Operand &in = step.inputs[0], &out = step.out;
  const bool dense = in.dense() && out.dense();
  const ops::ImageKernels& kernels = b_.kernels->image;
  if (in.dtype == DType::kI8 && out.dtype == DType::kI8) {
    Move(in, out, false);
  } else if (in.dtype == DType::kI8) {
    ForRuns(step, dense, [&](uint64_t position, uint32_t count) {
      kernels.dequantise(in.codes(position), in.scale, in.zero, out.f32(position), count);
    });
  } else if (out.dtype == DType::kI8) {
    ForRuns(step, dense, [&](uint64_t position, uint32_t count) {
      kernels.quantise(in.f32(position), out.scale, out.zero, out.codes(position), count);
    });
  } else if (in.dtype != out.dtype) {
    ForRuns(step, dense, [&](uint64_t position, uint32_t count) {
      if (in.dtype == DType::kF16) {
        return kernels.from_halves(in.halves(position), out.f32(position), count);
      }
      kernels.to_halves(in.f32(position), out.halves(position), count);
    });
  } else {
    return RunCopy(step);
  }
  return {};
}

}  // namespace headroom::session
