#include "plan/expand.h"

#include <algorithm>

#include "attention/softmax_mix.h"
#include "base/math.h"

namespace headroom::plan {
namespace {

// Whether the backend multiplies it with integers: codes of whole rows, and of four bits.
bool InIntegers(const TensorView& tensor) {
  return tensor.dtype == DType::kI4 || (tensor.dtype == DType::kI8 && tensor.block == 0);
}

}  // namespace

uint32_t ExpandFrom(const model::Model& model, const model::AttentionSpec& spec) {
  if (!spec.key_matrix.present()) return kUnlimited;
  const uint64_t rank = spec.key.width, part = spec.query_part(), value = spec.value_matrix.rows;
  const uint64_t absorbed = 2 * rank + spec.tail.width, expanded = spec.query.width + value;
  if (absorbed <= expanded) return kUnlimited;
  const TensorView& matrix = model.tensors[spec.key_matrix.weight.tensor];
  const uint64_t speed = InIntegers(matrix) ? kIntegerSpeed : 1;
  // One row is never worth it: decode has no tile of queries to share what is made.
  return static_cast<uint32_t>(std::clamp<uint64_t>(
      CeilDiv(rank * (part + value), speed * (absorbed - expanded)), 2, kUnlimited));
}

ExpandScratch LayOutExpand(const model::AttentionSpec& spec, uint32_t tokens,
                           const ExpandFacts& facts) {
  const uint64_t rank = spec.key.width, key = spec.query.width, value = spec.value_matrix.rows;
  const uint64_t record = attention::PartialFloats(spec.value_matrix.rows);
  const auto floats = [](uint64_t count) { return count * sizeof(float); };
  ExpandScratch scratch;
  const RegionPlacer place(&scratch.bytes);
  place(&scratch.latents, floats(kExpandRows * rank) + kSpareInputBytes);
  place(&scratch.converted,
        std::max(facts.input_bytes(facts.key_kind, kExpandRows, spec.key.width),
                 facts.input_bytes(facts.value_kind, kExpandRows, spec.key.width)));
  place(&scratch.made, floats(kExpandRows * uint64_t{spec.key_matrix.rows}));
  place(&scratch.keys, floats(kExpandRows * key));
  place(&scratch.values, floats(kExpandRows * value));
  place(&scratch.query, floats(attention::kMixPanelQueries * key));
  place(&scratch.positions, attention::kMixPanelQueries * sizeof(int32_t));
  place(&scratch.angles, 2 * RoundUp(floats(spec.query.rope.dims), 64));
  place(&scratch.partials, floats(attention::kMixPanelQueries * record));
  place(&scratch.records, floats(std::min(tokens, kExpandQueries) * record));
  place(&scratch.kernel, std::max(facts.mix_scratch_bytes(attention::kMixPanelQueries,
                                                          spec.query.width, spec.value_matrix.rows),
                                  facts.mix_scratch_bytes(1, spec.key.width, spec.key.width)));
  return scratch;
}

}  // namespace headroom::plan
