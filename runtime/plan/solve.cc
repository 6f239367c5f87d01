#include "plan/solve.h"

#include <algorithm>

#include "attention/linear_mix.h"
#include "attention/softmax_mix.h"
#include "base/math.h"
#include "plan/budget.h"
#include "plan/linear.h"
#include "store/state_store.h"

namespace headroom::plan {
namespace {

constexpr uint32_t kChunks[] = {512, 256, 128, 64, 32, 16, 8};
constexpr uint32_t kGoodChunk = 32;
constexpr uint64_t kRuntimeBytesPerDense = 4 * 1024;

uint32_t LongestRows(const std::vector<store::LayerSpec>& layers) {
  uint32_t rows = 0;
  for (const auto& layer : layers) rows = std::max(rows, store::LongestLane(layer));
  return rows;
}

uint64_t InputRegionBytes(const model::Model& model, const Lowered& lowered,
                          const BackendFacts& facts, uint32_t chunk) {
  uint64_t bytes = 0;
  for (const Step& step : lowered.steps) {
    if (step.dense == kNone) continue;
    const uint32_t columns = model.tensors[lowered.dense[step.dense].tensor].columns();
    const uint32_t rows = lowered.buffers[step.output].tail ? 1 : chunk;
    bytes = std::max(bytes, facts.input_bytes(facts.input_kinds[step.dense], rows, columns));
  }
  return bytes;
}

// What the busiest thread holds while heads are multiplied by matrices of their own.
uint64_t HeadBytes(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
                   uint32_t chunk) {
  uint64_t bytes = 0;
  for (const Step& step : lowered.steps) {
    if (step.kind != StepKind::kHeadDense) continue;
    for (const uint32_t tokens : {1u, lowered.buffers[step.output].tail ? 1u : chunk}) {
      bytes = std::max(bytes, HeadScratchOf(model, lowered, step, facts, tokens).bytes);
    }
  }
  return bytes;
}

// What the busiest thread holds while it makes keys and values of a latent.
uint64_t ExpandBytes(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
                     uint32_t chunk) {
  uint64_t bytes = 0;
  for (const Step& step : lowered.steps) {
    if (step.kind != StepKind::kMix || lowered.buffers[step.output].tail) continue;
    if (chunk < step.expand_from) continue;
    bytes = std::max(bytes, ExpandScratchOf(model, step, facts, chunk).bytes);
  }
  return bytes;
}

uint64_t ExpertBytes(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
                     uint32_t chunk) {
  uint64_t bytes = 0;
  for (const Step& step : lowered.steps) {
    if (step.kind != StepKind::kExperts) continue;
    const uint32_t tokens = lowered.buffers[step.output].tail ? 1 : chunk;
    bytes = std::max(bytes, ExpertScratchOf(model, lowered, step, facts, tokens).bytes);
  }
  return bytes;
}

// Per worker: the gathered queries of a tile, their positions, two rows of angles, their partial
// records, the kernel's own.
uint64_t WorkerBytes(const model::Model& model, const BackendFacts& facts) {
  uint64_t bytes = 0;
  for (const auto& spec : model.attentions) {
    const uint32_t queries = std::max(kTileQueries, spec.query_heads);
    const uint64_t gather = RoundUp(uint64_t{queries} * spec.key_width() * sizeof(float), 64);
    const uint64_t positions = RoundUp(queries * sizeof(int32_t), 64);
    const uint64_t angles = 2 * RoundUp(uint64_t{spec.query.rope.dims} * sizeof(float), 64);
    const uint64_t partials = store::kMostSegments * uint64_t{queries} *
                              attention::PartialFloats(spec.value_width()) * sizeof(float);
    const uint64_t kernel =
        RoundUp(facts.mix_scratch_bytes(queries, spec.key_width(), spec.value_width()), 64);
    bytes = std::max(bytes, gather + positions + angles + partials + kernel);
  }
  for (const auto& spec : model.linears) {
    bytes = std::max(bytes, RoundUp(attention::LinearMixScratchBytes(LinearMixOf(spec)), 64));
  }
  return bytes;
}

// The state that does not grow: at least one checkpoint, to go back to when a chunk is cancelled.
void PriceRecurrent(const Lowered& lowered, const Limits& limits, Plan* plan) {
  const uint64_t each = store::StateStore::StateBytes(lowered.states);
  if (each == 0) return;
  const uint64_t asked = std::min<uint64_t>(limits.checkpoint_bytes / each, kMostCheckpoints);
  plan->checkpoints = std::max(1u, static_cast<uint32_t>(asked));
  plan->checkpoint_tokens =
      limits.checkpoint_tokens != 0 ? limits.checkpoint_tokens : kCheckpointTokens;
  plan->recurrent_bytes =
      std::min(store::StateStore::Bytes(lowered.states, plan->checkpoints), kMostBytes * 2);
}

// Decode: one record per query head and split.
uint64_t PartialBytes(const model::Model& model, const std::vector<store::LayerSpec>& layers) {
  const uint64_t splits = CeilDiv(LongestRows(layers), kSplitRows) + store::kMostSegments - 1;
  uint64_t bytes = 0;
  for (const auto& spec : model.attentions) {
    bytes = std::max(bytes, splits * spec.query_heads *
                                attention::PartialFloats(spec.value_width()) * sizeof(float));
  }
  return bytes;
}

void LayOutArena(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
                 const Limits& limits, Plan* plan) {
  uint64_t end = 0;
  const RegionPlacer place(&end);
  place(&plan->value_region, plan->values.total_bytes + kSpareInputBytes);
  place(&plan->token_region, uint64_t{plan->context} * sizeof(int32_t));
  plan->activation_bytes = end;
  place(&plan->input_region, InputRegionBytes(model, lowered, facts, plan->chunk));
  uint64_t rope_bytes = 0;
  for (const auto& rope : lowered.ropes) {
    rope_bytes += RoundUp(uint64_t{plan->chunk} * rope.dims * sizeof(float), 64);
  }
  place(&plan->rope_region, rope_bytes);
  plan->worker_bytes =
      std::max({WorkerBytes(model, facts), HeadBytes(model, lowered, facts, plan->chunk),
                ExpandBytes(model, lowered, facts, plan->chunk)});
  place(&plan->worker_region, plan->worker_bytes * limits.threads);
  place(&plan->partial_region, PartialBytes(model, plan->layers));
  place(&plan->expert_region, ExpertBytes(model, lowered, facts, plan->chunk));
  place(&plan->caller_region, limits.caller_scratch_bytes);
  // Between steps all of this is free: hr_session_trim recodes rows in it, lanes are thinned.
  end = std::max(end, plan->activation_bytes + store::ShrinkScratchBytes(plan->layers));
  plan->scratch_bytes = end - plan->activation_bytes;
}

uint64_t TensorBytes(const TensorView& tensor) { return tensor.data_bytes + tensor.scale_bytes; }

// Which tensors the dense layers read where they lie in the file.
std::vector<bool> UnpackedTensors(const model::Model& model, const Lowered& lowered,
                                  const BackendFacts& facts) {
  std::vector<bool> unpacked(model.tensors.size(), false);
  for (size_t i = 0; i < lowered.dense.size(); ++i) {
    if (facts.packed_bytes[i] == 0) unpacked[lowered.dense[i].tensor] = true;
  }
  return unpacked;
}

// Tensors read at run time from the model file itself, and the graph around them.
uint64_t DirectBytes(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
                     const std::vector<bool>& unpacked) {
  std::vector<bool> direct = unpacked;
  for (int32_t id : lowered.direct_tensors) direct[id] = true;
  uint64_t all = 0, read = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    all += TensorBytes(model.tensors[i]);
    if (direct[i]) read += TensorBytes(model.tensors[i]);
  }
  for (int32_t id : lowered.embedding_tensors) {
    const TensorView& table = model.tensors[id];
    if (!direct[id]) read += facts.weights_are_mapped ? EmbeddingBytes(table) : TensorBytes(table);
  }
  return read + (model.file_bytes > all ? model.file_bytes - all : 0);
}

// Of all weights, those of the experts that a token does not choose.
uint64_t UnreadBytes(const model::Model& model, const Lowered& lowered, const BackendFacts& facts) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < lowered.dense.size(); ++i) {
    const DenseLayer& dense = lowered.dense[i];
    if (dense.parts == dense.used) continue;
    const TensorView& tensor = model.tensors[dense.tensor];
    const uint64_t all = facts.packed_bytes[i] != 0
                             ? facts.packed_bytes[i]
                             : TensorBytes(tensor) / tensor.rows() * dense.rows * dense.parts;
    bytes += all / dense.parts * (dense.parts - dense.used);
  }
  return bytes;
}

class Solver {
 public:
  Solver(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
         const Limits& limits, const std::vector<Profile>& profiles)
      : model_(model), lowered_(lowered), facts_(facts), limits_(limits), profiles_(profiles) {}

  Plan Run() const {
    const uint32_t wanted = limits_.context != 0 ? limits_.context : model_.metadata.context_tokens;
    Plan plan = BestFor(wanted);
    if (!plan.fits && limits_.context == 0) plan = LargestPlan(plan);
    plan.max_context = plan.fits && plan.context == model_.metadata.context_tokens
                           ? plan.context
                           : LargestContext(kChunks[6], plan.profile_index);
    if (plan.profile_index != 0) {
      const size_t better = plan.profile_index - 1;
      plan.better_profile = profiles_[better].name;
      plan.better_bytes =
          At(plan.context, limits_.chunk != 0 ? plan.chunk : std::min(kGoodChunk, plan.chunk),
             better)
              .total_bytes;
    }
    return plan;
  }

 private:
  Plan At(uint32_t context, uint32_t chunk, size_t profile) const {
    return Price(model_, lowered_, facts_, limits_, context, chunk, profiles_, profile);
  }

  size_t Choices() const {
    size_t count = 0;
    while (count < profiles_.size() && !profiles_[count].trim_only) ++count;
    return count;
  }

  // Largest chunk >= smallest that fits; the plan of the smallest when none does.
  Plan BestChunk(uint32_t context, uint32_t smallest, size_t profile) const {
    if (limits_.chunk != 0) return At(context, std::min(limits_.chunk, context), profile);
    Plan plan;
    for (uint32_t chunk : kChunks) {
      if (chunk < smallest) break;
      if (chunk > context && chunk > smallest) continue;
      plan = At(context, std::min(chunk, context), profile);
      if (plan.fits) break;
    }
    return plan;
  }

  // Bytes grow with the context, so the largest that fits is found by bisection.
  uint32_t LargestContext(uint32_t smallest_chunk, size_t profile) const {
    uint32_t low = 0, high = std::max(model_.metadata.context_tokens, limits_.context);
    while (low < high) {
      const uint32_t middle = low + (high - low + 1) / 2;
      if (BestChunk(middle, smallest_chunk, profile).fits) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  // When none fits, the plan that misses least.
  Plan BestFor(uint32_t context) const {
    Plan least;
    for (uint32_t smallest : {kGoodChunk, kChunks[6]}) {
      for (size_t profile = 0; profile < Choices(); ++profile) {
        Plan plan = BestChunk(context, smallest, profile);
        if (plan.fits) return plan;
        const bool first = profile == 0 && smallest == kGoodChunk;
        if (first || plan.missing_bytes <= least.missing_bytes) least = std::move(plan);
      }
    }
    return least;
  }

  // No context was asked for and the trained maximum does not fit: the longest one, of whatever
  // profile, that leaves room for a good chunk. Below that, small chunks give contexts up to one
  // good chunk, never more: so more bytes never make the context shorter.
  Plan LargestPlan(const Plan& refused) const {
    size_t profile = refused.profile_index;
    uint32_t context = 0;
    for (size_t i = Choices(); i-- > 0;) {
      const uint32_t largest = LargestContext(kGoodChunk, i);
      if (largest < context) continue;
      context = largest;
      profile = i;
    }
    if (context >= kGoodChunk) return BestChunk(context, kGoodChunk, profile);
    profile = refused.profile_index;
    const uint32_t shorter = std::min(LargestContext(kChunks[6], profile), kGoodChunk);
    const uint32_t least = std::min(kChunks[6], refused.context);
    return BestChunk(std::max(shorter, least), kChunks[6], profile);
  }

  const model::Model& model_;
  const Lowered& lowered_;
  const BackendFacts& facts_;
  const Limits& limits_;
  const std::vector<Profile>& profiles_;
};

}  // namespace

uint64_t EmbeddingBytes(const TensorView& table) {
  const uint64_t row_bytes = TensorBytes(table) / table.rows() + kFaultAroundBytes;
  return std::min(TensorBytes(table), kEmbeddingReleaseRows * row_bytes);
}

ExpertScratch ExpertScratchOf(const model::Model& model, const Lowered& lowered, const Step& step,
                              const BackendFacts& facts, uint32_t tokens) {
  const model::MixtureSpec& spec = model.mixtures[model.ops[step.op].mixture];
  const ExpertInputs inputs{facts.input_kinds[step.dense], facts.input_kinds[step.down],
                            facts.input_bytes};
  return LayOutExperts(spec, lowered.buffers[step.output].width, tokens, inputs);
}

HeadScratch HeadScratchOf(const model::Model& model, const Lowered& lowered, const Step& step,
                          const BackendFacts& facts, uint32_t tokens) {
  const DenseLayer& dense = lowered.dense[step.dense];
  return LayOutHeadDense(model.tensors[dense.tensor].columns(), dense.rows, tokens,
                         facts.input_kinds[step.dense], facts.input_bytes);
}

ExpandScratch ExpandScratchOf(const model::Model& model, const Step& step,
                              const BackendFacts& facts, uint32_t tokens) {
  const ExpandFacts of_step{facts.input_kinds[step.expand_key],
                            facts.input_kinds[step.expand_value], facts.input_bytes,
                            facts.mix_scratch_bytes};
  return LayOutExpand(model.attentions[step.attention], tokens, of_step);
}

Plan Price(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
           const Limits& limits, uint32_t context, uint32_t chunk,
           const std::vector<Profile>& profiles, size_t chosen) {
  Plan plan;
  plan.context = context;
  plan.chunk = chunk;
  plan.threads = limits.threads;
  plan.profile = profiles[chosen].name;
  plan.profile_index = chosen;
  const model::ProfileSpec* source = profiles[chosen].source;
  if (source != nullptr && !source->quality.empty()) plan.quality = &source->quality[0];
  for (size_t i = 0; i < model.attentions.size(); ++i) {
    plan.layers.push_back(LayerOf(model, i, profiles, chosen, context, chunk));
    plan.state_bytes = SaturatingAdd(plan.state_bytes, store::LayerBytes(plan.layers.back()));
    plan.state_bytes_per_token += store::LayerBytesPerToken(plan.layers.back());
  }
  plan.state_bytes = std::min(plan.state_bytes, kMostBytes * 2);  // room for the sums below
  plan.state_bytes = RoundUp(plan.state_bytes, 64);
  PriceRecurrent(lowered, limits, &plan);
  // Logits outlive a decode that is cancelled before it makes new ones.
  plan.values = PlaceBuffers(lowered.buffers, chunk, lowered.logits);
  LayOutArena(model, lowered, facts, limits, &plan);
  plan.packed_bytes = facts.packed_total_bytes;
  const std::vector<bool> unpacked = UnpackedTensors(model, lowered, facts);
  plan.weight_bytes = DirectBytes(model, lowered, facts, unpacked);
  plan.runtime_bytes = kRuntimeBytes + kRuntimeBytesPerDense * lowered.dense.size() +
                       kRuntimeBytesPerThread * limits.threads + limits.caller_table_bytes;
  plan.decode_read_bytes =
      plan.packed_bytes + std::min(store::ReadBytes(plan.layers), kMostBytes * 2);
  for (size_t i = 0; i < unpacked.size(); ++i) {
    if (unpacked[i]) plan.decode_read_bytes += TensorBytes(model.tensors[i]);
  }
  for (const int32_t id : lowered.direct_tensors) {
    if (!unpacked[id]) plan.decode_read_bytes += TensorBytes(model.tensors[id]);
  }
  plan.decode_read_bytes -= UnreadBytes(model, lowered, facts);
  plan.decode_read_bytes += plan.recurrent_bytes / (plan.checkpoints + 1) * 2;  // and written

  plan.private_bytes = plan.session_bytes() + plan.runtime_bytes;
  plan.mapped_bytes = plan.weight_bytes;
  (facts.packed_is_mapped ? plan.mapped_bytes : plan.private_bytes) += plan.packed_bytes;
  plan.total_bytes = plan.private_bytes + plan.mapped_bytes;
  plan.missing_bytes = MissingBytes(plan, limits);
  plan.fits = plan.missing_bytes == 0;
  return plan;
}

Plan Solve(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
           const Limits& limits, const std::vector<Profile>& profiles) {
  return Solver(model, lowered, facts, limits, profiles).Run();
}

}  // namespace headroom::plan
