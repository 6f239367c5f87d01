// A mix step that makes keys and values of a latent: a task is one head and some hundred queries,
// which meet a tile of cached rows after the other. See plan/expand.h.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "session/executor_attention.h"

namespace headroom::session {

struct Executor::ExpandTasks {
  Executor* self;
  const MixTasks* mix;
  const plan::Step* step;
  uint32_t blocks;  // of queries, for each head
  bool same_input;  // the two matrices take the same converted rows
  std::atomic<bool> failed;
};

// One task: a head, queries [begin, end) of the step's rows, and its worker's scratch.
struct Executor::ExpandedHead {
  const ExpandTasks* tasks;
  uint32_t view, slot, begin, end;
  std::byte* base;

  const MixTasks& mix() const { return *tasks->mix; }
  const plan::ExpandScratch& scratch() const { return mix().layer->expand; }
  float* floats(const plan::Region& region) const {
    return reinterpret_cast<float*>(base + region.offset);
  }
  uint16_t head() const { return mix().layer->view_heads[slot]; }
  uint32_t value_width() const { return mix().layer->spec->value_matrix.rows; }
};

namespace {

// Rows [begin, begin + count) of another's elements: what a tile keeps of its lane.
LaneView TileOf(const LaneView& rows, uint32_t begin, uint32_t count) {
  LaneView tile;
  tile.rows = count;
  tile.first_position = rows.first_position + static_cast<int32_t>(begin);
  tile.positions = rows.positions == nullptr ? nullptr : rows.positions + begin;
  tile.bias = rows.bias == nullptr ? nullptr : rows.bias + begin;
  return tile;
}

// Adds a record to another of the same query; see attention/softmax_mix.h.
void AddRecord(const float* from, uint32_t width, float* to) {
  const float maximum = std::max(from[0], to[0]);
  if (from[1] == 0.0f) return;  // it saw nothing
  const float old = std::exp(to[0] - maximum), more = std::exp(from[0] - maximum);
  to[0] = maximum;
  to[1] = to[1] * old + from[1] * more;
  for (uint32_t d = 2; d < 2 + width; ++d) to[d] = to[d] * old + from[d] * more;
}

}  // namespace

// Keys [rows, dn + dr] and values [rows, dv] of one head.
Status Executor::MakeKeysAndValues(const ExpandedHead& head, const LaneView& rows, uint32_t begin,
                                   uint32_t count) {
  const plan::ExpandScratch& at = head.scratch();
  const ExpandTasks& tasks = *head.tasks;
  const model::AttentionSpec& spec = *head.mix().layer->spec;
  const uint32_t rank = spec.key.width, part = spec.query_part(), width = spec.query.width;
  float *latents = head.floats(at.latents), *made = head.floats(at.made);
  float *keys = head.floats(at.keys), *values = head.floats(at.values);
  std::byte* room = head.base + at.kernel.offset;
  b_.kernels->decode_rows(rows.keys, begin, count, latents, rank, room);
  if (LaneOf(head.mix(), head.view).rotated) b_.kernels->hadamard(latents, count, rank, rank);
  const auto run = [&](int32_t layer, const model::HeadMatrix& matrix, bool convert, float* out) {
    const xnnpack::InputKind kind = b_.dense->input_kind(static_cast<size_t>(layer));
    const bool plain = kind == xnnpack::InputKind::kF32;
    std::byte* converted = head.base + at.converted.offset;
    if (convert && !plain) {
      b_.dense->ConvertInput(kind, latents, count, rank, converted, *b_.serial);
    }
    return b_.dense->RunPart(
        static_cast<size_t>(layer), head.head() / (spec.query_heads / matrix.blocks),
        plain ? reinterpret_cast<std::byte*>(latents) : converted, count, out, *b_.serial);
  };
  HR_RETURN_IF_ERROR(run(tasks.step->expand_key, spec.key_matrix, true, made));
  for (uint32_t r = 0; r < count; ++r) {
    std::memcpy(keys + uint64_t{r} * width, made + uint64_t{r} * part, part * sizeof(float));
  }
  if (spec.tail.width > 0) {
    b_.kernels->decode_rows(rows.key_tail, begin, count, keys + part, width, room);
  }
  return run(tasks.step->expand_value, spec.value_matrix, !tasks.same_input, values);
}

// All queries of the task that may see something of a tile.
void Executor::MeetTile(const ExpandedHead& head, const LaneView& tile, bool relative) {
  const MixTasks& mix = head.mix();
  const BoundAttention& layer = *mix.layer;
  const plan::ExpandScratch& at = head.scratch();
  const uint32_t record = attention::PartialFloats(head.value_width());
  const QueryScratch scratch{
      head.floats(at.query), reinterpret_cast<int32_t*>(head.base + at.positions.offset),
      head.floats(at.angles), head.floats(at.angles) + at.angles.bytes / 2 / sizeof(float)};
  const attention::MixSpec spec = MixOf(mix, head.view);
  for (uint32_t begin = head.begin; begin < head.end; begin += attention::kMixPanelQueries) {
    const uint32_t end = std::min(begin + attention::kMixPanelQueries, head.end);
    // Rows in order lie behind all of these queries, or not all of them.
    const auto last = static_cast<int32_t>(mix.position + end - 1);
    if (tile.positions == nullptr && tile.first_position > last) continue;
    GatherQueries(mix, {head.view, head.slot, head.slot + 1, begin, end, relative, true}, scratch);
    b_.kernels->mix(tile, spec, scratch.query, layer.spec->query.width, scratch.positions,
                    end - begin, 0, tile.rows, head.floats(at.partials),
                    head.base + at.kernel.offset);
    for (uint32_t i = 0; i < end - begin; ++i) {
      AddRecord(head.floats(at.partials) + uint64_t{i} * record, head.value_width(),
                head.floats(at.records) + uint64_t{begin + i - head.begin} * record);
    }
  }
}

Status Executor::ExpandHead(const ExpandTasks& tasks, std::byte* worker, uint32_t task) {
  const MixTasks& mix = *tasks.mix;
  const BoundAttention& layer = *mix.layer;
  ExpandedHead head{&tasks, 0, task / tasks.blocks, 0, 0, worker};
  while (layer.view_begin[head.view + 1] <= head.slot) ++head.view;
  head.begin = task % tasks.blocks * plan::kExpandQueries;
  head.end = std::min(head.begin + plan::kExpandQueries, mix.rows);
  const uint32_t width = head.value_width(), record = attention::PartialFloats(width);
  float* records = head.floats(head.scratch().records);
  std::fill(records, records + uint64_t{head.end - head.begin} * record, 0.0f);
  for (uint32_t i = 0; i < head.end - head.begin; ++i) records[uint64_t{i} * record] = kNoSink;
  MixPart parts[store::kMostSegments];
  const uint32_t count = PartsOf(mix, head.view, mix.position + head.end, parts);
  const attention::MixSpec spec = MixOf(mix, head.view);
  for (uint32_t i = 0; i < count; ++i) {
    const LaneView& rows = parts[i].rows;
    uint32_t begin = FirstRowOf(parts[i], spec, mix.position + head.begin);
    for (uint32_t n = 0; begin < rows.rows; begin += n) {
      n = std::min(plan::kExpandRows, rows.rows - begin);
      HR_RETURN_IF_ERROR(MakeKeysAndValues(head, rows, begin, n));
      LaneView tile = TileOf(rows, begin, n);
      tile.keys = {RowCodec::kF32, layer.spec->query.width, worker + head.scratch().keys.offset};
      tile.values = {RowCodec::kF32, width, worker + head.scratch().values.offset};
      MeetTile(head, tile, parts[i].relative);
    }
  }
  const float sink = layer.sink_logits == nullptr ? kNoSink : layer.sink_logits[head.head()];
  for (uint32_t i = 0; i < head.end - head.begin; ++i) {
    b_.kernels->merge(
        records + uint64_t{i} * record, record, 1, width, sink,
        mix.output + (uint64_t{head.begin + i} * layer.spec->query_heads + head.head()) * width);
  }
  return {};
}

// What is about to meet the matrices: of the rows cached before, that has been shown.
void Executor::ObserveExpanded(const ExpandTasks& tasks) const {
  const BoundRows& latents = tasks.mix->layer->streams[0];
  if (b_.observer->call == nullptr || latents.data == nullptr) return;
  for (const int32_t layer : {tasks.step->expand_key, tasks.step->expand_value}) {
    for (uint32_t row = 0; row < rows_; ++row) {
      Observe(static_cast<size_t>(layer), latents.row(row), 1, latents.width);
    }
  }
}

Status Executor::RunExpanded(const BoundStep& step, MixTasks* mix) {
  mix->output = BufferData(step.step->expanded_output);
  const auto kind = [&](int32_t layer) { return b_.dense->input_kind(static_cast<size_t>(layer)); };
  ExpandTasks tasks{this,
                    mix,
                    step.step,
                    static_cast<uint32_t>(CeilDiv(rows_, plan::kExpandQueries)),
                    kind(step.step->expand_key) == kind(step.step->expand_value),
                    false};
  ObserveExpanded(tasks);
  b_.pool->ParallelForWorker(
      mix->layer->spec->query_heads * tasks.blocks,
      [](void* context, size_t worker, size_t index) {
        auto& tasks = *static_cast<ExpandTasks*>(context);
        Executor& self = *tasks.self;
        const Status status =
            self.ExpandHead(tasks, self.WorkerScratchAt(worker), static_cast<uint32_t>(index));
        if (!status.ok()) tasks.failed = true;
      },
      &tasks);
  if (tasks.failed) return Status::Make(StatusCode::kInternal, "a latent could not be expanded");
  return {};
}

}  // namespace headroom::session
