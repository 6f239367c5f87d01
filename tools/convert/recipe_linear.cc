// Rows of the table of architectures whose layers are, all or in part, linear attention.
#include "convert/recipe_parts.h"

namespace headroom::convert {
namespace {

using enum LinearPart;

// ---- State space models

constexpr TensorNames kMambaNames = {.embedding = "backbone.embeddings",
                                     .final_norm = "backbone.norm_f",
                                     .layer = "backbone.layers.{}.",
                                     .attention_norm = "norm",
                                     .mlp_norm = "",
                                     .down = ""};
constexpr SizeKeys kMambaSizes = {.context = ""};

constexpr LinearPart kMambaInput[] = {kValues, kGate};
constexpr LinearPart kMambaSteps[] = {kDecay, kKeys, kQueries};
constexpr LinearPart kMambaConvolved[] = {kValues};
constexpr PartsMatrix kMambaMatrices[] = {
    {"mixer.in_proj", kMambaInput},
    {.name = "mixer.x_proj", .parts = kMambaSteps, .reads_values = true}};
constexpr LinearRecipe kMambaLinear = {.keys = {.key_width = "state_size",
                                                .inner = "intermediate_size",
                                                .expand = "expand",
                                                .rank = "time_step_rank",
                                                .taps = "conv_kernel",
                                                .bias = "use_bias",
                                                .convolution_bias = "use_conv_bias"},
                                       .inputs = kMambaMatrices,
                                       .convolution = "mixer.conv1d",
                                       .convolved = kMambaConvolved,
                                       .decay = LinearDecay::kElement,
                                       .a_log = "mixer.A_log",
                                       .step_up = "mixer.dt_proj",
                                       .skip = "mixer.D",
                                       .norm = LinearNorm::kNone,
                                       .output = "mixer.out_proj"};
// How the step was drawn before training, how a computation is carried out, and what the
// configurations of the first code repeat.
constexpr std::string_view kMambaNeutralKeys[] = {"residual_in_fp32",
                                                  "rescale_prenorm_residual",
                                                  "time_step_min",
                                                  "time_step_max",
                                                  "time_step_floor",
                                                  "time_step_init_scheme",
                                                  "time_step_scale",
                                                  "use_mambapy",
                                                  "use_associative_scan",
                                                  "d_inner",
                                                  "d_model",
                                                  "n_layer",
                                                  "ssm_cfg",
                                                  "fused_add_norm",
                                                  "pad_vocab_size_multiple",
                                                  "chunk_size"};
constexpr std::string_view kMambaTrueOnlyKeys[] = {"rms_norm"};

constexpr LinearPart kMamba2Input[] = {kGate, kValues, kKeys, kQueries, kDecay};
constexpr LinearPart kMamba2Convolved[] = {kValues, kKeys, kQueries};
constexpr PartsMatrix kMamba2Matrices[] = {{"mixer.in_proj", kMamba2Input}};
constexpr LinearRecipe kMamba2Linear = {.keys = {.heads = "num_heads",
                                                 .key_heads = "n_groups",
                                                 .key_width = "state_size",
                                                 .value_width = "head_dim",
                                                 .expand = "expand",
                                                 .taps = "conv_kernel",
                                                 .bias = "use_bias",
                                                 .convolution_bias = "use_conv_bias"},
                                        .inputs = kMamba2Matrices,
                                        .convolution = "mixer.conv1d",
                                        .convolved = kMamba2Convolved,
                                        .a_log = "mixer.A_log",
                                        .step_bias = "mixer.dt_bias",
                                        .skip = "mixer.D",
                                        .norm_weight = "mixer.norm",
                                        .norm_first = false,
                                        .output = "mixer.out_proj"};
constexpr std::string_view kMamba2NeutralKeys[] = {
    "residual_in_fp32", "rescale_prenorm_residual", "time_step_min", "time_step_max",
    "time_step_floor",  "time_step_rank",           "chunk_size"};

constexpr Recipe kLinearRecipes[] = {
    {.architecture = "MambaForCausalLM",
     .names = kMambaNames,
     .sizes = kMambaSizes,
     .linear = kMambaLinear,
     .attention = false,
     .tied_by_default = true,
     .rotary = false,
     .epsilon_key = "layer_norm_epsilon",
     .neutral_keys = kMambaNeutralKeys,
     .true_only_keys = kMambaTrueOnlyKeys},
    {.architecture = "Mamba2ForCausalLM",
     .names = kMambaNames,
     .sizes = kMambaSizes,
     .linear = kMamba2Linear,
     .attention = false,
     .rotary = false,
     .epsilon_key = "layer_norm_epsilon",
     .neutral_keys = kMamba2NeutralKeys,
     .true_only_keys = kMambaTrueOnlyKeys},
};

}  // namespace

std::span<const Recipe> LinearRecipes() { return kLinearRecipes; }

}  // namespace headroom::convert
