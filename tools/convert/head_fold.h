// Weighted grouped-query attention (WGQA, arXiv 2407.10855) as grouped-query attention: there the
// keys (and values) of a KV head are a weighted sum of those that its member heads would make,
//   K_g = sum over i of w_gi * K_(g * members + i),
// and since those are linear in the layer's input, the sum of the rows of their weights makes them:
//   W'_g = sum over i of w_gi * W_(g * members + i)
// Weights of single dimensions fold as well, unless they act behind a rotation. No published
// checkpoint names its weights, so no recipe calls this yet: it is for whoever has one.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"

namespace headroom::convert {

struct HeadFold {
  uint32_t groups = 0;        // KV heads that remain
  uint32_t members = 0;       // neighbouring heads that become one
  uint32_t width = 0;         // of a head
  bool by_dimension = false;  // a weight for each dimension of a head, else one for the head
};

// matrix  [groups * members * width, columns]; a bias is a matrix of one column
// weights [groups, members] or [groups, members, width]
// out     [groups * width, columns], not the same memory
// Sums are made in double. Errors: kInvalidArgument (counts that do not go with each other),
// kCorrupt (a weight that is not finite).
Status FoldHeads(const HeadFold& fold, std::span<const float> matrix,
                 std::span<const float> weights, std::span<float> out);

}  // namespace headroom::convert
