// Linear attention, and the row-wise steps that only stand beside it.
#include <algorithm>
#include <cstring>

#include "session/executor.h"

namespace headroom::session {

using model::kNone;

static_assert(model::kMaxKernel <= ops::kMostTaps);

Status Executor::RunMultiplyAdd(const BoundStep& step) {
  const float* x = Input(step, 0);
  const bool has_factors = step.factors != nullptr;
  const float* factors = has_factors ? step.factors : Input(step, 1);
  const int at = has_factors ? 1 : 2;  // of an addend among the inputs
  const float* addends = step.inputs[at] == nullptr ? nullptr : Input(step, at);
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) {
      const uint64_t offset = uint64_t{row} * step.width;
      const float* addend = addends == nullptr ? step.addends : addends + offset;
      b_.kernels->pointwise.multiply_add(x + offset, has_factors ? factors : factors + offset,
                                         addend, step.output + offset, step.width);
    }
  });
  return {};
}

Status Executor::RunHeadProduct(const BoundStep& step) {
  const float *a = Input(step, 0), *b = Input(step, 1), *c = Input(step, 2);
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    const uint64_t offset = uint64_t{begin} * step.width;
    b_.kernels->pointwise.head_product(a + offset, b + offset, c + offset, step.output + offset,
                                       (end - begin) * step.heads, step.width / step.heads);
  });
  return {};
}

// ---- Convolutions

void Executor::BindConvolve(const plan::Step& step, BoundStep* bound) {
  const model::Op& op = b_.model->ops[step.op];
  bound->taps = op.kernel;
  bound->factors = b_.model->tensors[op.weight.tensor].f32();
  if (op.addend != kNone) bound->addends = b_.model->tensors[op.addend].f32();
  if (op.activated) {
    bound->activation = b_.kernels->pointwise.activation[static_cast<int>(op.activation)];
  }
}

// The rows before the chunk are in the state, the oldest first.
void Executor::ConvolveRow(const BoundStep& step, uint32_t row) const {
  const float* rows[ops::kMostTaps];
  const uint32_t before = step.taps - 1;
  for (uint32_t j = 0; j < step.taps; ++j) {
    const uint32_t at = row + j;  // counted from the oldest row of the state
    rows[j] = at < before ? step.state + uint64_t{at} * step.width
                          : step.inputs[0] + uint64_t{at - before} * step.width;
  }
  float* out = step.output + uint64_t{row} * step.width;
  b_.kernels->pointwise.convolve(rows, step.taps, step.factors, step.addends, out, step.width);
  if (step.activation != nullptr) step.activation(out, nullptr, out, step.width);
}

// The newest rows of state and chunk together.
void Executor::KeepRows(const BoundStep& step) const {
  const uint32_t before = step.taps - 1, from_chunk = std::min(before, rows_);
  const uint32_t from_state = before - from_chunk;
  const uint64_t row_bytes = uint64_t{step.width} * sizeof(float);
  std::memmove(step.state, step.state + uint64_t{from_chunk} * step.width, from_state * row_bytes);
  std::memcpy(step.state + uint64_t{from_state} * step.width,
              step.inputs[0] + uint64_t{rows_ - from_chunk} * step.width, from_chunk * row_bytes);
}

Status Executor::RunConvolve(const BoundStep& step) {
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) ConvolveRow(step, row);
  });
  KeepRows(step);
  return {};
}

// ---- Linear attention

size_t Executor::BindLinear(const plan::Step& step) {
  BoundLinear bound;
  const model::LinearSpec& spec = b_.model->linears[step.linear];
  bound.spec = &spec;
  bound.mix = plan::LinearMixOf(spec);
  if (spec.log_decay != kNone) bound.log_decay = b_.model->tensors[spec.log_decay].f32();
  if (spec.bonus != kNone) bound.bonus = b_.model->tensors[spec.bonus].f32();
  // Values do not meet one another, but for the sum of keys that all share.
  bound.block = spec.value_width;
  if (!spec.sum_keys) bound.block = std::min(spec.value_width, attention::kMostCallValues);
  bound.blocks = static_cast<uint32_t>(CeilDiv(spec.value_width, bound.block));
  linears_.push_back(bound);
  return linears_.size() - 1;
}

// A block of a head's values.
attention::LinearMixCall Executor::CallOf(const BoundStep& step, uint32_t task) const {
  const BoundLinear& bound = linears_[step.linear];
  const model::LinearSpec& spec = *bound.spec;
  const uint32_t head = task / bound.blocks, column = task % bound.blocks * bound.block;
  const uint32_t key_head = head / (spec.heads / spec.key_heads);
  const uint32_t value = head * spec.value_width + column;
  const auto rows = [&](int input, uint32_t first) -> attention::TokenRows {
    if (step.inputs[input] == nullptr) return {};
    return {step.inputs[input] + first, step.input_widths[input]};
  };
  attention::LinearMixCall call;
  call.tokens = rows_;
  call.values = std::min(bound.block, spec.value_width - column);
  call.query = rows(model::kQueries, key_head * spec.key_width);
  call.key = rows(model::kKeys, key_head * spec.key_width);
  call.value = rows(model::kValues, value);
  const bool element = bound.mix.decay == attention::Decay::kElement;
  const bool by_channel = bound.mix.decay == attention::Decay::kChannel;
  const uint32_t decay = by_channel ? head * spec.key_width : head;
  call.log_decay = rows(model::kLogDecay, decay);
  if (bound.log_decay != nullptr && !element) call.log_decay = {bound.log_decay + decay, 0};
  call.strength = rows(model::kStrength, element ? value : head);
  call.removal = rows(model::kRemovalKeys, head * spec.key_width);
  call.write = rows(model::kWriteKeys, head * spec.key_width);
  if (bound.bonus != nullptr) call.bonus = bound.bonus + head * spec.key_width;
  const uint64_t per_head = uint64_t{spec.key_width} * spec.value_width;
  call.state = step.state + head * per_head + column;
  call.state_stride = spec.value_width;
  if (element) {
    call.rate = bound.log_decay + value;
    call.rate_stride = spec.heads * spec.value_width;
  }
  if (spec.sum_keys) call.key_sum = step.state + spec.heads * per_head + head * spec.key_width;
  call.out = step.output + value;
  call.out_stride = step.width;
  return call;
}

Status Executor::RunLinearMix(const BoundStep& step) {
  const BoundLinear& bound = linears_[step.linear];
  const model::LinearSpec& spec = *bound.spec;
  struct Task {
    const Executor* self;
    const BoundStep* step;
  } task{this, &step};
  b_.pool->ParallelForFlushed(
      spec.heads * bound.blocks,
      uint64_t{rows_} * spec.heads * spec.key_width * spec.value_width * 4,
      [](void* context, size_t worker, size_t index) {
        const Task& task = *static_cast<const Task*>(context);
        const Executor& self = *task.self;
        self.b_.kernels->linear_mix(self.linears_[task.step->linear].mix,
                                    self.CallOf(*task.step, static_cast<uint32_t>(index)),
                                    self.WorkerScratchAt(worker));
      },
      &task);
  return {};
}

}  // namespace headroom::session
