#include "convert/gguf_names.h"

#include <utility>

namespace headroom::convert {
namespace {

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama",
     .recipe = "LlamaForCausalLM",
     .window_recipe = "MistralForCausalLM",
     .mixture_recipe = "MixtralForCausalLM",
     .neighbours = true,
     .renormalise = true},
    {.name = "qwen2", .recipe = "Qwen2ForCausalLM"},
    {.name = "qwen3", .recipe = "Qwen3ForCausalLM"},
    {.name = "gemma2",
     .recipe = "Gemma2ForCausalLM",
     .activation = "gelu_pytorch_tanh",
     .window_period = 2,
     .default_window = 4096,
     .wide_scale_layers = 46},
    {.name = "gemma3",
     .recipe = "Gemma3ForCausalLM",
     .activation = "gelu_pytorch_tanh",
     .window_period = 6,
     .wide_scale_layers = 62},
    {.name = "phi3", .recipe = "Phi3ForCausalLM"},
    {.name = "smollm3", .recipe = "SmolLM3ForCausalLM", .neighbours = true, .unrotated_period = 4},
    {.name = "olmo2", .recipe = "Olmo2ForCausalLM"},
    {.name = "granite",
     .recipe = "GraniteForCausalLM",
     .neighbours = true,
     .rotates_if_tuned = true},
    {.name = "starcoder2", .recipe = "Starcoder2ForCausalLM", .activation = "gelu_pytorch_tanh"},
    {.name = "gpt2", .recipe = "GPT2LMHeadModel", .activation = "gelu_new"},
    {.name = "qwen2moe", .recipe = "Qwen2MoeForCausalLM"},
    {.name = "qwen3moe", .recipe = "Qwen3MoeForCausalLM", .renormalise = true},
    {.name = "olmoe", .recipe = "OlmoeForCausalLM"},
    {.name = "granitemoe",
     .recipe = "GraniteMoeForCausalLM",
     .neighbours = true,
     .rotates_if_tuned = true},
    {.name = "gpt-oss",
     .recipe = "GptOssForCausalLM",
     .window_period = 2,
     .mlp_norm = "post_attention_norm",
     .gating = GgufGating::kChosenSoftmax},
    {.name = "mamba", .recipe = "MambaForCausalLM"},
    {.name = "mamba2", .recipe = "Mamba2ForCausalLM"},
};

constexpr ExpertNames kExperts[] = {{.router = "ffn_gate_inp",
                                     .gate = "ffn_gate_exps",
                                     .up = "ffn_up_exps",
                                     .down = "ffn_down_exps"}};

}  // namespace

std::span<const GgufArchitecture> GgufArchitectures() { return kArchitectures; }

TensorNames NamesInGguf(const TensorNames& names, const GgufArchitecture& architecture) {
  TensorNames out = names;
  out.layer = "blk.{}.";
  const std::pair<std::string_view*, std::string_view> pairs[] = {
      {&out.embedding, "token_embd"},
      {&out.positions, "position_embd"},
      {&out.final_norm, "output_norm"},
      {&out.head, "output"},
      {&out.attention_norm, "attn_norm"},
      {&out.query, "attn_q"},
      {&out.key, "attn_k"},
      {&out.value, "attn_v"},
      {&out.query_key_value, "attn_qkv"},
      {&out.attention_output, "attn_output"},
      {&out.query_norm, "attn_q_norm"},
      {&out.key_norm, "attn_k_norm"},
      {&out.sinks, "attn_sinks.weight"},
      {&out.attention_post_norm, "post_attention_norm"},
      {&out.mlp_norm, architecture.mlp_norm},
      {&out.gate, "ffn_gate"},
      {&out.up, "ffn_up"},
      {&out.gate_up, "ffn_up"},
      {&out.down, "ffn_down"},
      {&out.mlp_post_norm, "post_ffw_norm"}};
  for (const auto& [name, in_gguf] : pairs) {
    if (!name->empty()) *name = in_gguf;
  }
  return out;
}

MixtureRecipe MixtureInGguf(const MixtureRecipe& mixture, const GgufArchitecture& architecture) {
  MixtureRecipe out = mixture;
  out.names = kExperts;
  out.renormalise = {"", architecture.renormalise};
  out.some_layers = false;
  if (!out.shared.weight.empty()) {
    out.shared.weight = "ffn_gate_inp_shexp";
    out.shared.gate = "ffn_gate_shexp";
    out.shared.up = "ffn_up_shexp";
    out.shared.down = "ffn_down_shexp";
  }
  return out;
}

}  // namespace headroom::convert
