// The two attention steps of the executor: append rows to the lanes, and mix the lanes into
// outputs.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>

#include "attention/row_scores.h"
#include "base/math.h"
#include "session/executor_attention.h"

namespace headroom::session {

using model::kNone;

namespace {

ops::RopeLayout LayoutOf(const model::RopeSpec& rope) {
  return rope.layout == model::RopeLayout::kHalfSplit ? ops::RopeLayout::kHalfSplit
                                                      : ops::RopeLayout::kInterleaved;
}

// Norm and rotation of the vectors [heads, width] of one token in place.
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
  for (uint32_t head = 0; head < heads; ++head) {
    kernels.pointwise.rope(x + head * width + rope.offset, rope.dims, LayoutOf(rope), angles);
  }
}

}  // namespace

float* Executor::PreparedRow(const BoundRows& rows, uint32_t row) const {
  float* x = rows.row(row);
  const float* angles =
      rows.angles == nullptr ? nullptr : rows.angles + uint64_t{row} * rows.rope->dims;
  NormAndRotate(*b_.kernels, *b_.model, *rows.norm, *rows.rope, angles, rows.heads, rows.width, x);
  for (uint32_t i = 0; rows.factors != nullptr && i < rows.heads * rows.width; ++i) {
    x[i] *= rows.factors[i % rows.width];
  }
  for (uint32_t h = 0; rows.basis != nullptr && h < rows.heads; ++h) {
    const uint64_t basis = uint64_t{rows.basis_of[h]} * rows.width * rows.width;
    b_.kernels->pointwise.to_basis(x + h * rows.width, rows.basis + basis, rows.width);
  }
  return x;
}

void Executor::AppendRow(const BoundAttention& layer, size_t index, uint32_t row) {
  static constexpr store::RowSlot store::RowPlace::*kSlots[plan::kStreams] = {
      &store::RowPlace::key, &store::RowPlace::tail, &store::RowPlace::value};
  PreparedRow(layer.query, row);
  for (int i = 0; i < plan::kStreams; ++i) {
    const BoundRows& stream = layer.streams[i];
    if (stream.data == nullptr) continue;
    float* x = PreparedRow(stream, row);
    for (uint32_t head = 0; head < stream.heads; ++head, x += stream.width) {
      const bool is_tail = kSlots[i] == &store::RowPlace::tail;
      const store::RowSlot slot = b_.store->Place(index, head, position_ + row).*kSlots[i];
      if (!is_tail && b_.store->LaneOf(index, head).rotated) {
        b_.kernels->hadamard(x, 1, slot.width, slot.width);
      }
      b_.kernels->encode_row[static_cast<int>(slot.codec)](x, slot.width, slot.data, slot.meta);
    }
  }
}

namespace {

// First row that queries from position `first` on may see, where rows lie in order of position.
uint32_t FirstVisibleRow(const LaneView& view, const attention::MixSpec& mix, uint32_t first) {
  if (view.positions != nullptr || mix.left == kUnlimited || first < mix.left) return 0;
  const uint32_t position = first - mix.left, begin = static_cast<uint32_t>(view.first_position);
  if (mix.sinks > begin || position <= begin) return 0;
  return std::min(position - begin, view.rows);
}

}  // namespace

// First row of a part that queries from position `first` on may see.
uint32_t Executor::FirstRowOf(const MixPart& part, const attention::MixSpec& mix, uint32_t first) {
  return std::max(part.begin, FirstVisibleRow(part.rows, mix, first));
}

// Splits of a view's rows in decode: those of the rows in order, and one for every other part.
uint32_t Executor::SplitsOf(const MixPart* parts, uint32_t count, const attention::MixSpec& mix,
                            uint32_t position) {
  const MixPart& last = parts[count - 1];
  return count - 1 +
         static_cast<uint32_t>(
             CeilDiv(last.rows.rows - FirstRowOf(last, mix, position), plan::kSplitRows));
}

const store::LaneSpec& Executor::LaneOf(const MixTasks& tasks, uint32_t view) const {
  return b_.store->LaneOf(tasks.index, tasks.layer->spec->views[view].key);
}

uint32_t Executor::ValueWidthOf(const MixTasks& tasks, uint32_t view) const {
  const model::AttentionSpec& spec = *tasks.layer->spec;
  // Values without rows of their own are the first numbers of the keys'.
  return spec.value.present() ? b_.store->LaneOf(tasks.index, spec.views[view].value).value.width
                              : spec.value_width();
}

attention::MixSpec Executor::MixOf(const MixTasks& tasks, uint32_t view) const {
  const model::AttentionSpec& spec = *tasks.layer->spec;
  const store::LaneSpec& lane = LaneOf(tasks, view);
  if (lane.mean) return {spec.scale, spec.softcap, kUnlimited, 0};  // what has left is in the mean
  return {spec.scale, spec.softcap, lane.left, lane.sinks};
}

// One head's output from its partial records; 0 where its lanes keep nothing.
void Executor::MergeHead(const MixTasks& tasks, uint32_t view, uint16_t head, const float* partials,
                         uint64_t stride, uint32_t count, float* out) const {
  const BoundAttention& layer = *tasks.layer;
  const uint32_t width = ValueWidthOf(tasks, view);
  const float sink = layer.sink_logits == nullptr ? kNoSink : layer.sink_logits[head];
  b_.kernels->merge(partials, stride, count, width, sink, out);
  if (LaneOf(tasks, view).rotated) b_.kernels->hadamard(out, 1, width, width);
  std::fill(out + width, out + layer.spec->value_width(), 0.0f);
}

// The view's rows when there are `tokens` positions, sinks that are met at another position first.
// At most as many parts as the store has segments: a lane with relative positions has no mean.
uint32_t Executor::PartsOf(const MixTasks& tasks, uint32_t view, uint32_t tokens,
                           MixPart* parts) const {
  const model::ViewHeads& heads = tasks.layer->spec->views[view];
  LaneView segments[store::kMostSegments];
  const uint32_t found =
      b_.store->View(tasks.index, {heads.key, heads.tail, heads.value}, tokens, segments);
  const store::LaneSpec& lane = LaneOf(tasks, view);
  const bool moved = lane.relative && tokens - 1 > lane.sinks + lane.left;
  uint32_t count = 0;
  for (uint32_t i = 0; i < found; ++i) {
    LaneView& rows = segments[i];
    rows.values.width = ValueWidthOf(tasks, view);
    const auto first = static_cast<uint32_t>(rows.first_position);
    const uint32_t sinks =
        moved && lane.sinks > first ? std::min(lane.sinks - first, rows.rows) : 0;
    if (sinks != 0) {
      parts[count] = {rows, 0, true};
      parts[count++].rows.rows = sinks;
    }
    if (sinks != rows.rows || rows.rows == 0) parts[count++] = {rows, sinks, false};
  }
  return count;
}

// The queries of a view's heads. Rotations add up, and a logit depends on nothing but the
// difference of two of them: so turning the query is as good as turning all that it meets.
void Executor::GatherQueries(const MixTasks& tasks, const QueryRange& range,
                             const QueryScratch& scratch) const {
  const BoundAttention& layer = *tasks.layer;
  const BoundHeads* parts = range.expanded ? layer.expanded : layer.parts;
  const model::RopeSpec& rope = layer.spec->query.rope;
  const store::LaneSpec& lane = LaneOf(tasks, range.view);
  const BoundHeads& turned = parts[parts[1].data != nullptr ? 1 : 0];
  const uint32_t offset = rope.offset - (&turned == parts ? 0 : layer.spec->query_part());
  const uint32_t place = lane.sinks + lane.left;
  float* query = scratch.query;
  int32_t* positions = scratch.positions;
  const bool relative = range.relative && rope.dims != 0;
  if (relative) {
    // The query and its angles have the attention factor already.
    ops::RopeAngles(static_cast<int32_t>(place), b_.model->tensors[rope.inverse_frequencies].f32(),
                    rope.dims, 1.0f / rope.attention_factor, scratch.angles);
  }
  for (uint32_t row = range.begin; row < range.end; ++row) {
    const bool turn = relative && tasks.position + row > place;
    if (turn) {
      const uint32_t at = tasks.position + row - position_;  // in the chunk
      ops::RopeDifference(scratch.angles, layer.query.angles + uint64_t{at} * rope.dims, rope.dims,
                          scratch.turn);
    }
    for (uint32_t i = range.slot_begin; i < range.slot_end; ++i) {
      for (const BoundHeads& part : {parts[0], parts[1]}) {
        if (part.data == nullptr) continue;
        std::memcpy(query, HeadOf(part, row, layer.view_heads[i]), part.width * sizeof(float));
        if (turn && part.data == turned.data) {
          b_.kernels->pointwise.rope(query + offset, rope.dims, LayoutOf(rope), scratch.turn);
        }
        // What meets rotated keys is rotated as they are.
        if (lane.rotated && !range.expanded && part.data == parts[0].data) {
          b_.kernels->hadamard(query, 1, lane.key.width, lane.key.width);
        }
        query += part.width;
      }
      *positions++ = static_cast<int32_t>(tasks.position + row);
    }
  }
}

Executor::QueryRange Executor::AllHeads(const BoundAttention& layer, uint32_t view, uint32_t begin,
                                        uint32_t end, bool relative) {
  return {view, layer.view_begin[view], layer.view_begin[view + 1], begin, end, relative, false};
}

// Prefill: one view, a tile of tokens with all query heads of the view.
void Executor::MixTile(const MixTasks& tasks, std::byte* worker, size_t task) {
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint32_t view = static_cast<uint32_t>(task / tasks.tiles);
  const uint32_t begin = static_cast<uint32_t>(task % tasks.tiles) * tasks.tile_tokens;
  const uint32_t end = std::min(begin + tasks.tile_tokens, tasks.rows);
  const uint32_t group = layer.view_begin[view + 1] - layer.view_begin[view];
  const uint32_t queries = group * (end - begin);
  if (queries == 0) return;
  const WorkerScratch scratch(worker, spec, queries, tasks.record_floats());
  const uint32_t record = attention::PartialFloats(ValueWidthOf(tasks, view));
  MixPart parts[store::kMostSegments];
  const uint32_t count = PartsOf(tasks, view, tasks.position + end, parts);
  const attention::MixSpec mix = MixOf(tasks, view);
  for (uint32_t i = 0; i < count; ++i) {
    if (i == 0 || parts[i].relative != parts[i - 1].relative) {
      GatherQueries(tasks, AllHeads(layer, view, begin, end, parts[i].relative), scratch);
    }
    b_.kernels->mix(parts[i].rows, mix, scratch.query, spec.key_width(), scratch.positions, queries,
                    FirstRowOf(parts[i], mix, tasks.position + begin), parts[i].rows.rows,
                    scratch.partials + uint64_t{i} * queries * record, scratch.kernel);
  }
  const uint16_t* heads = layer.view_heads.data() + layer.view_begin[view];
  for (uint32_t i = 0; i < queries; ++i) {
    const uint16_t head = heads[i % group];
    MergeHead(tasks, view, head, scratch.partials + uint64_t{i} * record,
              uint64_t{queries} * record, count,
              tasks.output + uint64_t{begin + i / group} * tasks.output_width() +
                  head * spec.value_width());
  }
}

// Decode: one view, one split of its rows, all query heads of the view.
void Executor::MixSplit(const MixTasks& tasks, std::byte* worker, size_t task) {
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint32_t view = static_cast<uint32_t>(task / tasks.splits);
  const uint32_t split = static_cast<uint32_t>(task % tasks.splits);
  const uint32_t first = layer.view_begin[view];
  const uint32_t queries = layer.view_begin[view + 1] - first;
  if (queries == 0) return;
  const uint32_t record = tasks.record_floats();
  const WorkerScratch scratch(worker, spec, queries, record);
  MixPart parts[store::kMostSegments];
  const uint32_t count = PartsOf(tasks, view, tasks.position + 1, parts);
  const attention::MixSpec mix = MixOf(tasks, view);
  const bool whole = split + 1 < count;  // all parts but the last are one split each
  const MixPart& part = parts[whole ? split : count - 1];
  const LaneView& rows = part.rows;
  GatherQueries(tasks, AllHeads(layer, view, 0, 1, part.relative), scratch);
  uint32_t begin = part.begin, end = rows.rows;
  if (!whole) {
    begin = FirstRowOf(part, mix, tasks.position) + (split - (count - 1)) * plan::kSplitRows;
    end = std::min(begin + plan::kSplitRows, rows.rows);
  }
  float* partials = tasks.partials + (uint64_t{split} * spec.query_heads + first) * record;
  b_.kernels->mix(rows, mix, scratch.query, spec.key_width(), scratch.positions, queries,
                  std::min(begin, end), end, partials, scratch.kernel);
}

void Executor::MergeSplits(const MixTasks& tasks) {
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint64_t room = tasks.record_floats();
  for (uint32_t view = 0; view < spec.kv_heads(); ++view) {
    const uint32_t first = layer.view_begin[view];
    const float* partials = tasks.partials + first * room;
    const uint32_t record = attention::PartialFloats(ValueWidthOf(tasks, view));
    for (uint32_t slot = first; slot < layer.view_begin[view + 1]; ++slot, partials += record) {
      const uint16_t head = layer.view_heads[slot];
      MergeHead(tasks, view, head, partials, spec.query_heads * room, tasks.splits,
                tasks.output + head * spec.value_width());
    }
  }
}

// The newest queries of the chunk vote for the rows of the views whose lanes ask for it: here,
// since the mix of the last layer runs for the rows alone whose logits are wanted.
Status Executor::Vote(size_t index) {
  MixTasks tasks;
  tasks.index = index;
  tasks.layer = &attentions_[index];
  tasks.position = position_;
  tasks.rows = rows_;
  const uint32_t views = tasks.layer->spec->kv_heads();
  bool voted = false;
  for (uint32_t view = 0; view < views; ++view) voted |= LaneOf(tasks, view).voted();
  if (!voted) return {};
  return RunMixTasks(tasks, views, tasks.position + tasks.rows, &Executor::VoteTask);
}

// In tiles of queries that fit the worker's scratch: their weights' sum first, then the weights.
void Executor::VoteTask(const MixTasks& tasks, std::byte* worker, size_t index) {
  const auto view = static_cast<uint32_t>(index);
  const BoundAttention& layer = *tasks.layer;
  const model::AttentionSpec& spec = *layer.spec;
  const uint32_t group = layer.view_begin[view + 1] - layer.view_begin[view];
  // While there are only exact rows, nobody can leave.
  if (tasks.position + tasks.rows <= LaneOf(tasks, view).exact_rows) return;
  uint32_t voters = 0;
  float* votes = b_.store->BeginVote(tasks.index, spec.views[view].key, tasks.rows, &voters);
  if (votes == nullptr || group == 0) return;
  const attention::MixSpec mix = MixOf(tasks, view);
  const uint32_t record = attention::PartialFloats(ValueWidthOf(tasks, view));
  const uint32_t tile = std::max(1u, plan::kTileQueries / group);
  MixPart parts[store::kMostSegments];  // none is relative: votes and windows exclude each other
  const uint32_t count = PartsOf(tasks, view, tasks.position + tasks.rows, parts);
  for (uint32_t begin = tasks.rows - voters; begin < tasks.rows; begin += tile) {
    const uint32_t end = std::min(begin + tile, tasks.rows), queries = group * (end - begin);
    const WorkerScratch scratch(worker, spec, queries, tasks.record_floats());
    GatherQueries(tasks, AllHeads(layer, view, begin, end, false), scratch);
    for (uint32_t i = 0; i < count; ++i) {
      b_.kernels->mix(parts[i].rows, mix, scratch.query, spec.key_width(), scratch.positions,
                      queries, 0, parts[i].rows.rows,
                      scratch.partials + uint64_t{i} * queries * record, scratch.kernel);
    }
    // The records are read before their place takes what they sum up to.
    float* sums = scratch.partials;
    for (uint32_t i = 0; i < queries; ++i) {
      sums[i] = attention::LogSumExp(scratch.partials + uint64_t{i} * record,
                                     uint64_t{queries} * record, count, kNoSink);
    }
    b_.kernels->row_scores(parts[count - 1].rows, mix, scratch.query, spec.key_width(),
                           scratch.positions, queries, sums, 0, parts[count - 1].rows.rows, votes,
                           scratch.kernel);
  }
}

// Runs `count` tasks, on all threads when that is worth waking them. `row_visits`: how many cached
// rows a query head reads in all of them.
Status Executor::RunMixTasks(const MixTasks& tasks, uint32_t count, uint64_t row_visits,
                             void (Executor::*task)(const MixTasks&, std::byte*, size_t)) {
  const auto& spec = *tasks.layer->spec;
  const uint64_t operations =
      row_visits * spec.query_heads * (spec.key_width() + spec.value_width());
  return ForTasks(count, operations, [&](std::byte* worker, uint32_t index) {
    (this->*task)(tasks, worker, index);
    return Status();
  });
}

// Shows queries, keys and values as they have become, a token at a time.
void Executor::ObserveAppended(const BoundAttention& layer, size_t index) const {
  if (b_.observer->call == nullptr) return;
  const auto show = [&](const char* what, const BoundRows& rows) {
    if (rows.data == nullptr) return;
    char name[48];
    const int bytes = std::snprintf(name, sizeof(name), "attention.%zu.%s", index, what);
    for (uint32_t row = 0; row < rows_; ++row) {
      b_.observer->call(b_.observer->user_data, name, static_cast<size_t>(bytes), rows.row(row), 1,
                        rows.heads * rows.width);
    }
  };
  show("queries", layer.query);
  show("keys", layer.streams[0]);
  show("key_tails", layer.streams[1]);
  show("values", layer.streams[2]);
}

Status Executor::RunAppend(const BoundStep& step) {
  const size_t index = static_cast<size_t>(step.step->attention);
  const BoundAttention& layer = attentions_[index];
  ForRows(rows_, layer.query.stride, [&](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) AppendRow(layer, index, row);
  });
  ObserveAppended(layer, index);
  return Vote(index);
}

Status Executor::RunMix(const BoundStep& step) {
  MixTasks tasks;
  tasks.index = static_cast<size_t>(step.step->attention);
  tasks.layer = &attentions_[tasks.index];
  const BoundAttention& layer = *tasks.layer;
  tasks.rows = rows_;
  tasks.position = position_ + (tail_ ? row_ : 0);
  tasks.output = step.output;
  const uint32_t views = layer.spec->kv_heads();
  if (rows_ >= step.step->expand_from) return RunExpanded(step, &tasks);
  if (rows_ > 1) {
    tasks.tile_tokens = std::max(1u, plan::kTileQueries / layer.largest_group);
    tasks.tiles = static_cast<uint32_t>(CeilDiv(rows_, tasks.tile_tokens));
    return RunMixTasks(tasks, views * tasks.tiles, uint64_t{rows_} * (tasks.position + rows_),
                       &Executor::MixTile);
  }
  MixPart parts[store::kMostSegments];
  for (uint32_t view = 0; view < views; ++view) {
    const uint32_t count = PartsOf(tasks, view, tasks.position + 1, parts);
    tasks.splits =
        std::max(tasks.splits, SplitsOf(parts, count, MixOf(tasks, view), tasks.position));
  }
  tasks.partials = reinterpret_cast<float*>(b_.arena + b_.plan->partial_region.offset);
  HR_RETURN_IF_ERROR(RunMixTasks(tasks, views * tasks.splits,
                                 uint64_t{tasks.splits} * plan::kSplitRows, &Executor::MixSplit));
  MergeSplits(tasks);
  return {};
}

}  // namespace headroom::session
