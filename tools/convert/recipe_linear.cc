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

// ---- Gated DeltaNet

constexpr LinearKeys kDeltaKeys = {.heads = "linear_num_value_heads",
                                   .key_heads = "linear_num_key_heads",
                                   .key_width = "linear_key_head_dim",
                                   .value_width = "linear_value_head_dim",
                                   .taps = "linear_conv_kernel_dim"};
constexpr LinearPart kQueriesKeysValues[] = {kQueries, kKeys, kValues}, kGateAlone[] = {kGate};

constexpr LinearRecipe DeltaNet(std::span<const PartsMatrix> inputs) {
  return {.layers = LinearLayers::kListed,
          .keys = kDeltaKeys,
          .listed_interval = 4,
          .inputs = inputs,
          .convolution = "linear_attn.conv1d",
          .convolved = kQueriesKeysValues,
          .unit_lengths = true,
          .delta = true,
          .strength = LinearStrength::kSigmoid,
          .a_log = "linear_attn.A_log",
          .step_bias = "linear_attn.dt_bias",
          .norm = LinearNorm::kHead,
          .norm_weight = "linear_attn.norm",
          .output = "linear_attn.out_proj"};
}

constexpr LinearPart kDeltaStrength[] = {kStrength}, kDeltaDecay[] = {kDecay};
constexpr PartsMatrix kQwen35Matrices[] = {{"linear_attn.in_proj_qkv", kQueriesKeysValues},
                                           {"linear_attn.in_proj_z", kGateAlone},
                                           {"linear_attn.in_proj_b", kDeltaStrength},
                                           {"linear_attn.in_proj_a", kDeltaDecay}};

constexpr LinearPart kQwenNextInput[] = {kQueries, kKeys, kValues, kGate};
constexpr LinearPart kQwenNextDecisions[] = {kStrength, kDecay};
constexpr PartsMatrix kQwenNextMatrices[] = {{"linear_attn.in_proj_qkvz", kQwenNextInput, true},
                                             {"linear_attn.in_proj_ba", kQwenNextDecisions, true}};
constexpr MixtureRecipe kQwenNextMixture = {.names = kQwenExperts,
                                            .renormalise = {"norm_topk_prob", true},
                                            .shared = kQwenShared,
                                            .some_layers = true};

// Losses, the head that predicts tokens further on, in which precision states are kept.
constexpr std::string_view kQwenNeutralKeys[] = {"router_aux_loss_coef", "output_router_logits",
                                                 "mtp_num_hidden_layers",
                                                 "mtp_use_dedicated_embeddings", "mamba_ssm_dtype"};
constexpr std::string_view kQwenFalseOnlyKeys[] = {"use_sliding_window"};
constexpr std::string_view kQwenTrueOnlyKeys[] = {"attn_output_gate"};
// Places in images; those of text are alike on every axis.
constexpr std::string_view kQwenNeutralRopeKeys[] = {"mrope_section", "mrope_interleaved"};

constexpr Recipe Qwen(std::string_view architecture, std::span<const PartsMatrix> inputs,
                      std::optional<MixtureRecipe> mixture) {
  return {.architecture = architecture,
          .names = {.query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"},
          .mixture = mixture,
          .linear = DeltaNet(inputs),
          .ignored_prefix = "mtp.",
          .norm_plus_one = true,
          .query_gate = true,
          .query_key_value_bias = {"attention_bias", false},
          .attention_output_bias = {"attention_bias", false},
          .default_head_dim = 256,
          .rotary_share_key = "partial_rotary_factor",
          .default_rotary_share = 0.25,
          .neutral_keys = kQwenNeutralKeys,
          .false_only_keys = kQwenFalseOnlyKeys,
          .true_only_keys = kQwenTrueOnlyKeys,
          .neutral_rope_keys = kQwenNeutralRopeKeys};
}

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
    Qwen("Qwen3_5ForCausalLM", kQwen35Matrices, std::nullopt),
    Qwen("Qwen3NextForCausalLM", kQwenNextMatrices, kQwenNextMixture),
};

}  // namespace

std::span<const Recipe> LinearRecipes() { return kLinearRecipes; }

}  // namespace headroom::convert
