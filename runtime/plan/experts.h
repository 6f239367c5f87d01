// The scratch of a mixture of experts: what it holds while it runs, and where.
#pragma once

#include <cstdint>

#include "model/model.h"
#include "plan/region.h"

namespace headroom::plan {

// The rows of one expert go through it at most so many at a time. More gain no speed and cost
// scratch; results do not depend on it but for the order in which an operator sums.
inline constexpr uint32_t kExpertRows = 128;

// The converted inputs an expert's two layers take; see BackendFacts::input_bytes.
struct ExpertInputs {
  uint8_t gate_up_kind = 0, down_kind = 0;
  uint64_t (*bytes)(uint8_t kind, uint32_t rows, uint32_t columns) = nullptr;
};

// For `tokens` rows at once. Offsets are relative to the region's begin.
//   choice    {expert, weight} of the k chosen of every token, experts ascending
//   order     [T * k] choices by expert, then by token;  begin  [E + 1] into it
//   tokens    [rows] of the run in progress
//   gathered  its rows of the input, converted; gate_up [rows, 2F], inner [rows, F], inner_input
//             the same converted, output [rows, C]
// A single token runs its k experts side by side, one row each.
struct ExpertScratch {
  uint32_t rows = 0;
  uint64_t inner_input_stride = 0;  // of one row converted by itself
  Region choice, order, begin, tokens, gathered, gate_up, inner, inner_input, output;
  uint64_t bytes = 0;
};
ExpertScratch LayOutExperts(const model::MixtureSpec& spec, uint32_t channels, uint32_t tokens,
                            const ExpertInputs& inputs);

}  // namespace headroom::plan
