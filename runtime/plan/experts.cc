#include "plan/experts.h"

#include <algorithm>

#include "ops/mixture.h"

namespace headroom::plan {

ExpertScratch LayOutExperts(const model::MixtureSpec& spec, uint32_t channels, uint32_t tokens,
                            const ExpertInputs& inputs) {
  ExpertScratch scratch;
  // A token chooses an expert once, so no expert has more rows than there are tokens.
  scratch.rows = std::max(std::min(tokens, kExpertRows), spec.chosen);
  scratch.inner_input_stride = inputs.bytes(inputs.down_kind, 1, spec.inner);
  const uint64_t rows = scratch.rows, choices = uint64_t{tokens} * spec.chosen;
  const RegionPlacer place(&scratch.bytes);
  place(&scratch.choice, choices * sizeof(ops::Choice));
  place(&scratch.order, choices * sizeof(uint32_t));
  place(&scratch.begin, (spec.experts + uint64_t{1}) * sizeof(uint32_t));
  place(&scratch.tokens, rows * sizeof(uint32_t));
  place(&scratch.gathered, inputs.bytes(inputs.gate_up_kind, scratch.rows, channels));
  place(&scratch.gate_up, rows * 2 * spec.inner * sizeof(float));
  place(&scratch.inner, rows * spec.inner * sizeof(float) + kSpareInputBytes);
  place(&scratch.inner_input, std::max(inputs.bytes(inputs.down_kind, scratch.rows, spec.inner),
                                       spec.chosen * scratch.inner_input_stride));
  place(&scratch.output, rows * channels * sizeof(float));
  return scratch;
}

}  // namespace headroom::plan
