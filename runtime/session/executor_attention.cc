// The two attention steps of the executor: append rows to the lanes, and mix the lanes into
// outputs.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/math.h"
#include "session/executor.h"

namespace headroom::session {

using model::kNone;

namespace {

constexpr float kNoSink = -std::numeric_limits<float>::infinity();

// Norm and rotation of the `heads` vectors [heads, width] of one token in place.
void NormAndRotate(const xnnpack::Kernels& kernels, const model::Model& model,
                   const model::NormSpec& norm, const model::RopeSpec& rope, const float* angles,
                   uint32_t heads, uint32_t width, float* x) {
  if (norm.present()) {
    const auto kernel = norm.kind == model::NormKind::kRms ? kernels.pointwise.rms_norm
                                                           : kernels.pointwise.layer_norm;
    const float* bias = norm.bias != kNone ? model.tensors[norm.bias].f32() : nullptr;
    const uint32_t rows = norm.whole_row ? 1 : heads;
    const uint32_t columns = norm.whole_row ? heads * width : width;
    kernel(x, columns, x, columns, rows, columns, model.tensors[norm.weight].f32(), bias,
           norm.epsilon);
  }
  if (rope.dims == 0) return;
  const auto layout = rope.layout == model::RopeLayout::kHalfSplit ? ops::RopeLayout::kHalfSplit
                                                                   : ops::RopeLayout::kInterleaved;
  for (uint32_t head = 0; head < heads; ++head) {
    kernels.pointwise.rope(x + head * width + rope.offset, rope.dims, layout, angles);
  }
}

}  // namespace

void Executor::AppendRow(const BoundAttention& layer, size_t index, uint32_t row) {
  const model::AttentionSpec& spec = *layer.spec;
  const float* angles =
      layer.rope == nullptr ? nullptr : layer.rope + uint64_t{row} * spec.rope.dims;
  const auto encode = b_.kernels->encode_row[static_cast<int>(b_.store->layer(index).codec)];
  float* query = layer.query + uint64_t{row} * layer.query_stride;
  NormAndRotate(*b_.kernels, *b_.model, spec.query_norm, spec.rope, angles, spec.query_heads,
                spec.key_width, query);
  float* key = layer.key + uint64_t{row} * layer.key_stride;
  NormAndRotate(*b_.kernels, *b_.model, spec.key_norm, spec.rope, angles, spec.kv_heads,
                spec.key_width, key);
  const float* value = layer.value + uint64_t{row} * layer.value_stride;
  for (uint32_t lane = 0; lane < spec.kv_heads; ++lane) {
    const float* k = key + lane * spec.key_width;
    const store::RowPlace place = b_.store->Place(index, lane, position_ + row);
    encode(k, spec.key_width, place.key, place.key_meta);
    encode(value + lane * spec.value_width, spec.value_width, place.value, place.value_meta);
  }
}

Status Executor::RunAppend(const BoundStep& step) {
  const size_t index = static_cast<size_t>(step.step->attention);
  const BoundAttention& layer = attentions_[index];
  ForRows(rows_, layer.query_stride, [&](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) AppendRow(layer, index, row);
  });
  return {};
}

// One mix step: how it is cut, and where its results go.
struct Executor::MixTasks {
  Executor* self = nullptr;
  void (Executor::*task)(const MixTasks&, std::byte*, size_t) = nullptr;
  const BoundAttention* layer = nullptr;
  size_t index = 0;
  attention::MixKernel kernel = nullptr;
  const float* query = nullptr;  // row 0 of this step
  float* output = nullptr;       // [rows, H * Dv]
  uint32_t position = 0;         // of row 0
  uint32_t rows = 0;
  uint32_t tile_tokens = 0;  // prefill
  uint32_t tiles = 0;
  uint32_t row_begin = 0;  // decode: first row of the lane worth reading
  uint32_t splits = 0;
  float* partials = nullptr;

  uint32_t record_floats() const { return attention::PartialFloats(layer->spec->value_width); }
  uint32_t output_width() const { return layer->spec->query_heads * layer->spec->value_width; }
};

namespace {

// A worker's scratch, cut up.
struct WorkerScratch {
  WorkerScratch(std::byte* base, uint32_t queries, uint32_t key_width, uint32_t record_floats) {
    auto take = [&base](uint64_t bytes) {
      std::byte* piece = base;
      base += RoundUp(bytes, 64);
      return piece;
    };
    query = reinterpret_cast<float*>(take(uint64_t{queries} * key_width * sizeof(float)));
    positions = reinterpret_cast<int32_t*>(take(queries * sizeof(int32_t)));
    partials = reinterpret_cast<float*>(take(uint64_t{queries} * record_floats * sizeof(float)));
    kernel = base;
  }
  float* query;
  int32_t* positions;
  float* partials;
  std::byte* kernel;
};

// Lane rows that positions [first, last] may see, where rows lie in order of position.
uint32_t FirstVisibleRow(const attention::MixSpec& mix, uint32_t first) {
  return mix.left == kUnlimited || mix.sinks != 0 || first < mix.left ? 0 : first - mix.left;
}

}  // namespace

// Prefill: one lane, a tile of tokens with all query heads of the lane.
void Executor::MixTile(const MixTasks& tasks, std::byte* worker, size_t task) {
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint32_t lane = static_cast<uint32_t>(task / tasks.tiles);
  const uint32_t tile = static_cast<uint32_t>(task % tasks.tiles);
  const uint32_t begin = tile * tasks.tile_tokens;
  const uint32_t end = std::min(begin + tasks.tile_tokens, tasks.rows);
  const uint32_t group = layer.lane_begin[lane + 1] - layer.lane_begin[lane];
  const uint32_t queries = group * (end - begin);
  if (queries == 0) return;
  const uint16_t* heads = layer.lane_heads.data() + layer.lane_begin[lane];
  const uint32_t record = tasks.record_floats();
  const WorkerScratch scratch(worker, queries, spec.key_width, record);
  for (uint32_t i = 0; i < queries; ++i) {
    const uint32_t row = begin + i / group;
    std::memcpy(
        scratch.query + uint64_t{i} * spec.key_width,
        tasks.query + uint64_t{row} * layer.query_stride + heads[i % group] * spec.key_width,
        spec.key_width * sizeof(float));
    scratch.positions[i] = static_cast<int32_t>(tasks.position + row);
  }
  const LaneView view = b_.store->View(tasks.index, lane, tasks.position + end);
  const uint32_t row_begin =
      view.positions == nullptr ? FirstVisibleRow(layer.mix, tasks.position + begin) : 0;
  tasks.kernel(view, layer.mix, scratch.query, spec.key_width, scratch.positions, queries,
               row_begin, view.rows, scratch.partials, scratch.kernel);
  for (uint32_t i = 0; i < queries; ++i) {
    const uint16_t head = heads[i % group];
    const float sink = layer.sink_logits == nullptr ? kNoSink : layer.sink_logits[head];
    b_.kernels->merge(scratch.partials + uint64_t{i} * record, 0, 1, spec.value_width, sink,
                      tasks.output + uint64_t{begin + i / group} * tasks.output_width() +
                          head * spec.value_width);
  }
}

// Decode: one lane, one split of its rows, all query heads of the lane.
void Executor::MixSplit(const MixTasks& tasks, std::byte* worker, size_t task) {
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint32_t lane = static_cast<uint32_t>(task / tasks.splits);
  const uint32_t split = static_cast<uint32_t>(task % tasks.splits);
  const uint32_t first = layer.lane_begin[lane];
  const uint32_t queries = layer.lane_begin[lane + 1] - first;
  if (queries == 0) return;
  const uint32_t record = tasks.record_floats();
  const WorkerScratch scratch(worker, queries, spec.key_width, record);
  for (uint32_t i = 0; i < queries; ++i) {
    std::memcpy(scratch.query + uint64_t{i} * spec.key_width,
                tasks.query + layer.lane_heads[first + i] * spec.key_width,
                spec.key_width * sizeof(float));
    scratch.positions[i] = static_cast<int32_t>(tasks.position);
  }
  const LaneView view = b_.store->View(tasks.index, lane, tasks.position + 1);
  const uint32_t row_begin = tasks.row_begin + split * plan::kSplitRows;
  const uint32_t row_end = std::min(row_begin + plan::kSplitRows, view.rows);
  float* partials = tasks.partials + (uint64_t{split} * spec.query_heads + first) * record;
  tasks.kernel(view, layer.mix, scratch.query, spec.key_width, scratch.positions, queries,
               std::min(row_begin, row_end), row_end, partials, scratch.kernel);
}

void Executor::MergeSplits(const MixTasks& tasks) {
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint64_t record = tasks.record_floats();
  for (uint32_t slot = 0; slot < spec.query_heads; ++slot) {
    const uint16_t head = layer.lane_heads[slot];
    const float sink = layer.sink_logits == nullptr ? kNoSink : layer.sink_logits[head];
    b_.kernels->merge(tasks.partials + slot * record, spec.query_heads * record, tasks.splits,
                      spec.value_width, sink, tasks.output + head * spec.value_width);
  }
}

// Runs `count` tasks, on all threads when that is worth waking them. `row_visits`: how many cached
// rows a query head reads in all of them.
void Executor::RunMixTasks(MixTasks* tasks, uint32_t count, uint64_t row_visits,
                           void (Executor::*task)(const MixTasks&, std::byte*, size_t)) {
  const auto& spec = *tasks->layer->spec;
  const uint64_t operations = row_visits * spec.query_heads * (spec.key_width + spec.value_width);
  if (b_.pool->HandleFor(operations) == nullptr) {
    for (uint32_t i = 0; i < count; ++i) (this->*task)(*tasks, WorkerScratchAt(0), i);
    return;
  }
  tasks->task = task;
  b_.pool->ParallelForWorker(
      count,
      [](void* context, size_t worker, size_t index) {
        const MixTasks& tasks = *static_cast<const MixTasks*>(context);
        (tasks.self->*tasks.task)(tasks, tasks.self->WorkerScratchAt(worker), index);
      },
      tasks);
}

Status Executor::RunMix(const BoundStep& step) {
  MixTasks tasks;
  tasks.self = this;
  tasks.index = static_cast<size_t>(step.step->attention);
  tasks.layer = &attentions_[tasks.index];
  const BoundAttention& layer = *tasks.layer;
  tasks.kernel = b_.kernels->mix;
  tasks.rows = rows_;
  tasks.query = layer.query + (tail_ ? uint64_t{row_} * layer.query_stride : 0);
  tasks.position = position_ + (tail_ ? row_ : 0);
  tasks.output = step.output;
  const uint32_t lanes = layer.spec->kv_heads;
  if (rows_ > 1) {
    tasks.tile_tokens = std::max(1u, plan::kTileQueries / layer.largest_group);
    tasks.tiles = static_cast<uint32_t>(CeilDiv(rows_, tasks.tile_tokens));
    RunMixTasks(&tasks, lanes * tasks.tiles, uint64_t{rows_} * (tasks.position + rows_),
                &Executor::MixTile);
    return {};
  }
  const LaneView view = b_.store->View(tasks.index, 0, tasks.position + 1);
  if (view.positions == nullptr) tasks.row_begin = FirstVisibleRow(layer.mix, tasks.position);
  tasks.splits = static_cast<uint32_t>(CeilDiv(view.rows - tasks.row_begin, plan::kSplitRows));
  tasks.partials = reinterpret_cast<float*>(b_.arena + b_.plan->partial_region.offset);
  RunMixTasks(&tasks, lanes * tasks.splits, view.rows - tasks.row_begin, &Executor::MixSplit);
  MergeSplits(tasks);
  return {};
}

}  // namespace headroom::session
