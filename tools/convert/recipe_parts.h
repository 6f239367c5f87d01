// Parts that rows of several tables share.
#pragma once

#include "convert/recipe.h"

namespace headroom::convert {

inline constexpr Flag kYes = {"", true};

inline constexpr ExpertNames kStackedExperts = {
    .gate_up = "mlp.experts.gate_up_proj", .down = "mlp.experts.down_proj", .ending = ""};

inline constexpr ExpertNames kQwenExperts[] = {{.gate = "mlp.experts.{}.gate_proj",
                                                .up = "mlp.experts.{}.up_proj",
                                                .down = "mlp.experts.{}.down_proj"},
                                               kStackedExperts};
inline constexpr SharedExpert kQwenShared = {.weight = "mlp.shared_expert_gate",
                                             .gate = "mlp.shared_expert.gate_proj",
                                             .up = "mlp.shared_expert.up_proj",
                                             .down = "mlp.shared_expert.down_proj",
                                             .inner_key = "shared_expert_intermediate_size"};

inline constexpr ExpertNames kMixtralExperts[] = {{.router = "block_sparse_moe.gate",
                                                   .gate = "block_sparse_moe.experts.{}.w1",
                                                   .up = "block_sparse_moe.experts.{}.w3",
                                                   .down = "block_sparse_moe.experts.{}.w2"},
                                                  kStackedExperts};
inline constexpr MixtureRecipe kMixtralMixture = {
    .names = kMixtralExperts, .inner_key = "intermediate_size", .renormalise = kYes};

// The rows of recipe_linear.cc: models with layers of linear attention.
std::span<const Recipe> LinearRecipes();

}  // namespace headroom::convert
