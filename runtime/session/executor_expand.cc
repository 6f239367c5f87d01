// A mix step that makes keys and values of a latent: a task is one head and some hundred queries,
// which meet a tile of cached rows after the other. See plan/expand.h.
#include <algorithm>
#include <cstring>

#include "session/executor_attention.h"

namespace headroom::session {

// One task: a head, queries [begin, end) of the step's rows, and its worker's scratch.
struct Executor::ExpandedHead {
  const plan::Step& step;
  const MixTasks& mix;
  uint32_t view, slot, begin, end;
  std::byte* base;

  const plan::ExpandScratch& scratch() const { return mix.layer->expand; }
  float* floats(const plan::Region& region) const {
    return reinterpret_cast<float*>(base + region.offset);
  }
  uint16_t head() const { return mix.layer->view_heads[slot]; }
  uint32_t value_width() const { return mix.layer->spec->value_matrix.rows; }
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

}  // namespace

// The scratch's latents times the head's block of a dense layer.
Status Executor::RunExpansion(const ExpandedHead& head, int32_t layer, uint32_t rows, float* out) {
  const auto index = static_cast<size_t>(layer);
  const uint32_t group = head.mix.layer->spec->query_heads / b_.lowered->dense[index].parts;
  const float* latents = head.floats(head.scratch().latents);
  const auto* input = reinterpret_cast<const std::byte*>(latents);
  const xnnpack::InputKind kind = b_.dense->input_kind(index);
  if (kind != xnnpack::InputKind::kF32) {
    std::byte* converted = head.base + head.scratch().converted.offset;
    b_.dense->ConvertInput(kind, latents, rows, head.mix.layer->spec->key.width, converted,
                           *b_.serial);
    input = converted;
  }
  return b_.dense->RunPart(index, head.head() / group, input, rows, out, *b_.serial);
}

// Keys [rows, dn + dr] and values [rows, dv] of one head.
Status Executor::MakeKeysAndValues(const ExpandedHead& head, const LaneView& rows, uint32_t begin,
                                   uint32_t count) {
  const plan::ExpandScratch& at = head.scratch();
  const model::AttentionSpec& spec = *head.mix.layer->spec;
  const uint32_t rank = spec.key.width, part = spec.query_part(), width = spec.query.width;
  float *latents = head.floats(at.latents), *made = head.floats(at.made);
  float* keys = head.floats(at.keys);
  std::byte* room = head.base + at.kernel.offset;
  b_.kernels->decode_rows(rows.keys, begin, count, latents, rank, room);
  if (LaneOf(head.mix, head.view).rotated) b_.kernels->hadamard(latents, count, rank, rank);
  HR_RETURN_IF_ERROR(RunExpansion(head, head.step.expand_key, count, made));
  for (uint32_t r = 0; r < count; ++r) {
    std::memcpy(keys + uint64_t{r} * width, made + uint64_t{r} * part, part * sizeof(float));
  }
  if (spec.tail.width > 0) {
    b_.kernels->decode_rows(rows.key_tail, begin, count, keys + part, width, room);
  }
  return RunExpansion(head, head.step.expand_value, count, head.floats(at.values));
}

// All queries of the task that may see something of a tile.
void Executor::MeetTile(const ExpandedHead& head, const LaneView& tile, bool relative) {
  const MixTasks& mix = head.mix;
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
      attention::AddPartial(head.floats(at.partials) + uint64_t{i} * record, head.value_width(),
                            head.floats(at.records) + uint64_t{begin + i - head.begin} * record);
    }
  }
}

Status Executor::ExpandHead(const plan::Step& step, const MixTasks& mix, std::byte* worker,
                            uint32_t task) {
  const BoundAttention& layer = *mix.layer;
  const auto blocks = static_cast<uint32_t>(CeilDiv(mix.rows, plan::kExpandQueries));
  ExpandedHead head{step, mix, 0, task / blocks, 0, 0, worker};
  while (layer.view_begin[head.view + 1] <= head.slot) ++head.view;
  head.begin = task % blocks * plan::kExpandQueries;
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
void Executor::ObserveExpanded(const plan::Step& step, const BoundAttention& layer) const {
  const BoundRows& latents = layer.streams[0];
  if (b_.observer->call == nullptr || latents.data == nullptr) return;
  for (const int32_t dense : {step.expand_key, step.expand_value}) {
    for (uint32_t row = 0; row < rows_; ++row) {
      Observe(static_cast<size_t>(dense), latents.row(row), 1, latents.width);
    }
  }
}

Status Executor::RunExpanded(const BoundStep& step, MixTasks* mix) {
  const model::AttentionSpec& spec = *mix->layer->spec;
  mix->output = BufferData(step.step->expanded_output);
  ObserveExpanded(*step.step, *mix->layer);
  const uint64_t visits = uint64_t{rows_} * (mix->position + rows_) * spec.query_heads;
  const auto blocks = static_cast<uint32_t>(CeilDiv(rows_, plan::kExpandQueries));
  return ForTasks(
      spec.query_heads * blocks, visits * (spec.query.width + spec.value_matrix.rows),
      [&](std::byte* worker, uint32_t task) { return ExpandHead(*step.step, *mix, worker, task); });
}

}  // namespace headroom::session
