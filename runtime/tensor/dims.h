// Dimension letters, the same in every comment, formula, oracle and shader.
//
//   B  batch              T  new tokens in this call     S  rows cached (visible) in a lane
//   H  query heads        G  KV heads (lanes)            D  head width (Dk, Dv where they differ)
//   R  latent rank        W  window                      C  channels (model width)
//   F  inner width of an MLP                             V  vocabulary
//
// Windows are stored as `left` and `right`: counts of rows visible on each side, excluding self.
#pragma once

#include <cstdint>

namespace headroom {

// "No limit" for a window side.
inline constexpr uint32_t kUnlimited = 0xffffffffu;

}  // namespace headroom
