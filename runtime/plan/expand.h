// Prefill of a latent by expansion: a head's keys and values are made of the cached rows, a tile of
// them at a time, and met as if they had been cached. Decode, and few queries, let the query meet
// the latent itself (absorption). Both are the same sums in another order (DeepSeek-V2, arXiv
// 2405.04434, section 2.1.3).
#pragma once

#include <cstdint>

#include "model/model.h"
#include "plan/region.h"

namespace headroom::plan {

// Multiply-adds of a query and a row, of rank r, parts dn and dr of a query, values of dv:
//   absorbed 2 r + dr;   expanded dn + dr + dv, and r (dn + dv) for the row, once for all queries.
// From so many rows of a step on, with a long context, the second is less. kUnlimited: never, or
// the model has no matrix for it. Integer matrices multiply that much faster than attention does.
// Of mla-1b in int4 that says 43 rows; measured, both ways take the same near 48.
inline constexpr uint32_t kIntegerSpeed = 4;
uint32_t ExpandFrom(const model::Model& model, const model::AttentionSpec& spec);

// Cached rows made keys and values at a time, and queries that meet them before they are made again
// for the next ones. Fixed sizes, so results do not depend on the thread count.
inline constexpr uint32_t kExpandRows = 256;
inline constexpr uint32_t kExpandQueries = 512;

// The scratch of one head in one thread. Offsets are relative to the region's begin.
//   latents  [rows, r], converted the same as a matrix takes them; made [rows, dn];
//   keys [rows, dn + dr]; values [rows, dv]; query, positions, angles of a panel of queries; its
//   partial records of a tile, and all queries' records of all tiles so far; kernel
struct ExpandScratch {
  Region latents, converted, made, keys, values, query, positions, angles, partials, records,
      kernel;
  uint64_t bytes = 0;
};

// What the planner knows of the backend, of the two matrices.
struct ExpandFacts {
  uint8_t key_kind = 0, value_kind = 0;
  uint64_t (*input_bytes)(uint8_t kind, uint32_t rows, uint32_t columns) = nullptr;
  uint64_t (*mix_scratch_bytes)(uint32_t queries, uint32_t key_width,
                                uint32_t value_width) = nullptr;
};
ExpandScratch LayOutExpand(const model::AttentionSpec& spec, uint32_t tokens,
                           const ExpandFacts& facts);

}  // namespace headroom::plan
