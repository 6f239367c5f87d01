// The experts step of the executor: choose, then run each chosen expert over the rows that chose
// it.
//
// Contributions are added to a row in order of the experts, whatever runs when and on which thread.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/math.h"
#include "session/executor.h"

namespace headroom::session {

using model::kNone;

namespace {

ops::ExpertScore ToOps(model::ExpertScore score) { return static_cast<ops::ExpertScore>(score); }
static_assert(static_cast<int>(ops::ExpertScore::kSigmoid) ==
              static_cast<int>(model::ExpertScore::kSigmoid));
static_assert(static_cast<int>(ops::Activation::kSigmoid) ==
              static_cast<int>(model::Activation::kSigmoid));

}  // namespace

// One step's rows and scratch.
struct Executor::ExpertRun {
  const BoundExperts* experts;
  const std::byte* input;  // converted
  uint32_t rows;
  float* output;  // [rows, C]
  // The scratch, cut up.
  ops::Choice* choices;
  uint32_t *order, *begin, *tokens;
  std::byte *gathered, *inner_input;
  uint64_t inner_input_stride;
  float *gate_up, *inner, *down;
  uint32_t capacity;  // rows of gate_up, inner and down
};

size_t Executor::BindExperts(const plan::Step& step) {
  const model::MixtureSpec& spec = b_.model->mixtures[b_.model->ops[step.op].mixture];
  BoundExperts bound;
  bound.spec = &spec;
  bound.router = {spec.experts,
                  spec.chosen,
                  ToOps(spec.score),
                  spec.renormalise,
                  spec.scale,
                  spec.choice_bias == kNone ? nullptr : b_.model->tensors[spec.choice_bias].f32(),
                  spec.groups,
                  spec.top_groups,
                  spec.group_best};
  bound.activation = b_.kernels->pointwise.activation[static_cast<int>(spec.activation)];
  bound.chunk = plan::ExpertScratchOf(*b_.model, *b_.lowered, step, *b_.facts, b_.plan->chunk);
  bound.token = plan::ExpertScratchOf(*b_.model, *b_.lowered, step, *b_.facts, 1);
  bound.gate_up = static_cast<size_t>(step.dense);
  bound.down = static_cast<size_t>(step.down);
  bound.gate_up_kind = b_.dense->input_kind(bound.gate_up);
  bound.down_kind = b_.dense->input_kind(bound.down);
  bound.channels = b_.lowered->buffers[step.output].width;
  experts_.push_back(bound);
  return experts_.size() - 1;
}

Status Executor::RunExperts(const BoundStep& step) {
  const BoundExperts& experts = experts_[step.experts];
  const plan::ExpertScratch& scratch = rows_ == 1 ? experts.token : experts.chunk;
  std::byte* base = b_.arena + b_.plan->expert_region.offset;
  auto at = [base]<typename T>(const plan::Region& region, T** out) {
    *out = reinterpret_cast<T*>(base + region.offset);
  };
  ExpertRun run = {};
  run.experts = &experts;
  run.rows = rows_;
  run.output = step.output;
  at(scratch.choice, &run.choices);
  at(scratch.order, &run.order);
  at(scratch.begin, &run.begin);
  at(scratch.tokens, &run.tokens);
  at(scratch.gathered, &run.gathered);
  at(scratch.inner_input, &run.inner_input);
  at(scratch.gate_up, &run.gate_up);
  at(scratch.inner, &run.inner);
  at(scratch.output, &run.down);
  run.inner_input_stride = scratch.inner_input_stride;
  run.capacity = scratch.rows;
  ChooseExperts(run, const_cast<float*>(Input(step, 1)));
  Observe(experts.gate_up, Input(step, 0), rows_, experts.channels);
  run.input = Converted(step, experts.gate_up_kind);
  std::fill_n(step.output, uint64_t{rows_} * experts.channels, 0.0f);
  return rows_ == 1 ? RunExpertsSideBySide(run) : RunExpertsByTurns(run);
}

void Executor::ChooseExperts(const ExpertRun& run, float* scores) {
  const ops::RouterSpec& router = run.experts->router;
  ForRows(run.rows, router.experts * 16, [&](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) {
      ops::Route(router, scores + uint64_t{row} * router.experts,
                 run.choices + uint64_t{row} * router.chosen);
    }
  });
}

// gate_up [rows, 2F] -> inner [rows, F]
void Executor::ActivateExpert(const BoundExperts& experts, float* gate_up, float* inner,
                              uint32_t rows) {
  const model::MixtureSpec& spec = *experts.spec;
  const uint32_t width = spec.inner;
  for (uint32_t row = 0; row < rows; ++row) {
    float* gate = gate_up + uint64_t{row} * 2 * width;
    ops::LimitGate(gate, gate + width, width, spec.limit, spec.up_offset);
    experts.activation(gate, gate + width, inner + uint64_t{row} * width, width);
  }
}

// ---- One token: its experts are tasks of their own, so that threads meet once a step.

Status Executor::RunChosenExpert(const ExpertRun& run, uint32_t slot, xnnpack::ThreadPool& pool) {
  const BoundExperts& experts = *run.experts;
  const uint32_t expert = run.choices[slot].expert, width = experts.spec->inner;
  float* gate_up = run.gate_up + uint64_t{slot} * 2 * width;
  float* inner = run.inner + uint64_t{slot} * width;
  HR_RETURN_IF_ERROR(b_.dense->RunPart(experts.gate_up, expert, run.input, 1, gate_up, pool));
  ActivateExpert(experts, gate_up, inner, 1);
  const auto* input = reinterpret_cast<const std::byte*>(inner);
  if (experts.down_kind != xnnpack::InputKind::kF32) {
    std::byte* converted = run.inner_input + slot * run.inner_input_stride;
    b_.dense->ConvertInput(experts.down_kind, inner, 1, width, converted, pool);
    input = converted;
  }
  return b_.dense->RunPart(experts.down, expert, input, 1,
                           run.down + uint64_t{slot} * experts.channels, pool);
}

Status Executor::RunExpertsSideBySide(const ExpertRun& run) {
  const BoundExperts& experts = *run.experts;
  const uint32_t chosen = experts.spec->chosen, threads = b_.pool->threads();
  // Threads left without an expert of their own are worth more than the meetings saved.
  const bool balanced = chosen * 5 >= RoundUp(chosen, threads) * 4;
  if (threads == 1 || !balanced) {
    for (uint32_t slot = 0; slot < chosen; ++slot) {
      HR_RETURN_IF_ERROR(RunChosenExpert(run, slot, *b_.pool));
    }
  } else {
    HR_RETURN_IF_ERROR(ForTasks(
        chosen, xnnpack::ThreadPool::kWorthSharing,
        [&](std::byte*, uint32_t slot) { return RunChosenExpert(run, slot, *b_.serial); }));
  }
  Observe(experts.down, run.inner, chosen, experts.spec->inner);
  for (uint32_t slot = 0; slot < chosen; ++slot) {
    ops::AddScaled(run.down + uint64_t{slot} * experts.channels, run.choices[slot].weight,
                   run.output, experts.channels);
  }
  return {};
}

// ---- Many tokens: one expert after the other, its rows together, all threads on each.

Status Executor::RunExpertsByTurns(const ExpertRun& run) {
  const model::MixtureSpec& spec = *run.experts->spec;
  ops::SortByExpert(run.choices, run.rows * spec.chosen, spec.experts, run.begin, run.order);
  for (uint32_t expert = 0; expert < spec.experts; ++expert) {
    const uint32_t end = run.begin[expert + 1];
    for (uint32_t begin = run.begin[expert]; begin < end; begin += run.capacity) {
      HR_RETURN_IF_ERROR(RunExpertRows(run, expert, begin, std::min(run.capacity, end - begin)));
    }
  }
  return {};
}

// `count` choices of `expert` from run.order[begin] on.
Status Executor::RunExpertRows(const ExpertRun& run, uint32_t expert, uint32_t begin,
                               uint32_t count) {
  const BoundExperts& experts = *run.experts;
  const uint32_t chosen = experts.spec->chosen, width = experts.spec->inner;
  for (uint32_t i = 0; i < count; ++i) run.tokens[i] = run.order[begin + i] / chosen;
  xnnpack::DenseSet::GatherInput(experts.gate_up_kind, run.input, run.rows, experts.channels,
                                 run.tokens, count, run.gathered);
  HR_RETURN_IF_ERROR(
      b_.dense->RunPart(experts.gate_up, expert, run.gathered, count, run.gate_up, *b_.pool));
  ForRows(count, 2 * width, [&](uint32_t first, uint32_t last) {
    ActivateExpert(experts, run.gate_up + uint64_t{first} * 2 * width,
                   run.inner + uint64_t{first} * width, last - first);
  });
  Observe(experts.down, run.inner, count, width);
  const auto* input = reinterpret_cast<const std::byte*>(run.inner);
  if (experts.down_kind != xnnpack::InputKind::kF32) {
    b_.dense->ConvertInput(experts.down_kind, run.inner, count, width, run.inner_input, *b_.pool);
    input = run.inner_input;
  }
  HR_RETURN_IF_ERROR(b_.dense->RunPart(experts.down, expert, input, count, run.down, *b_.pool));
  // A token is here once only, so rows of the output are not shared between threads.
  ForRows(count, experts.channels, [&](uint32_t first, uint32_t last) {
    for (uint32_t i = first; i < last; ++i) {
      ops::AddScaled(run.down + uint64_t{i} * experts.channels,
                     run.choices[run.order[begin + i]].weight,
                     run.output + uint64_t{run.tokens[i]} * experts.channels, experts.channels);
    }
  });
  return {};
}

}  // namespace headroom::session
