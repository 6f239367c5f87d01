#include "convert/recipe.h"

#include "convert/recipe_parts.h"

namespace headroom::convert {
namespace {

using model::NormKind;
using model::RopeLayout;

constexpr TensorNames kGemma2Names = {.attention_post_norm = "post_attention_layernorm",
                                      .mlp_norm = "pre_feedforward_layernorm",
                                      .mlp_post_norm = "post_feedforward_layernorm"};

constexpr TensorNames kGemma3Names = {.query_norm = "self_attn.q_norm",
                                      .key_norm = "self_attn.k_norm",
                                      .attention_post_norm = "post_attention_layernorm",
                                      .mlp_norm = "pre_feedforward_layernorm",
                                      .mlp_post_norm = "post_feedforward_layernorm"};

constexpr TensorNames kOlmo2Names = {.attention_norm = "",
                                     .query_norm = "self_attn.q_norm",
                                     .key_norm = "self_attn.k_norm",
                                     .attention_post_norm = "post_attention_layernorm",
                                     .mlp_norm = "",
                                     .mlp_post_norm = "post_feedforward_layernorm"};

constexpr TensorNames kPhi3Names = {.query = "",
                                    .key = "",
                                    .value = "",
                                    .query_key_value = "self_attn.qkv_proj",
                                    .gate = "",
                                    .up = "",
                                    .gate_up = "mlp.gate_up_proj"};

// The class to load with custom code, and what only that code would have read.
constexpr std::string_view kPhi3NeutralKeys[] = {"auto_map", "full_attn_mod", "interpolate_factor"};
constexpr std::string_view kPhi3FalseOnlyKeys[] = {"attention_bias", "mlp_bias", "lm_head_bias"};

constexpr TensorNames kGpt2Names = {.embedding = "transformer.wte",
                                    .positions = "transformer.wpe",
                                    .final_norm = "transformer.ln_f",
                                    .layer = "transformer.h.{}.",
                                    .attention_norm = "ln_1",
                                    .query = "",
                                    .key = "",
                                    .value = "",
                                    .query_key_value = "attn.c_attn",
                                    .attention_output = "attn.c_proj",
                                    .mlp_norm = "ln_2",
                                    .gate = "",
                                    .up = "mlp.c_fc",
                                    .down = "mlp.c_proj"};

// The summary belongs to classification heads, the upcast to half precision.
constexpr std::string_view kGpt2NeutralKeys[] = {"n_ctx",
                                                 "reorder_and_upcast_attn",
                                                 "summary_activation",
                                                 "summary_first_dropout",
                                                 "summary_proj_to_labels",
                                                 "summary_type",
                                                 "summary_use_proj"};
constexpr std::string_view kGpt2FalseOnlyKeys[] = {"scale_attn_by_inverse_layer_idx"};
constexpr std::string_view kGpt2TrueOnlyKeys[] = {"scale_attn_weights"};

// ---- Mixtures of experts

constexpr MixtureRecipe kQwen2Mixture = {.names = kQwenExperts,
                                         .renormalise = {"norm_topk_prob", false},
                                         .shared = kQwenShared,
                                         .some_layers = true};
constexpr MixtureRecipe kQwen3Mixture = {
    .names = kQwenExperts, .renormalise = {"norm_topk_prob", false}, .some_layers = true};
constexpr MixtureRecipe kOlmoeMixture = {.names = kQwenExperts,
                                         .inner_key = "intermediate_size",
                                         .renormalise = {"norm_topk_prob", false}};

constexpr ExpertNames kGraniteExperts[] = {{.router = "block_sparse_moe.router.layer",
                                            .gate_up = "block_sparse_moe.input_linear",
                                            .down = "block_sparse_moe.output_linear"}};
constexpr MixtureRecipe kGraniteMixture = {.names = kGraniteExperts,
                                           .inner_key = "intermediate_size",
                                           .score = model::ExpertScore::kChosenSoftmax};

constexpr ExpertNames kGptOssExperts[] = {{.router = "mlp.router",
                                           .gate_up = "mlp.experts.gate_up_proj",
                                           .down = "mlp.experts.down_proj",
                                           .ending = "",
                                           .bias_ending = "_bias",
                                           .interleaved = true,
                                           .mxfp4 = true},
                                          {.router = "mlp.router",
                                           .gate_up = "mlp.experts.gate_up_proj",
                                           .down = "mlp.experts.down_proj",
                                           .ending = "",
                                           .bias_ending = "_bias",
                                           .transposed = true,
                                           .interleaved = true}};
constexpr MixtureRecipe kGptOssMixture = {.names = kGptOssExperts,
                                          .bias = true,
                                          .inner_key = "intermediate_size",
                                          .score = model::ExpertScore::kChosenSoftmax,
                                          .limit_key = "swiglu_limit",
                                          .default_limit = 7.0f};
// The context before YaRN stands in rope_scaling as well, the experts a token under another name.
constexpr std::string_view kGptOssNeutralKeys[] = {"initial_context_length", "experts_per_token",
                                                   "router_aux_loss_coef", "output_router_logits"};

// Of the text model: vLLM's step3_text.py and step3_vl.py, SGLang's step3_vl.py.
constexpr ExpertNames kStep3Experts[] = {
    {.router = "moe.gate", .gate = "moe.gate_proj", .up = "moe.up_proj", .down = "moe.down_proj"}};
constexpr MixtureRecipe kStep3Mixture = {.names = kStep3Experts,
                                         .renormalise = {"norm_expert_weight", true},
                                         .shared = {.gate = "share_expert.gate_proj",
                                                    .up = "share_expert.up_proj",
                                                    .down = "share_expert.down_proj",
                                                    .inner_key = "share_expert_dim"},
                                         .experts_key = "moe_num_experts",
                                         .chosen_key = "moe_top_k",
                                         .layers_key = "moe_layers_enum"};
// Nothing reads the length in training, nor the stride of experts, which the list of layers states.
constexpr std::string_view kStep3NeutralKeys[] = {"auto_map", "max_seq_len", "moe_every_n_layer"};
constexpr std::string_view kStep3TrueOnlyKeys[] = {"use_moe"};

// ---- Latent attention

constexpr SharedExpert kDeepseekShared = {.gate = "mlp.shared_experts.gate_proj",
                                          .up = "mlp.shared_experts.up_proj",
                                          .down = "mlp.shared_experts.down_proj",
                                          .count_key = "n_shared_experts"};
constexpr MixtureRecipe kDeepseekV2Mixture = {.names = kQwenExperts,
                                              .shared = kDeepseekShared,
                                              .experts_key = "n_routed_experts",
                                              .dense_layers_key = "first_k_dense_replace",
                                              .scale_key = "routed_scaling_factor",
                                              .group_method = "group_limited_greedy",
                                              .plain_method = "greedy",
                                              .score_name = "softmax"};
constexpr MixtureRecipe kDeepseekV3Mixture = {.names = kQwenExperts,
                                              .score = model::ExpertScore::kSigmoid,
                                              .renormalise = {"norm_topk_prob", true},
                                              .shared = kDeepseekShared,
                                              .experts_key = "n_routed_experts",
                                              .dense_layers_key = "first_k_dense_replace",
                                              .scale_key = "routed_scaling_factor",
                                              .group_method = "noaux_tc",
                                              .score_name = "sigmoid",
                                              .group_best = 2,
                                              .choice_bias = "mlp.gate.e_score_correction_bias"};
constexpr LatentRecipe kDeepseekLatent = {.interleaved = {"rope_interleave", true},
                                          .query_down_bias = {"attention_bias", false}};
// How training balanced the experts and where they ran; code to load the model with.
constexpr std::string_view kDeepseekNeutralKeys[] = {"aux_loss_alpha", "seq_aux", "ep_size",
                                                     "auto_map"};
constexpr std::string_view kHunYuanNeutralKeys[] = {"eod_token_id", "auto_map"};
constexpr std::string_view kYoutuNeutralKeys[] = {"embedding_initializer_range", "auto_map"};
// Weights over the chosen experts' sum are scaled by some of its codes and not by others.
constexpr std::string_view kDeepseekV2FalseOnlyKeys[] = {"norm_topk_prob"};

// What the models that were made latent by TransMLA keep of the configuration they come from.
constexpr std::string_view kTransMlaNeutralKeys[] = {
    "auto_map", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types"};

// Losses of the router belong to training; some files carry windows that nothing reads.
constexpr std::string_view kMixtureNeutralKeys[] = {"router_aux_loss_coef", "router_jitter_noise",
                                                    "output_router_logits", "sliding_window",
                                                    "max_window_layers"};

constexpr LatentRecipe kXEcoMla = {.query = "mla.q_proj",
                                   .query_down = "mla.q_a_proj",
                                   .query_down_norm = "mla.q_a_layernorm",
                                   .query_up = "mla.q_b_proj",
                                   .down = "mla.kv_a_proj_with_mqa",
                                   .norm = "mla.kv_a_layernorm",
                                   .up = "mla.kv_b_proj",
                                   .output = "mla.out_proj",
                                   .norms = {"use_lora_layer_norm", false},
                                   .query_down_bias = {"attention_bias", false}};
// `up` is two matrices, with "up_k" and "up_v" behind the name.
constexpr LatentRecipe kMha2Mla = {
    .down = "self_attn.kv_proj.down_kv", .up = "self_attn.kv_proj.", .tail = "self_attn.k_r_proj"};
constexpr Recipe kRecipes[] = {
    {.architecture = "LlamaForCausalLM",
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false}},
    {.architecture = "MistralForCausalLM", .windows = WindowRule::kAll},
    {.architecture = "Qwen2ForCausalLM",
     .query_key_value_bias = kYes,
     .windows = WindowRule::kLastLayers,
     .windows_if_used = true},
    {.architecture = "Qwen3ForCausalLM",
     .names = {.query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"},
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .windows = WindowRule::kLastLayers,
     .windows_if_used = true,
     .default_head_dim = 128},
    {.architecture = "Gemma2ForCausalLM",
     .names = kGemma2Names,
     .norm_plus_one = true,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .tied_by_default = true,
     .scale_embedding = true,
     .windows = WindowRule::kEvenLayers,
     .default_head_dim = 256,
     .activation_key = "hidden_activation",
     .query_scalar_key = "query_pre_attn_scalar",
     .attention_softcap_key = "attn_logit_softcapping",
     .logit_softcap_key = "final_logit_softcapping"},
    {.architecture = "Gemma3ForCausalLM",
     .names = kGemma3Names,
     .norm_plus_one = true,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .tied_by_default = true,
     .scale_embedding = true,
     .windows = WindowRule::kPattern,
     .default_head_dim = 256,
     .activation_key = "hidden_activation",
     .local_rope_base_key = "rope_local_base_freq",
     .query_scalar_key = "query_pre_attn_scalar",
     .attention_softcap_key = "attn_logit_softcapping",
     .logit_softcap_key = "final_logit_softcapping"},
    {.architecture = "Phi3ForCausalLM",
     .names = kPhi3Names,
     .fused_rows = FusedRows::kByKind,
     .windows = WindowRule::kAll,
     .rotary_share_key = "partial_rotary_factor",
     .neutral_keys = kPhi3NeutralKeys,
     .false_only_keys = kPhi3FalseOnlyKeys},
    {.architecture = "Olmo2ForCausalLM",
     .names = kOlmo2Names,
     .head_norms_over_row = true,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false}},
    {.architecture = "GraniteForCausalLM",
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false},
     .attention_scale_key = "attention_multiplier",
     .embedding_scale_key = "embedding_multiplier",
     .residual_scale_key = "residual_multiplier",
     .logit_divisor_key = "logits_scaling"},
    {.architecture = "SmolLM3ForCausalLM",
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false},
     .tied_by_default = true,
     .windows = WindowRule::kUnrotatedLayers,
     .windows_if_used = true,
     .default_rope_base = 2000000.0,
     .unrotated_layers = true},
    {.architecture = "Starcoder2ForCausalLM",
     .names = {.gate = "", .up = "mlp.c_fc", .down = "mlp.c_proj"},
     .norm = NormKind::kLayer,
     .norm_bias = true,
     .query_key_value_bias = {"use_bias", true},
     .attention_output_bias = {"use_bias", true},
     .mlp_bias = {"use_bias", true},
     .tied_by_default = true,
     .windows = WindowRule::kAll,
     .epsilon_key = "norm_epsilon"},
    {.architecture = "StableLmForCausalLM",
     .norm = NormKind::kLayer,
     .norm_bias = true,
     .parallel = {"use_parallel_residual", false},
     .query_key_value_bias = {"use_qkv_bias", false},
     .epsilon_key = "layer_norm_eps",
     .rotary_share_key = "partial_rotary_factor",
     .default_rotary_share = 0.25},
    {.architecture = "PhiForCausalLM",
     .names = {.final_norm = "model.final_layernorm",
               .attention_output = "self_attn.dense",
               .gate = "",
               .up = "mlp.fc1",
               .down = "mlp.fc2"},
     .norm = NormKind::kLayer,
     .norm_bias = true,
     .parallel = kYes,
     .query_key_value_bias = kYes,
     .attention_output_bias = kYes,
     .mlp_bias = kYes,
     .head_bias = true,
     .epsilon_key = "layer_norm_eps",
     .rotary_share_key = "partial_rotary_factor",
     .default_rotary_share = 0.5},
    {.architecture = "GPTNeoXForCausalLM",
     .names = {.embedding = "gpt_neox.embed_in",
               .final_norm = "gpt_neox.final_layer_norm",
               .head = "embed_out",
               .layer = "gpt_neox.layers.{}.",
               .query = "",
               .key = "",
               .value = "",
               .query_key_value = "attention.query_key_value",
               .attention_output = "attention.dense",
               .gate = "",
               .up = "mlp.dense_h_to_4h",
               .down = "mlp.dense_4h_to_h"},
     .norm = NormKind::kLayer,
     .norm_bias = true,
     .parallel = {"use_parallel_residual", true},
     .parallel_shares_norm = false,
     .query_key_value_bias = {"attention_bias", true},
     .attention_output_bias = {"attention_bias", true},
     .mlp_bias = kYes,
     .epsilon_key = "layer_norm_eps",
     .rope_base_key = "rotary_emb_base",
     .rotary_share_key = "rotary_pct",
     .default_rotary_share = 0.25},
    {.architecture = "GPT2LMHeadModel",
     .names = kGpt2Names,
     .sizes = {.channels = "n_embd",
               .inner = "n_inner",
               .default_inner = 4,
               .layers = "n_layer",
               .query_heads = "n_head",
               .context = "n_positions"},
     .optional_prefix = "transformer.",
     .layers_transposed = true,
     .norm = NormKind::kLayer,
     .norm_bias = true,
     .fused_rows = FusedRows::kByKind,
     .query_key_value_bias = kYes,
     .attention_output_bias = kYes,
     .mlp_bias = kYes,
     .tied_by_default = true,
     .rotary = false,
     .epsilon_key = "layer_norm_epsilon",
     .activation_key = "activation_function",
     .neutral_keys = kGpt2NeutralKeys,
     .false_only_keys = kGpt2FalseOnlyKeys,
     .true_only_keys = kGpt2TrueOnlyKeys},
    {.architecture = "MixtralForCausalLM",
     .mixture = kMixtralMixture,
     .windows = WindowRule::kAll,
     .neutral_keys = kMixtureNeutralKeys},
    {.architecture = "Qwen2MoeForCausalLM",
     .mixture = kQwen2Mixture,
     .query_key_value_bias = {"qkv_bias", true},
     .windows = WindowRule::kEvenFirstLayers,
     .windows_if_used = true,
     .neutral_keys = kMixtureNeutralKeys},
    {.architecture = "Qwen3MoeForCausalLM",
     .names = {.query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"},
     .mixture = kQwen3Mixture,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .windows = WindowRule::kAll,
     .windows_if_used = true,
     .neutral_keys = kMixtureNeutralKeys},
    {.architecture = "OlmoeForCausalLM",
     .names = {.query_norm = "self_attn.q_norm", .key_norm = "self_attn.k_norm"},
     .mixture = kOlmoeMixture,
     .head_norms_over_row = true,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .neutral_keys = kMixtureNeutralKeys},
    {.architecture = "GraniteMoeForCausalLM",
     .mixture = kGraniteMixture,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .attention_scale_key = "attention_multiplier",
     .embedding_scale_key = "embedding_multiplier",
     .residual_scale_key = "residual_multiplier",
     .logit_divisor_key = "logits_scaling",
     .neutral_keys = kMixtureNeutralKeys},
    {.architecture = "GptOssForCausalLM",
     .names = {.sinks = "self_attn.sinks"},
     .mixture = kGptOssMixture,
     .query_key_value_bias = {"attention_bias", true},
     .attention_output_bias = {"attention_bias", true},
     .windows = WindowRule::kEvenLayers,
     .default_head_dim = 64,
     .default_rope_base = 150000.0,
     .neutral_keys = kGptOssNeutralKeys},
    {.architecture = "Step3TextForCausalLM",
     .names = {.query = "self_attn.wq",
               .query_down = "self_attn.q_proj",
               .query_down_norm = "self_attn.inter_norm"},
     .sizes = {.kv_heads = "num_attention_groups",
               .query_rank = "share_q_dim",
               .context = "max_position_embedding"},
     .mixture = kStep3Mixture,
     .only_kv_heads = 1,
     .default_activation = "silu",
     .default_rope_base = 500000.0,
     .neutral_keys = kStep3NeutralKeys,
     .true_only_keys = kStep3TrueOnlyKeys},
    {.architecture = "DeepseekV2ForCausalLM",
     .mixture = kDeepseekV2Mixture,
     .latent = kDeepseekLatent,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false},
     .neutral_keys = kDeepseekNeutralKeys,
     .false_only_keys = kDeepseekV2FalseOnlyKeys},
    {.architecture = "DeepseekV3ForCausalLM",
     .mixture = kDeepseekV3Mixture,
     .latent = kDeepseekLatent,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .neutral_keys = kDeepseekNeutralKeys},
    {.architecture = "YoutuForCausalLM",
     .latent = kDeepseekLatent,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .tied_by_default = true,
     .neutral_keys = kYoutuNeutralKeys},
    {.architecture = "LlamaMLAForCausalLM",
     .latent = LatentRecipe{.norms = {"qk_latent_layernorm", true},
                            .query_bias = {"attention_bias", false},
                            .yarn_scale = false},
     .query_key_value_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false},
     .neutral_keys = kTransMlaNeutralKeys},
    {.architecture = "HunYuanDenseV1ForCausalLM",
     .names = {.query_norm = "self_attn.query_layernorm", .key_norm = "self_attn.key_layernorm"},
     .head_norms_rotated = true,
     .shares_layers = {"use_cla", false},
     .share_key = "cla_share_factor",
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .neutral_keys = kHunYuanNeutralKeys},
    {.architecture = "CohereForCausalLM",
     .norm = NormKind::kLayer,
     .parallel = kYes,
     .query_key_value_bias = {"attention_bias", false},
     .attention_output_bias = {"attention_bias", false},
     .tied_by_default = true,
     .rope_layout = RopeLayout::kInterleaved,
     .epsilon_key = "layer_norm_eps",
     .logit_scale_key = "logit_scale",
     .default_logit_scale = 0.0625},
};

constexpr std::string_view kNeutralKeys[] = {
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "_name_or_path",
    "use_cache",
    "initializer_range",
    "bos_token_id",
    "pad_token_id",
    "eos_token_id",
    "unk_token_id",
    "tokenizer_class",
    "cache_implementation",
    "_attn_implementation_autoset",
    "transformers.js_config",
    "is_llama_config",
    "unsloth_fixed",
    "unsloth_version",
    // dropout and what else only training sees
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "residual_dropout",
    "embedding_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "gradient_checkpointing",
    "initializer_factor",
    // how a computation is carried out, not what it is
    "pretraining_tp",
    "use_flash_attn",
    "flash_attn",
    "fused_dense",
    // said again by other keys or by the tensors
    "_sliding_window_pattern",
    "original_max_position_embeddings",
    // labels
    "id2label",
    "label2id",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "is_decoder",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "return_dict_in_generate",
};

constexpr std::string_view kFalseOnlyKeys[] = {
    "qk_layernorm",        "use_qk_norm",        "use_bidirectional_attention",
    "add_cross_attention", "is_encoder_decoder", "rope_interleaved",
    "use_mrope",
};

constexpr std::string_view kNeutralTensors[] = {
    ".rotary_emb.inv_freq",
    ".attention.masked_bias",
    ".attention.bias",
    ".attn.masked_bias",
    ".attn.bias",
    // decays of Lightning attention
    ".slope_rate",
    ".query_decay",
    ".key_decay",
    ".diagonal_decay",
};

}  // namespace

const LatentRecipe& XEcoMlaRecipe() { return kXEcoMla; }
const LatentRecipe& Mha2MlaRecipe() { return kMha2Mla; }

std::vector<const Recipe*> Recipes() {
  std::vector<const Recipe*> all;
  for (const std::span<const Recipe> table : {std::span<const Recipe>(kRecipes), LinearRecipes()}) {
    for (const Recipe& recipe : table) all.push_back(&recipe);
  }
  return all;
}

const Recipe* FindRecipe(std::string_view architecture) {
  for (const Recipe* recipe : Recipes()) {
    if (recipe->architecture == architecture) return recipe;
  }
  return nullptr;
}

std::span<const std::string_view> NeutralKeys() { return kNeutralKeys; }
std::span<const std::string_view> FalseOnlyKeys() { return kFalseOnlyKeys; }
std::span<const std::string_view> NeutralTensors() { return kNeutralTensors; }

}  // namespace headroom::convert
