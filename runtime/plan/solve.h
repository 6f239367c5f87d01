// The budget solver: from a lowered model and the caller's limits to one plan in bytes. Pure: it
// allocates nothing of what it plans and changes nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/expand.h"
#include "plan/experts.h"
#include "plan/head_dense.h"
#include "plan/lower.h"
#include "plan/offsets.h"
#include "plan/profile.h"
#include "store/kv_store.h"

namespace headroom::plan {

// What the planner must know of a backend; filled by whoever owns one.
struct BackendFacts {
  std::vector<uint64_t> packed_bytes;  // by dense layer; 0: it reads the model file's own pages
  bool packed_is_mapped = false;       // clean file pages rather than private memory
  uint64_t packed_total_bytes = 0;     // as mapped or allocated: the sum and its index
  bool weights_are_mapped = false;     // the model file's pages can be dropped and come back
  // Converted input of dense layer i for `rows` rows of `columns` values.
  std::vector<uint8_t> input_kinds;  // by dense layer
  uint64_t (*input_bytes)(uint8_t kind, uint32_t rows, uint32_t columns) = nullptr;
  // By convolution, 1: an operator that keeps pointers to its pixels; empty: all are.
  std::vector<uint8_t> keeps_pointers;
  uint64_t (*mix_scratch_bytes)(uint32_t queries, uint32_t key_width,
                                uint32_t value_width) = nullptr;
};

struct Limits {
  uint64_t budget_bytes = 0;          // 0: none
  uint64_t private_budget_bytes = 0;  // 0: none
  uint32_t context = 0;               // 0: the largest that fits
  uint32_t chunk = 0;                 // 0: the largest that fits
  uint32_t threads = 1;
  CodecChoice codec = CodecChoice::kAuto;
  std::string profile;  // by name or as text of a role; empty: as `codec` says
  // Recurrent state: bytes for checkpoints, 0: one; at least so many tokens lie between two of them
  // that decoding makes.
  uint64_t checkpoint_bytes = 0;
  uint32_t checkpoint_tokens = 0;     // 0: kCheckpointTokens
  uint64_t caller_scratch_bytes = 0;  // scratch that rooms above (sampling) want planned
  uint64_t caller_table_bytes = 0;    // heap that rooms above hold (the tokenizer's tables)
};

// How the mix of one chunk is cut into tasks. Fixed sizes, so results do not depend on thread
// count.
inline constexpr uint32_t kTileQueries = 64;  // query vectors per prefill task
inline constexpr uint32_t kSplitRows = 1024;  // rows per decode task

// Pages of an embedding table are dropped each time this many rows were looked up, so that a large
// vocabulary costs what is in use and not what lies in the file. A row may bring in what lies
// around it: 64 KiB, and with large pieces in the page cache (Linux 6.18, ext4) 2 MiB; of its codes
// and of its scales, or on both sides of a boundary.
inline constexpr uint32_t kEmbeddingReleaseRows = 8;
inline constexpr uint64_t kFaultAroundBytes = uint64_t{4} << 20;
// What is resident of a mapped table at most; all of it where that is no more than a few rows cost.
uint64_t EmbeddingBytes(const TensorView& table);

inline constexpr uint32_t kCheckpointTokens = 512;
inline constexpr uint32_t kMostCheckpoints = 1024;

// Longest chunk a caller may ask for: no step gains from a longer one, and sizes stay far from
// 2^64.
inline constexpr uint32_t kMaxChunk = 1u << 16;

struct Plan {
  bool fits = false;
  uint64_t missing_bytes = 0;
  uint32_t context = 0, chunk = 0, threads = 1;
  std::string profile;                          // name of the chosen one
  size_t profile_index = 0;                     // among those that were to choose from
  const model::QualitySpec* quality = nullptr;  // as its model measured it; null: it did not
  // The next better one, and what a session of this context would cost with it; empty: there is
  // none.
  std::string better_profile;
  uint64_t better_bytes = 0;
  std::vector<store::LayerSpec> layers;
  Placement values;
  // Activation arena, in order.
  Region value_region, input_region, rope_region, worker_region, partial_region, expert_region,
      token_region, caller_region;
  uint64_t worker_bytes = 0;  // stride of worker_region
  uint32_t checkpoints = 0, checkpoint_tokens = 0;
  // Bytes by class. State: cached rows; recurrent: the state that does not grow, and its
  // checkpoints.
  uint64_t weight_bytes = 0, packed_bytes = 0, state_bytes = 0, recurrent_bytes = 0,
           activation_bytes = 0, scratch_bytes = 0, runtime_bytes = 0;
  uint64_t mapped_bytes = 0, private_bytes = 0, total_bytes = 0;
  uint64_t state_bytes_per_token = 0, decode_read_bytes = 0;
  uint32_t max_context = 0;

  uint64_t arena_bytes() const { return activation_bytes + scratch_bytes; }
  uint64_t session_bytes() const { return arena_bytes() + recurrent_bytes + state_bytes; }
};

// The scratch of step kExperts for `tokens` rows, at most the plan's chunk; all such steps share
// Plan::expert_region.
ExpertScratch ExpertScratchOf(const model::Model& model, const Lowered& lowered, const Step& step,
                              const BackendFacts& facts, uint32_t tokens);

// The scratch of one thread in step kHeadDense for `tokens` rows; Plan::worker_region holds it.
HeadScratch HeadScratchOf(const model::Model& model, const Lowered& lowered, const Step& step,
                          const BackendFacts& facts, uint32_t tokens);

// The scratch of one thread in a step kMix that expands `tokens` rows; in Plan::worker_region too.
ExpandScratch ExpandScratchOf(const model::Model& model, const Step& step,
                              const BackendFacts& facts, uint32_t tokens);

// The best plan inside the limits, or the smallest one with fits == false and missing_bytes: of
// `profiles` that are not for trims only, best first and at least one, the first with which the
// context asked for (or the trained maximum) fits; chunks of at least 32 tokens are preferred to a
// better profile, smaller ones only to no plan at all. More bytes never give a worse profile or a
// shorter context.
Plan Solve(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
           const Limits& limits, const std::vector<Profile>& profiles);

// The plan of exactly this context, chunk and profile.
Plan Price(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
           const Limits& limits, uint32_t context, uint32_t chunk,
           const std::vector<Profile>& profiles, size_t chosen);

}  // namespace headroom::plan
