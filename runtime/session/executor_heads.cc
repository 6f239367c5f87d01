// The head-dense step of the executor: each head's vectors times the head's own matrix, heads side
// by side on the threads.
#include <algorithm>
#include <cstring>

#include "session/executor.h"

namespace headroom::session {

size_t Executor::BindHeadDense(const plan::Step& step) {
  const plan::DenseLayer& dense = b_.lowered->dense[step.dense];
  const uint32_t columns = b_.model->tensors[dense.tensor].columns();
  BoundHeadDense bound;
  bound.input = BindHeads(step.query, columns);
  bound.layer = static_cast<size_t>(step.dense);
  bound.kind = b_.dense->input_kind(bound.layer);
  bound.heads = b_.lowered->buffers[step.output].width / dense.rows;
  bound.group = bound.heads / dense.parts;
  bound.rows = dense.rows;
  bound.chunk = plan::HeadScratchOf(*b_.model, *b_.lowered, step, *b_.facts, b_.plan->chunk);
  bound.token = plan::HeadScratchOf(*b_.model, *b_.lowered, step, *b_.facts, 1);
  head_dense_.push_back(bound);
  return head_dense_.size() - 1;
}

Status Executor::RunHead(const BoundHeadDense& bound, std::byte* worker, uint32_t head,
                         float* output) {
  const plan::HeadScratch& scratch = rows_ == 1 ? bound.token : bound.chunk;
  const uint32_t columns = bound.input.width, width = bound.heads * bound.rows;
  auto* gathered = reinterpret_cast<float*>(worker + scratch.gathered.offset);
  auto* out = reinterpret_cast<float*>(worker + scratch.output.offset);
  for (uint32_t begin = 0; begin < rows_; begin += scratch.rows) {
    const uint32_t count = std::min(scratch.rows, rows_ - begin);
    const bool copied = scratch.rows > 1;
    for (uint32_t i = 0; copied && i < count; ++i) {
      std::memcpy(gathered + uint64_t{i} * columns, HeadOf(bound.input, begin + i, head),
                  columns * sizeof(float));
    }
    const float* x = copied ? gathered : HeadOf(bound.input, begin, head);
    const auto* input = reinterpret_cast<const std::byte*>(x);
    if (bound.kind != xnnpack::InputKind::kF32) {
      std::byte* converted = worker + scratch.converted.offset;
      b_.dense->ConvertInput(bound.kind, x, count, columns, converted, *b_.serial);
      input = converted;
    }
    float* target = output + uint64_t{begin} * width + uint64_t{head} * bound.rows;
    HR_RETURN_IF_ERROR(b_.dense->RunPart(bound.layer, head / bound.group, input, count,
                                         copied ? out : target, *b_.serial));
    for (uint32_t i = 0; copied && i < count; ++i) {
      std::memcpy(target + uint64_t{i} * width, out + uint64_t{i} * bound.rows,
                  bound.rows * sizeof(float));
    }
  }
  return {};
}

Status Executor::RunHeadDense(const BoundStep& step) {
  if (rows_ >= step.step->expand_from) return {};  // the mix does without
  const BoundHeadDense& bound = head_dense_[step.head_dense];
  converted_ = nullptr;  // the output may take its place
  for (uint32_t head = 0; head < bound.heads && b_.observer->call != nullptr; ++head) {
    for (uint32_t row = 0; row < rows_; ++row) {
      Observe(bound.layer, HeadOf(bound.input, row, head), 1, bound.input.width);
    }
  }
  const uint64_t operations = uint64_t{rows_} * bound.heads * bound.rows * bound.input.width;
  return ForTasks(bound.heads, operations, [&](std::byte* worker, uint32_t head) {
    return RunHead(bound, worker, head, step.output);
  });
}

}  // namespace headroom::session
