#include "session/executor.h"

#include <algorithm>

#include "base/math.h"
#include "base/platform.h"
#include "ops/embedding.h"

namespace headroom::session {
namespace {

using model::kNone;
using plan::StepKind;

}  // namespace

Executor::Executor(const Bindings& bindings) : b_(bindings) { Bind(); }

void Executor::Bind() {
  const plan::Plan& plan = *b_.plan;
  input_scratch_ = b_.arena + plan.input_region.offset;
  std::byte* table = b_.arena + plan.rope_region.offset;
  for (const auto& rope : b_.lowered->ropes) {
    rope_tables_.push_back(reinterpret_cast<float*>(table));
    table += RoundUp(uint64_t{plan.chunk} * rope.dims * sizeof(float), 64);
  }
  attentions_.resize(b_.model->attentions.size());
  int32_t logits = b_.lowered->logits;
  while (b_.lowered->buffers[logits].alias_of != kNone) {
    logits = b_.lowered->buffers[logits].alias_of;
  }
  logits_step_ = static_cast<size_t>(b_.lowered->buffers[logits].first_step);
  for (const auto& step : b_.lowered->steps) {
    BoundStep bound;
    BindStep(step, &bound);
    steps_.push_back(bound);
    if (step.kind == StepKind::kAppend) BindAttention(step);
    if (step.kind == StepKind::kMix) BindMix(step);
  }
}

float* Executor::BufferData(int32_t buffer) const {
  if (buffer == kNone) return nullptr;
  return reinterpret_cast<float*>(b_.arena + b_.plan->value_region.offset +
                                  b_.plan->values.offsets[buffer]);
}

void Executor::BindStep(const plan::Step& step, BoundStep* bound) {
  static constexpr Status (Executor::*kRun[])(const BoundStep&) = {
      &Executor::RunEmbed,       &Executor::RunNorm,        &Executor::RunDense,
      &Executor::RunAppend,      &Executor::RunMix,         &Executor::RunActivation,
      &Executor::RunAdd,         &Executor::RunUnary,       &Executor::RunUnary,
      &Executor::RunExperts,     &Executor::RunMultiply,    &Executor::RunHeadDense,
      &Executor::RunMultiplyAdd, &Executor::RunHeadProduct, &Executor::RunConvolve,
      &Executor::RunLinearMix};  // by StepKind
  const model::Op& op = b_.model->ops[step.op];
  const auto& tensors = b_.model->tensors;
  const auto& kernels = b_.kernels->pointwise;
  bound->run = kRun[static_cast<int>(step.kind)];
  bound->step = &step;
  for (int i = 0; i < model::kMostInputs; ++i) {
    if (step.inputs[i] == kNone) continue;
    bound->inputs[i] = BufferData(step.inputs[i]);
    bound->input_widths[i] = b_.lowered->buffers[step.inputs[i]].width;
    bound->input_is_tail[i] = b_.lowered->buffers[step.inputs[i]].tail;
  }
  bound->output = BufferData(step.output);
  if (step.output != kNone) bound->width = b_.lowered->buffers[step.output].width;
  bound->factor = op.scale;
  if (step.kind == StepKind::kEmbed) {
    bound->table = op.weight.tensor;
    bound->by_position = op.kind == model::OpKind::kPositionEmbedding;
    const TensorView& table = tensors[op.weight.tensor];
    bound->release = b_.release_embeddings && !ReadByDense(op.weight.tensor) &&
                     plan::EmbeddingBytes(table) < table.data_bytes + table.scale_bytes;
  }
  if (step.kind == StepKind::kNorm) {
    const model::NormSpec& norm = step.norm;
    bound->norm = norm.kind == model::NormKind::kRms ? kernels.rms_norm : kernels.layer_norm;
    bound->norm_weight = tensors[norm.weight].f32();
    if (norm.bias != kNone) bound->norm_bias = tensors[norm.bias].f32();
    bound->epsilon = norm.epsilon;
    bound->groups = norm.groups;
    bound->shared = norm.shared;
  }
  if (step.kind == StepKind::kConvolve) BindConvolve(step, bound);
  if (step.kind == StepKind::kLinearMix) bound->linear = BindLinear(step);
  if (step.state != kNone) bound->state = b_.states->Part(static_cast<size_t>(step.state));
  bound->heads = op.heads;
  if (step.kind == StepKind::kMultiplyAdd) {
    if (op.factor != kNone) bound->factors = tensors[op.factor].f32();
    if (op.addend != kNone) bound->addends = tensors[op.addend].f32();
  }
  if (step.kind == StepKind::kExperts) bound->experts = BindExperts(step);
  if (step.kind == StepKind::kHeadDense) bound->head_dense = BindHeadDense(step);
  if (step.kind == StepKind::kMultiply) bound->unary = kernels.scale;
  if (step.kind == StepKind::kScale) bound->unary = kernels.scale;
  if (step.kind == StepKind::kSoftcap) bound->unary = kernels.softcap;
  if (step.kind == StepKind::kActivation) {
    bound->activation = kernels.activation[static_cast<int>(step.activation)];
    bound->gated = step.gated;
  }
}

// Whether a dense layer reads the tensor's own pages at every step (a tied f16 head), so that
// dropping them would only bring them back. Other types have a packed copy.
bool Executor::ReadByDense(int32_t tensor) const {
  const auto& dense = b_.lowered->dense;
  for (size_t i = 0; i < dense.size(); ++i) {
    if (dense[i].tensor == tensor && b_.dense->in_place(i)) return true;
  }
  return false;
}

void Executor::BindAttention(const plan::Step& step) {
  BoundAttention& bound = attentions_[step.attention];
  const model::AttentionSpec& spec = b_.model->attentions[step.attention];
  auto bind = [&](const plan::Slice& slice, int32_t rope, BoundRows* rows) {
    rows->data = BufferData(slice.buffer) + slice.column;
    rows->stride = b_.lowered->buffers[slice.buffer].width;
    if (rope != kNone) rows->angles = rope_tables_[rope];
  };
  bound.spec = &spec;
  bound.query = {&spec.query.norm, &spec.query.rope, nullptr, nullptr, 0,
                 spec.query_heads, spec.query.width};
  if (spec.query.factors != kNone) {
    bound.query.factors = b_.model->tensors[spec.query.factors].f32();
  }
  bind(step.query, step.query_rope, &bound.query);
  if (spec.key.basis != kNone) {
    bound.query.basis = b_.model->tensors[spec.key.basis].f32();
    for (const uint16_t view : spec.head_map) {
      bound.query.basis_of.push_back(spec.views[view].key);
    }
  }
  for (int i = 0; i < plan::kStreams; ++i) {
    const model::StreamSpec& stream = plan::StreamOf(spec, i);
    if (!plan::MakesStream(spec, i)) continue;
    bound.streams[i] = {&stream.norm, &stream.rope, nullptr, nullptr, 0,
                        stream.heads, stream.width};
    bind(step.streams[i], step.stream_ropes[i], &bound.streams[i]);
    if (stream.basis == kNone) continue;
    bound.streams[i].basis = b_.model->tensors[stream.basis].f32();
    for (uint32_t h = 0; h < stream.heads; ++h) {
      bound.streams[i].basis_of.push_back(static_cast<uint16_t>(h));
    }
  }
  if (spec.sink_logits != kNone) {
    bound.sink_logits = b_.model->tensors[spec.sink_logits].f32();
  }
  for (uint32_t view = 0; view < spec.kv_heads(); ++view) {
    const auto begin = static_cast<uint32_t>(bound.view_heads.size());
    bound.view_begin.push_back(begin);
    for (uint32_t head = 0; head < spec.query_heads; ++head) {
      if (spec.head_map[head] == view) bound.view_heads.push_back(static_cast<uint16_t>(head));
    }
    const auto group = static_cast<uint32_t>(bound.view_heads.size()) - begin;
    bound.largest_group = std::max(bound.largest_group, group);
  }
  bound.view_begin.push_back(static_cast<uint32_t>(bound.view_heads.size()));
}

Executor::BoundHeads Executor::BindHeads(const plan::Slice& slice, uint32_t width) const {
  const plan::Buffer& buffer = b_.lowered->buffers[slice.buffer];
  return {BufferData(slice.buffer) + slice.column, buffer.width, slice.head_stride, width,
          buffer.tail};
}

void Executor::BindMix(const plan::Step& step) {
  BoundAttention& bound = attentions_[step.attention];
  const bool expands = step.expand_from != kUnlimited;
  bound.parts[0] = BindHeads(step.query, bound.spec->key.width);
  if (expands) {
    bound.expanded[0] = BindHeads(step.expanded_query, bound.spec->query_part());
    bound.expand = plan::ExpandScratchOf(*b_.model, step, *b_.facts, b_.plan->chunk);
  }
  if (step.query_tail.buffer == kNone) return;
  bound.parts[1] = BindHeads(step.query_tail, bound.spec->tail.width);
  if (expands) bound.expanded[1] = bound.parts[1];
}

const float* Executor::Input(const BoundStep& step, int i) const {
  if (!tail_ || step.input_is_tail[i]) return step.inputs[i];
  return step.inputs[i] + uint64_t{row_} * step.input_widths[i];
}

void Executor::FillRopes() {
  for (size_t i = 0; i < rope_tables_.size(); ++i) {
    const auto& rope = b_.lowered->ropes[i];
    const float* frequencies = b_.model->tensors[rope.inverse_frequencies].f32();
    float* table = rope_tables_[i];
    ForRows(count_, rope.dims * 32, [&](uint32_t begin, uint32_t end) {
      for (uint32_t row = begin; row < end; ++row) {
        ops::RopeAngles(static_cast<int32_t>(position_ + row), frequencies, rope.dims,
                        rope.attention_factor, table + uint64_t{row} * rope.dims);
      }
    });
  }
}

Status Executor::RunChunk(const int32_t* tokens, uint32_t count, uint32_t position) {
  tokens_ = tokens;
  count_ = rows_ = count;
  position_ = position;
  tail_ = false;
  b_.store->BeginAppend(position, count);  // works in the scratch that ropes lie in
  FillRopes();
  return RunSteps(0, b_.lowered->tail_begin);
}

Status Executor::RunTail(uint32_t row) {
  tail_ = true;
  rows_ = 1;
  row_ = row;
  return RunSteps(b_.lowered->tail_begin, steps_.size());
}

const float* Executor::logits() const { return BufferData(b_.lowered->logits); }

Status Executor::RunSteps(size_t begin, size_t end) {
  converted_ = nullptr;
  for (size_t i = begin; i < end; ++i) {
    // Once the logits are being written they are finished: half of them would serve nobody.
    // A state that one token has been put into cannot be cut back.
    const bool late = i > logits_step_ || (!b_.states->empty() && count_ == 1 && i != 0);
    if (!late && b_.cancel->load(std::memory_order_relaxed)) {
      return Status::Make(StatusCode::kCancelled, "cancelled at step %zu of %zu", i, end);
    }
    const BoundStep& step = steps_[i];
    HR_RETURN_IF_ERROR((this->*step.run)(step));
    if (step.step->dense == kNone) converted_ = nullptr;
  }
  return {};
}

// Before the pages of more rows than planned could be in use.
void Executor::ReleaseTable(const BoundStep& step, uint32_t rows) {
  if (!step.release) return;
  if (step.looked_up + rows > plan::kEmbeddingReleaseRows) {
    const TensorView& table = b_.model->tensors[step.table];
    platform::Advise(table.data, table.data_bytes, platform::Advice::kRelease);
    platform::Advise(table.scales, table.scale_bytes, platform::Advice::kRelease);
    step.looked_up = 0;
  }
  step.looked_up += rows;
}

Status Executor::RunEmbed(const BoundStep& step) {
  const TensorView& table = b_.model->tensors[step.table];
  const uint32_t most = step.release ? plan::kEmbeddingReleaseRows : rows_;
  for (uint32_t first = 0; first < rows_; first += most) {
    const uint32_t count = std::min(most, rows_ - first);
    ReleaseTable(step, count);
    ForRows(count, step.width, [&](uint32_t begin, uint32_t end) {
      for (uint32_t row = first + begin; row < first + end; ++row) {
        const uint32_t at = tail_ ? row_ : row;  // in the chunk
        const uint32_t id = step.by_position ? position_ + at : static_cast<uint32_t>(tokens_[at]);
        ops::EmbeddingRow(table, id, step.factor, step.output + uint64_t{row} * step.width);
      }
    });
  }
  return {};
}

Status Executor::RunNorm(const BoundStep& step) {
  const float* x = Input(step, 0);
  const uint32_t stride = step.input_widths[0];
  const uint32_t part = step.width / step.groups;
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    for (uint32_t group = 0; group < step.groups; ++group) {
      const uint32_t column = group * part, of_weight = step.shared ? 0 : column;
      const float* bias = step.norm_bias == nullptr ? nullptr : step.norm_bias + of_weight;
      step.norm(x + uint64_t{begin} * stride + column, stride,
                step.output + uint64_t{begin} * step.width + column, step.width, end - begin, part,
                step.norm_weight + of_weight, bias, step.epsilon);
    }
  });
  return {};
}

const std::byte* Executor::Converted(const BoundStep& step, xnnpack::InputKind kind) {
  const float* x = Input(step, 0);
  if (kind == xnnpack::InputKind::kF32) return reinterpret_cast<const std::byte*>(x);
  // Layers that read the same rows one after another share one conversion.
  if (converted_ != x || converted_kind_ != kind) {
    b_.dense->ConvertInput(kind, x, rows_, step.input_widths[0], input_scratch_, *b_.pool);
    converted_ = x;
    converted_kind_ = kind;
  }
  return input_scratch_;
}

void Executor::Observe(size_t layer, const float* x, uint32_t rows, uint32_t columns) const {
  if (b_.observer->call == nullptr) return;
  const std::string_view name = b_.model->tensors[b_.lowered->dense[layer].tensor].name;
  b_.observer->call(b_.observer->user_data, name.data(), name.size(), x, rows, columns);
}

Status Executor::RunDense(const BoundStep& step) {
  const size_t layer = static_cast<size_t>(step.step->dense);
  Observe(layer, Input(step, 0), rows_, step.input_widths[0]);
  const std::byte* input = Converted(step, b_.dense->input_kind(layer));
  // The output may take the place of an older input that was converted.
  if (step.output == converted_) converted_ = nullptr;
  return b_.dense->Run(layer, input, rows_, step.output, *b_.pool);
}

Status Executor::RunActivation(const BoundStep& step) {
  const float* x = Input(step, 0);
  const uint32_t stride = step.input_widths[0];
  ForRows(rows_, stride, [&](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) {
      const float* gate = x + uint64_t{row} * stride;
      step.activation(gate, step.gated ? gate + step.width : nullptr,
                      step.output + uint64_t{row} * step.width, step.width);
    }
  });
  return {};
}

Status Executor::RunAdd(const BoundStep& step) {
  const float* a = Input(step, 0);
  const float* b = Input(step, 1);
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    const uint64_t offset = uint64_t{begin} * step.width;
    b_.kernels->pointwise.add(a + offset, b + offset, step.output + offset,
                              size_t{end - begin} * step.width);
  });
  return {};
}

Status Executor::RunMultiply(const BoundStep& step) {
  const float* x = Input(step, 0);
  const float* factors = Input(step, 1);
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    if (step.input_widths[1] == step.width) {
      const uint64_t offset = uint64_t{begin} * step.width;
      return b_.kernels->pointwise.multiply(x + offset, factors + offset, step.output + offset,
                                            (end - begin) * step.width);
    }
    for (uint32_t row = begin; row < end; ++row) {
      const uint64_t offset = uint64_t{row} * step.width;
      step.unary(x + offset, factors[row], step.output + offset, step.width);
    }
  });
  return {};
}

Status Executor::RunUnary(const BoundStep& step) {
  const float* x = Input(step, 0);
  ForRows(rows_, step.width, [&](uint32_t begin, uint32_t end) {
    const uint64_t offset = uint64_t{begin} * step.width;
    step.unary(x + offset, step.factor, step.output + offset, size_t{end - begin} * step.width);
  });
  return {};
}

}  // namespace headroom::session
