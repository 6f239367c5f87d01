// What a family of checkpoints calls its tensors and configuration keys, as data: one row of a
// table per architecture. A new architecture made of known parts is a new row and nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "convert/recipe_linear.h"
#include "model/model.h"

namespace headroom::convert {

// Names without ".weight" and ".bias"; a layer's names follow its prefix, in which {} is its
// number. Empty: the architecture has no such tensor.
struct TensorNames {
  std::string_view embedding = "model.embed_tokens";
  std::string_view positions = "";  // learned positions, added to the embedding
  std::string_view final_norm = "model.norm";
  std::string_view head = "lm_head";
  std::string_view layer = "model.layers.{}.";
  std::string_view attention_norm = "input_layernorm";  // empty: attention reads its input as it is
  std::string_view query = "self_attn.q_proj";
  std::string_view key = "self_attn.k_proj";
  std::string_view value = "self_attn.v_proj";
  std::string_view query_down = "";       // queries of low rank: `query` reads what this makes,
  std::string_view query_down_norm = "";  // normed
  std::string_view query_key_value = "";  // all three in one matrix, see FusedRows
  std::string_view attention_output = "self_attn.o_proj";
  std::string_view query_norm = "";
  std::string_view key_norm = "";
  std::string_view sinks = "";  // learned sink logits [H], the name in full
  std::string_view attention_post_norm = "";
  std::string_view mlp_norm = "post_attention_layernorm";  // empty: as for attention_norm
  std::string_view gate = "mlp.gate_proj";                 // empty: down(act(up(x)))
  std::string_view up = "mlp.up_proj";
  std::string_view gate_up = "";            // gate rows above up rows, instead of the two
  std::string_view down = "mlp.down_proj";  // empty: there is no MLP
  std::string_view mlp_post_norm = "";
};

// A property that a configuration key states (empty: none does) and its value without the key.
struct Flag {
  std::string_view key = "";
  bool otherwise = false;
};

// How a checkpoint may hold the experts of a layer: behind the layer's prefix, {} is an expert's
// number. Names without it are of one tensor for all experts, [E, rows, columns].
struct ExpertNames {
  std::string_view router = "mlp.gate";
  std::string_view gate = "", up = "";
  std::string_view gate_up = "";  // instead of the two
  std::string_view down = "";
  std::string_view ending = ".weight";  // of matrices' names
  std::string_view bias_ending = ".bias";
  bool transposed = false;  // [E, columns, rows]
  bool interleaved =
      false;           // gate_up's rows are gate, up, gate, up, not all of one and all of other
  bool mxfp4 = false;  // NAME_blocks and NAME_scales, see safetensors.h; never transposed
};

// A shared expert beside the routed ones: out += sigmoid(weight x) * mlp(x), or mlp(x) itself.
struct SharedExpert {
  std::string_view weight = "";                    // of one row: the gate above; empty: none
  std::string_view gate = "", up = "", down = "";  // empty: no shared expert
  std::string_view inner_key = "";
  std::string_view count_key = "";  // instead: how many routed experts it is as wide as
};

struct MixtureRecipe {
  std::span<const ExpertNames> names = {};  // the first that a checkpoint has
  bool bias = false;                        // of the router and the experts
  std::string_view inner_key = "moe_intermediate_size";
  model::ExpertScore score = model::ExpertScore::kSoftmax;
  Flag renormalise = {};
  SharedExpert shared = {};
  std::string_view experts_key = "";  // empty: num_local_experts or num_experts
  std::string_view chosen_key = "num_experts_per_tok";
  std::string_view layers_key = "";        // "4,5,6": layers with experts; without it all but 0
  std::string_view dense_layers_key = "";  // so many layers come first that have none
  std::string_view scale_key = "";         // of the experts' weights
  // Experts are chosen from the topk_group best of n_group groups, where topk_method has this name.
  std::string_view group_method = "";
  std::string_view plain_method = "";  // the name for choosing from all
  std::string_view score_name = "";    // what scoring_func may say
  uint32_t group_best = 1;             // see model::MixtureSpec
  std::string_view choice_bias = "";   // [E], the name in full
  // By decoder_sparse_step and mlp_only_layers; else every layer has experts.
  bool some_layers = false;
  // Gate and up are limited, the gate's activation is x sigmoid(1.702 x), up is offset by 1.
  std::string_view limit_key = "";
  float default_limit = 0.0f;
};

// The rows of TensorNames::query_key_value.
enum class FusedRows : uint8_t {
  kByHead,  // of head h its D query rows, its D key rows, its D value rows; as many KV heads
  kByKind,  // all query rows, all key rows, all value rows
};

// Latent attention. Names as in TensorNames.
struct LatentRecipe {
  std::string_view query = "self_attn.q_proj";
  std::string_view query_down = "self_attn.q_a_proj";
  std::string_view query_down_norm = "self_attn.q_a_layernorm";
  std::string_view query_up = "self_attn.q_b_proj";
  std::string_view down = "self_attn.kv_a_proj_with_mqa";  // latent rows above rotated ones
  std::string_view norm = "self_attn.kv_a_layernorm";
  std::string_view up = "self_attn.kv_b_proj";  // of head h its key rows, its value rows
  std::string_view output = "self_attn.o_proj";
  std::string_view tail = "";  // the rotated rows where they are a matrix of their own
  Flag norms = {"", true};
  double epsilon = 1e-6;  // of these norms
  Flag interleaved = {"", true};
  Flag query_down_bias = {}, query_bias = {};
  bool yarn_scale = true;  // scores are multiplied by the square of YaRN's magnitude
};

enum class WindowRule : uint8_t {
  kNone,             // no layer
  kAll,              // every layer, where sliding_window is set
  kLastLayers,       // layers from max_window_layers on
  kEvenLayers,       // 0, 2, 4 ...
  kEvenFirstLayers,  // the same below max_window_layers
  kPattern,          // all but every sliding_window_pattern-th
  kUnrotatedLayers,  // those of no_rope_layers
};

// Keys of the sizes every model has.
struct SizeKeys {
  std::string_view channels = "hidden_size";
  std::string_view inner = "intermediate_size";
  uint32_t default_inner = 0;  // times C; 0: the key must be there
  std::string_view layers = "num_hidden_layers";
  std::string_view query_heads = "num_attention_heads";
  std::string_view kv_heads = "num_key_value_heads";
  std::string_view query_rank = "";                      // rows of TensorNames::query_down
  std::string_view context = "max_position_embeddings";  // empty: any length
};

// Keys of what the residual and a branch are multiplied by where they meet; empty: 1.
struct BranchKeys {
  std::string_view residual = "", branch = "";
};

struct Recipe {
  std::string_view architecture;
  TensorNames names = {};
  SizeKeys sizes = {};
  std::optional<MixtureRecipe> mixture = {};
  std::optional<LatentRecipe> latent = {};
  std::optional<LinearRecipe> linear = {};
  bool attention = true;           // some layers have it
  std::string_view text_key = "";  // of the object with the text model's keys; empty: outermost
  std::span<const std::string_view> ignored_prefixes = {};  // of tensors of something else
  std::string_view optional_prefix = "";  // of tensor names: some files leave it out
  bool layers_transposed = false;         // the layers' matrices are stored [K, N]
  model::NormKind norm = model::NormKind::kRms;
  bool norm_bias = false;
  bool norm_plus_one = false;        // the file holds w where the norm multiplies by 1 + w
  bool head_norms_over_row = false;  // query_norm, key_norm: over all heads together
  bool head_norms_rotated = false;   // they come behind the rotation
  // The query matrix has of each head its query rows and as many that make a gate: what the head
  // has mixed is multiplied by its sigmoid.
  bool query_gate = false;
  // Layers whose number is no multiple of the value read the keys and values of the last that is,
  // where the flag says so. Norms of keys are their own.
  Flag shares_layers = {};
  std::string_view share_key = "";
  FusedRows fused_rows = FusedRows::kByHead;
  // x + attention(norm(x)) + mlp(norm'(x)) instead of one after the other; without a tensor for
  // mlp_norm the two share one norm.
  Flag parallel = {};
  bool parallel_shares_norm = true;
  Flag query_key_value_bias = {}, attention_output_bias = {}, mlp_bias = {};
  bool head_bias = false;
  bool tied_by_default = false;
  bool scale_embedding = false;  // by sqrt(C)
  bool rotary = true;
  model::RopeLayout rope_layout = model::RopeLayout::kHalfSplit;
  WindowRule windows = WindowRule::kNone;
  bool windows_if_used = false;   // only where use_sliding_window says so
  uint32_t default_head_dim = 0;  // 0: C / H
  uint32_t only_kv_heads = 0;     // the one number of KV heads there is; 0: any

  std::string_view epsilon_key = "rms_norm_eps";
  std::string_view activation_key = "hidden_act";
  std::string_view default_activation = "";  // empty: the key must be there
  std::string_view rope_base_key = "rope_theta";
  double default_rope_base = 10000.0;
  bool unrotated_layers = false;           // by no_rope_layers or no_rope_layer_interval
  std::string_view rotary_share_key = "";  // share of the head that is rotated
  double default_rotary_share = 1.0;
  std::string_view local_rope_base_key = "";  // base of windowed layers
  std::string_view query_scalar_key = "";     // attention scale = value^-1/2
  std::string_view attention_scale_key = "";  // attention scale = value; 1 without the key
  std::string_view embedding_scale_key = "";
  std::string_view residual_scale_key = "";  // of what attention and MLP add to the residual
  // Branches are added to what their norm makes, not to what it reads.
  bool residual_is_normed = false;
  BranchKeys attention_branch = {}, linear_branch = {}, mlp_branch = {};
  std::string_view attention_input_scale_key = "", attention_output_scale_key = "";
  std::string_view key_scale_key = "";   // of keys
  std::string_view mlp_scales_key = "";  // a list: of the gate, of the output
  std::string_view attention_softcap_key = "";
  std::string_view logit_softcap_key = "";
  std::string_view logit_scale_key = "";
  double default_logit_scale = 1.0;
  std::string_view logit_divisor_key = "";

  // Keys that this architecture's published files carry without meaning anything, and such whose
  // other value no recipe executes.
  std::span<const std::string_view> neutral_keys = {};
  std::span<const std::string_view> false_only_keys = {};
  std::span<const std::string_view> true_only_keys = {};
  std::span<const std::string_view> neutral_rope_keys = {};
};

std::vector<const Recipe*> Recipes();
// Of layers that X-EcoMLA and MHA2MLA have put in place of others.
const LatentRecipe& XEcoMlaRecipe();
const LatentRecipe& Mha2MlaRecipe();
const Recipe* FindRecipe(std::string_view architecture);  // nullptr: none

// Keys of config.json that never change what a model computes from tokens.
std::span<const std::string_view> NeutralKeys();
// Keys whose true value means something no recipe executes; absent or false they are neutral.
std::span<const std::string_view> FalseOnlyKeys();
// Endings of tensor names that hold nothing but tables the model can compute.
std::span<const std::string_view> NeutralTensors();

}  // namespace headroom::convert
