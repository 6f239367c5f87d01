// From logits to the next token.
//
// Order: repetition penalty, temperature, top-k, top-p, min-p, draw. Every step is defined on exact
// comparisons and on double arithmetic that is the same on every machine (own exponential, no fused
// multiply-add), and ties go to the lower id: equal logits, options and position give the equal
// token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace headroom::text {

// The fields of hr_sampler_options, with its defaults: all-zero is greedy.
struct SamplerOptions {
  float temperature = 0.0f;         // 0: greedy
  uint32_t top_k = 0;               // 0: all
  float top_p = 0.0f;               // 0 or 1: off
  float min_p = 0.0f;               // 0: off
  float repetition_penalty = 0.0f;  // 0 or 1: off
  uint32_t repetition_window = 0;   // 0: 64
  uint64_t seed = 0;
};
inline constexpr uint32_t kDefaultRepetitionWindow = 64;

// Working memory of Sample for a vocabulary of V; part of the session's plan. Alignment: 8 bytes.
constexpr uint64_t SamplerScratchBytes(uint32_t vocabulary) { return uint64_t{vocabulary} * 8; }

// kInvalidArgument names the option that is out of its range.
Status CheckSamplerOptions(const SamplerOptions& options);

// Draws from `logits` [V]. `history`: the tokens so far, of which the last repetition_window are
// discouraged (a positive logit is divided by the penalty, another one multiplied, once per token
// id); ids outside [0, V) are ignored. `position`: tokens in the session. `scratch`:
// SamplerScratchBytes(V). No allocation. Errors: kInvalidArgument, kInternal (a logit that is NaN
// or +infinity, or none above -infinity: the model's arithmetic broke; the text names the token).
Result<int32_t> Sample(std::span<const float> logits, std::span<const int32_t> history,
                       uint64_t position, const SamplerOptions& options,
                       std::span<std::byte> scratch);

// The uniform number in [0, 1) behind the draw at `position`: the top 53 bits of the first two
// words of Philox4x32-10 (Salmon et al. 2011) with key `seed` and counter {position low, position
// high, 0, 0}.
double DrawUniform(uint64_t seed, uint64_t position);

// Philox4x32-10 itself, checked against its published vectors.
struct PhiloxBlock {
  uint32_t words[4];
};
PhiloxBlock Philox4x32(PhiloxBlock counter, uint32_t key_low, uint32_t key_high);

}  // namespace headroom::text
