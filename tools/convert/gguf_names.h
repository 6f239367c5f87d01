// The architectures of GGUF files as data: which recipe each has, what llama.cpp's code fixes for
// it without a key, and what its tensors are called.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "convert/recipe.h"

namespace headroom::convert {

// The numbers of expert_gating_func.
enum class GgufGating : uint8_t { kSoftmax = 1, kChosenSoftmax = 3 };

struct GgufArchitecture {
  std::string_view name;  // general.architecture
  std::string_view recipe;
  std::string_view window_recipe = "";   // with sliding_window; empty: the same
  std::string_view mixture_recipe = "";  // with expert_count; empty: the same
  std::string_view activation = "silu";
  bool neighbours = false;         // rotated pairs are (2i, 2i + 1)
  bool rotates_if_tuned = false;   // rope.scaling.finetuned false: no layer is rotated
  uint32_t window_period = 0;      // every so manieth layer sees all; 0: see WindowRule
  uint32_t default_window = 0;     // 0: no window without a key
  uint32_t unrotated_period = 0;   // every so manieth layer is not rotated
  uint32_t wide_scale_layers = 0;  // so many layers: attention scale (C / H)^-1/2, not D^-1/2
  std::string_view mlp_norm = "ffn_norm";
  GgufGating gating = GgufGating::kSoftmax;
  bool renormalise = false;  // the weights of the chosen experts, where all experts' sum to 1
};

std::span<const GgufArchitecture> GgufArchitectures();

// A recipe's names as GGUF has them.
TensorNames NamesInGguf(const TensorNames& names, const GgufArchitecture& architecture);
// A recipe's mixture likewise; experts are stacked, [E, rows, columns].
MixtureRecipe MixtureInGguf(const MixtureRecipe& mixture, const GgufArchitecture& architecture);

}  // namespace headroom::convert
