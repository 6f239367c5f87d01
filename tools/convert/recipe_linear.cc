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

constexpr PartsMatrix kFalconMatrices[] = {{"mamba.in_proj", kMamba2Input}};
constexpr LinearRecipe kFalconLinear = {.layers = LinearLayers::kBeside,
                                        .keys = {.heads = "mamba_n_heads",
                                                 .key_heads = "mamba_n_groups",
                                                 .key_width = "mamba_d_state",
                                                 .value_width = "mamba_d_head",
                                                 .inner = "mamba_d_ssm",
                                                 .expand = "mamba_expand",
                                                 .taps = "mamba_d_conv",
                                                 .bias = "mamba_proj_bias",
                                                 .output_bias = "projectors_bias",
                                                 .convolution_bias = "mamba_conv_bias",
                                                 .norm = "mamba_rms_norm",
                                                 .norm_first = "mamba_norm_before_gate",
                                                 .input_scale = "ssm_in_multiplier",
                                                 .part_scales = "ssm_multipliers",
                                                 .output_scale = "ssm_out_multiplier"},
                                        .inputs = kFalconMatrices,
                                        .convolution = "mamba.conv1d",
                                        .convolved = kMamba2Convolved,
                                        .a_log = "mamba.A_log",
                                        .step_bias = "mamba.dt_bias",
                                        .skip = "mamba.D",
                                        .norm_weight = "mamba.norm",
                                        .norm_groups = true,
                                        .output = "mamba.out_proj"};
constexpr std::string_view kFalconNeutralKeys[] = {"num_logits_to_keep", "mamba_chunk_size",
                                                   "time_step_min",      "time_step_max",
                                                   "time_step_floor",    "mlp_expansion_factor"};
constexpr std::string_view kFalconTrueOnlyKeys[] = {"mamba_use_mlp"};

// ---- Gated DeltaNet

constexpr LinearKeys kDeltaKeys = {.heads = "linear_num_value_heads",
                                   .key_heads = "linear_num_key_heads",
                                   .key_width = "linear_key_head_dim",
                                   .value_width = "linear_value_head_dim",
                                   .taps = "linear_conv_kernel_dim",
                                   .gate_activation = "output_gate_type"};
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

// Every layer has experts, and those of a token weigh 1 together.
constexpr MixtureRecipe kQwen35Mixture = {
    .names = kQwenExperts, .renormalise = kYes, .shared = kQwenShared};

// Losses, the head that predicts tokens further on, in which precision states are kept, and what
// stands for images. A list of layers without experts counts where the recipe's mixture reads it.
constexpr std::string_view kQwenNeutralKeys[] = {
    "router_aux_loss_coef",  "output_router_logits",
    "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings",
    "mamba_ssm_dtype",       "mlp_only_layers",
    "vision_config",         "image_token_id",
    "video_token_id",        "vision_start_token_id",
    "vision_end_token_id",   "language_model_only"};
constexpr std::string_view kQwenFalseOnlyKeys[] = {"use_sliding_window"};
constexpr std::string_view kQwenTrueOnlyKeys[] = {"attn_output_gate"};
constexpr std::string_view kQwen35TrueOnlyKeys[] = {"attn_output_gate", "norm_topk_prob"};
// Places in images; those of text are alike on every axis.
constexpr std::string_view kQwenNeutralRopeKeys[] = {"mrope_section", "mrope_interleaved"};
// The head that predicts tokens further on, and what reads images.
constexpr std::string_view kQwenIgnored[] = {"mtp.", "model.visual."};

constexpr Recipe Qwen(std::string_view architecture, std::span<const PartsMatrix> inputs,
                      std::optional<MixtureRecipe> mixture) {
  return {.architecture = architecture,
          .names = {.query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"},
          .mixture = mixture,
          .linear = DeltaNet(inputs),
          .ignored_prefixes = kQwenIgnored,
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

constexpr Recipe Qwen35(std::string_view architecture, std::optional<MixtureRecipe> mixture) {
  Recipe recipe = Qwen(architecture, kQwen35Matrices, mixture);
  recipe.true_only_keys = kQwen35TrueOnlyKeys;
  if (mixture) recipe.sizes.inner = mixture->inner_key;  // no layer has another MLP
  return recipe;
}

// The text model within one that also reads images.
constexpr Recipe Within(Recipe recipe) {
  recipe.text_key = "text_config";
  recipe.names.embedding = "model.language_model.embed_tokens";
  recipe.names.final_norm = "model.language_model.norm";
  recipe.names.layer = "model.language_model.layers.{}.";
  return recipe;
}

// ---- Lightning attention

constexpr PartsMatrix kMiniMaxMatrices[] = {{"self_attn.qkv_proj", kQueriesKeysValues, true},
                                            {"self_attn.output_gate", kGateAlone}};
constexpr LinearRecipe kMiniMaxLinear = {.layers = LinearLayers::kListed,
                                         .inputs = kMiniMaxMatrices,
                                         .activated = true,
                                         .decay = LinearDecay::kSlopes,
                                         .strength = LinearStrength::kOne,
                                         .norm_weight = "self_attn.norm",
                                         .norm_epsilon = 1e-6,
                                         .sigmoid_gate = true,
                                         .output = "self_attn.out_proj"};
constexpr std::string_view kMiniMaxNeutralKeys[] = {"router_aux_loss_coef", "router_jitter_noise",
                                                    "output_router_logits", "block_size"};

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
    {.architecture = "FalconH1ForCausalLM",
     .names = {.final_norm = "model.final_layernorm",
               .mlp_norm = "pre_ff_layernorm",
               .gate = "feed_forward.gate_proj",
               .up = "feed_forward.up_proj",
               .down = "feed_forward.down_proj"},
     .linear = kFalconLinear,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false},
     .embedding_scale_key = "embedding_multiplier",
     .attention_input_scale_key = "attention_in_multiplier",
     .attention_output_scale_key = "attention_out_multiplier",
     .key_scale_key = "key_multiplier",
     .mlp_scales_key = "mlp_multipliers",
     .logit_scale_key = "lm_head_multiplier",
     .neutral_keys = kFalconNeutralKeys,
     .true_only_keys = kFalconTrueOnlyKeys},
    {.architecture = "MiniMaxForCausalLM",
     .mixture = kMixtralMixture,
     .linear = kMiniMaxLinear,
     .default_rope_base = 1000000.0,
     .residual_is_normed = true,
     .attention_branch = {"full_attn_alpha_factor", "full_attn_beta_factor"},
     .linear_branch = {"linear_attn_alpha_factor", "linear_attn_beta_factor"},
     .mlp_branch = {"mlp_alpha_factor", "mlp_beta_factor"},
     .neutral_keys = kMiniMaxNeutralKeys},
    Qwen35("Qwen3_5ForCausalLM", std::nullopt),
    Within(Qwen35("Qwen3_5ForConditionalGeneration", std::nullopt)),
    Qwen35("Qwen3_5MoeForCausalLM", kQwen35Mixture),
    Within(Qwen35("Qwen3_5MoeForConditionalGeneration", kQwen35Mixture)),
    Qwen("Qwen3NextForCausalLM", kQwenNextMatrices, kQwenNextMixture),
};

}  // namespace

std::span<const Recipe> LinearRecipes() { return kLinearRecipes; }

}  // namespace headroom::convert
