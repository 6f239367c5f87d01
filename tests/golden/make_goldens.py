"""Makes tiny random checkpoints and their reference logits, one folder per case.

Run with transformers 5.x: python3 make_goldens.py [OUT_DIR] [CASE ...]

Each folder holds config.json, model.safetensors (f32), tokens.json and logits.npy (float32
[T, vocab], one full forward, eager attention). Weights are drawn large enough that every term
counts, and the script proves it: neutralising any one tensor must move the logits, attention must
be neither flat nor one-hot, and the saved folder must load back to the same logits.
"""
import json
import os
import sys

import numpy as np
import torch
import transformers as hf

VOCAB, TOKENS = 64, 28

BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=128, pad_token_id=None, bos_token_id=1,
            eos_token_id=2, attn_implementation="eager", dtype="float32")
GQA = dict(BASE, num_key_value_heads=2, tie_word_embeddings=False)


# Latent attention. Every width is another number, so that none can stand for a second one.
MLA = dict(BASE, hidden_size=48, num_key_value_heads=4, kv_lora_rank=20, q_lora_rank=None,
           qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10, tie_word_embeddings=False)
MLA_MOE = dict(MLA, hidden_size=32, intermediate_size=24, moe_intermediate_size=16,
               first_k_dense_replace=1, n_shared_experts=2, experts_implementation="eager")

MOE = dict(GQA, hidden_size=32, intermediate_size=24, output_router_logits=False,
           experts_implementation="eager")


# Layers with a state in place of cached rows.
SSM = dict(vocab_size=VOCAB, num_hidden_layers=2, pad_token_id=None, bos_token_id=1,
           eos_token_id=2, attn_implementation="eager", dtype="float32", tie_word_embeddings=False)


def rope(theta=100.0, **more):
    return {"rope_theta": theta, "rope_type": "default", **more}


DELTA = dict(SSM, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
             layer_types=["linear_attention", "full_attention", "linear_attention"],
             linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=10,
             linear_value_head_dim=12, linear_conv_kernel_dim=4,
             rope_parameters=rope(partial_rotary_factor=0.5))

MROPE = rope(partial_rotary_factor=0.5, mrope_section=[2, 1, 1], mrope_interleaved=True)
# A tower of images that nothing here looks at.
VISION = dict(
    vision_config=dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, in_channels=1,
                       patch_size=2, spatial_merge_size=1, temporal_patch_size=1,
                       out_hidden_size=32, num_position_embeddings=4),
    image_token_id=60, video_token_id=61, vision_start_token_id=62, vision_end_token_id=63,
    pad_token_id=None, attn_implementation="eager", dtype="float32")

LONGROPE = dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 1.6, 2.0, 2.5],
                long_factor=[1.2, 1.5, 2.0, 3.0, 5.0, 9.0])

# theta is small so that every rotation pair turns visibly within 28 tokens.
CASES = {
    "llama-gqa": ("Llama", dict(GQA, rope_parameters=rope(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16))),
    "llama-mqa": ("Llama", dict(BASE, num_key_value_heads=1, tie_word_embeddings=True,
                                rms_norm_eps=1e-2, rope_parameters=rope())),
    "llama-yarn": ("Llama", dict(GQA, rope_parameters=rope(
        rope_type="yarn", factor=4.0, beta_fast=2.0, beta_slow=0.25,
        original_max_position_embeddings=16))),
    "llama-bias": ("Llama", dict(GQA, attention_bias=True, mlp_bias=True, rope_parameters=rope())),
    "qwen2": ("Qwen2", dict(GQA, rope_parameters=rope())),
    "qwen3": ("Qwen3", dict(BASE, num_key_value_heads=1, head_dim=24, tie_word_embeddings=True,
                            rope_parameters=rope())),
    "gemma2": ("Gemma2", dict(BASE, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=32,
                              sliding_window=8, attn_logit_softcapping=3.0,
                              final_logit_softcapping=5.0, rope_parameters=rope(),
                              layer_types=["sliding_attention", "full_attention"])),
    "gemma3": ("Gemma3", dict(BASE, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=32,
                              sliding_window=8,
                              layer_types=["sliding_attention", "full_attention"],
                              rope_parameters={"sliding_attention": rope(20.0),
                                               "full_attention": rope(500.0, rope_type="linear",
                                                                      factor=4.0)})),
    "mistral": ("Mistral", dict(GQA, head_dim=16, sliding_window=8, rope_parameters=rope())),
    "stablelm": ("StableLm", dict(GQA, use_qkv_bias=True,
                                  rope_parameters=rope(partial_rotary_factor=0.5))),
    "phi": ("Phi", dict(BASE, num_key_value_heads=2,
                        rope_parameters=rope(partial_rotary_factor=0.5))),
    "gpt-neox": ("GPTNeoX", dict(BASE, tie_word_embeddings=True, use_parallel_residual=True,
                                 rope_parameters=rope(partial_rotary_factor=0.25))),
    "starcoder2": ("Starcoder2", dict(BASE, intermediate_size=64, num_key_value_heads=2,
                                      use_bias=True, sliding_window=None, tie_word_embeddings=True,
                                      rope_parameters=rope())),
    "phi3-long": ("Phi3", dict(GQA, sliding_window=8, original_max_position_embeddings=16,
                               rope_parameters=rope(partial_rotary_factor=0.75, **LONGROPE))),
    # Within the original context; the factor alone still scales attention.
    "phi3-short": ("Phi3", dict(BASE, num_key_value_heads=1, tie_word_embeddings=True,
                                original_max_position_embeddings=128,
                                rope_parameters=rope(partial_rotary_factor=0.75, factor=4.0,
                                                     **LONGROPE))),
    "olmo2": ("Olmo2", dict(GQA, attention_bias=True, rope_parameters=rope())),
    "granite": ("Granite", dict(BASE, num_key_value_heads=2, tie_word_embeddings=True,
                                attention_bias=True, mlp_bias=True, embedding_multiplier=1.5,
                                attention_multiplier=0.375, residual_multiplier=0.625,
                                logits_scaling=3.0, rope_parameters=rope())),
    # No bias on keys: without rotation it adds the same to every score of a query.
    "smollm3": ("SmolLM3", dict(BASE, num_key_value_heads=2, mlp_bias=True, no_rope_layers=[0, 1],
                                use_sliding_window=True, sliding_window=8,
                                rope_parameters=rope())),
    "gpt2": ("GPT2", dict(vocab_size=VOCAB, n_embd=48, n_inner=80, n_layer=2, n_head=4,
                          n_positions=128, pad_token_id=None, bos_token_id=1, eos_token_id=2,
                          attn_implementation="eager", dtype="float32")),
    # Mixtures of experts. Unless it matters all layers have them.
    "mixtral": ("Mixtral", dict(MOE, num_local_experts=5, num_experts_per_tok=2, sliding_window=8,
                                rope_parameters=rope())),
    "qwen2-moe": ("Qwen2Moe", dict(MOE, num_hidden_layers=3, decoder_sparse_step=1,
                                   mlp_only_layers=[1], moe_intermediate_size=24,
                                   shared_expert_intermediate_size=32, num_experts=5,
                                   num_experts_per_tok=3, norm_topk_prob=False,
                                   rope_parameters=rope())),
    "qwen3-moe": ("Qwen3Moe", dict(MOE, num_hidden_layers=2, head_dim=24, decoder_sparse_step=2,
                                   moe_intermediate_size=24, num_experts=6, num_experts_per_tok=3,
                                   mlp_only_layers=[], norm_topk_prob=True, rope_parameters=rope())),
    # Every second layer below the second, and all of them.
    "qwen2-moe-window": ("Qwen2Moe", dict(MOE, num_hidden_layers=3, max_window_layers=2,
                                          use_sliding_window=True, sliding_window=8,
                                          intermediate_size=16, moe_intermediate_size=16,
                                          shared_expert_intermediate_size=16, num_experts=4,
                                          num_experts_per_tok=2, norm_topk_prob=False,
                                          rope_parameters=rope())),
    "qwen3-moe-window": ("Qwen3Moe", dict(MOE, head_dim=8, use_sliding_window=True,
                                          sliding_window=8, moe_intermediate_size=16,
                                          num_experts=4, num_experts_per_tok=2,
                                          norm_topk_prob=True, rope_parameters=rope())),
    "olmoe": ("Olmoe", dict(MOE, attention_bias=True, num_experts=6, num_experts_per_tok=2,
                            norm_topk_prob=False, rope_parameters=rope())),
    "granite-moe": ("GraniteMoe", dict(MOE, num_local_experts=4, num_experts_per_tok=2,
                                       attention_bias=True, embedding_multiplier=1.5,
                                       attention_multiplier=0.375, residual_multiplier=0.625,
                                       logits_scaling=3.0, rope_parameters=rope())),
    "gpt-oss": ("GptOss", dict(MOE, head_dim=16, num_local_experts=4, num_experts_per_tok=2,
                               sliding_window=8, attention_bias=True,
                               rope_parameters=rope(rope_type="yarn", factor=4.0, beta_fast=2.0,
                                                    beta_slow=0.25, truncate=False,
                                                    original_max_position_embeddings=16))),
    # As above; its experts are published in 4 bits.
    "gpt-oss-mxfp4": ("GptOss", dict(MOE, intermediate_size=32, head_dim=16, num_local_experts=3,
                                     num_experts_per_tok=2, sliding_window=8, attention_bias=True,
                                     layer_types=["sliding_attention", "full_attention"],
                                     rope_parameters=rope(rope_type="yarn", factor=4.0,
                                                          beta_fast=2.0, beta_slow=0.25,
                                                          truncate=False,
                                                          original_max_position_embeddings=16))),
    "youtu": ("Youtu", dict(MLA, q_lora_rank=28, attention_bias=True, rms_norm_eps=1e-2,
                            tie_word_embeddings=True, rope_parameters=rope())),
    "deepseek-v2": ("DeepseekV2", dict(MLA_MOE, n_routed_experts=5, num_experts_per_tok=2,
                                       n_group=1, topk_group=1, topk_method="greedy",
                                       routed_scaling_factor=1.0, rope_parameters=rope())),
    "deepseek-v2-groups": ("DeepseekV2", dict(
        MLA_MOE, q_lora_rank=28, n_routed_experts=6, num_experts_per_tok=3, n_group=3,
        topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=1.7,
        rope_parameters=rope(rope_type="yarn", factor=4.0, beta_fast=2.0, beta_slow=0.25,
                             original_max_position_embeddings=16, mscale=1.4,
                             mscale_all_dim=0.7))),
    "deepseek-v3": ("DeepseekV3", dict(
        MLA_MOE, q_lora_rank=28, n_routed_experts=6, num_experts_per_tok=3, n_group=3,
        topk_group=2, n_shared_experts=1, norm_topk_prob=True, routed_scaling_factor=2.5,
        rope_parameters=rope(rope_type="yarn", factor=4.0, beta_fast=2.0, beta_slow=0.25,
                             original_max_position_embeddings=16, mscale=1.0,
                             mscale_all_dim=1.0))),
    # Halves instead of neighbours make a rotation pair, no experts.
    "deepseek-v3-dense": ("DeepseekV3", dict(MLA, first_k_dense_replace=2, rope_interleave=False,
                                             rope_parameters=rope())),
    "hunyuan": ("HunYuanDenseV1", dict(GQA, hidden_size=32, head_dim=24, rope_parameters=rope(
        rope_type="dynamic", alpha=3.0, factor=1.0))),
    # Made other models by `as_published`.
    "transmla": ("DeepseekV3", dict(MLA, hidden_size=32, first_k_dense_replace=2,
                                    attention_bias=True, qk_latent_layernorm=False,
                                    rope_parameters=rope())),
    "hunyuan-cla": ("HunYuanDenseV1", dict(GQA, hidden_size=32, head_dim=16, use_cla=True,
                                           num_hidden_layers=3, cla_share_factor=2,
                                           rope_parameters=rope())),
    # Linear attention. Two heads of a state share queries and keys.
    "mamba": ("Mamba", dict(SSM, hidden_size=24, state_size=6, conv_kernel=3, time_step_rank=5,
                            use_bias=True)),
    "mamba2": ("Mamba2", dict(SSM, hidden_size=24, num_heads=4, head_dim=12, expand=2,
                              state_size=10, n_groups=2, conv_kernel=4, use_bias=True)),
    "qwen3.5": ("Qwen3_5", dict(DELTA, intermediate_size=24)),
    # The text model within one that reads images; the latter half is dropped.
    "qwen3.5-vision": ("Qwen3_5", dict(VISION, text_config=dict(
        DELTA, intermediate_size=24, mlp_only_layers=[], attn_output_gate=True,
        rope_parameters=MROPE), tie_word_embeddings=True)),
    "qwen3.5-moe": ("Qwen3_5Moe", dict(VISION, text_config=dict(
        DELTA, num_hidden_layers=2, layer_types=["linear_attention", "full_attention"],
        moe_intermediate_size=12, shared_expert_intermediate_size=16, num_experts=4,
        num_experts_per_tok=2, rope_parameters=MROPE, experts_implementation="eager"),
        tie_word_embeddings=False)),
    "qwen3-next": ("Qwen3Next", dict(DELTA, intermediate_size=16, moe_intermediate_size=12,
                                     shared_expert_intermediate_size=16, num_experts=4,
                                     num_experts_per_tok=2, mlp_only_layers=[0],
                                     attention_bias=True, experts_implementation="eager")),
    "minimax": ("MiniMax", dict(
        SSM, hidden_size=32, intermediate_size=12, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=10, max_position_embeddings=128, rope_parameters=rope(),
        num_local_experts=4, num_experts_per_tok=2, block_size=8, output_router_logits=False,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        full_attn_alpha_factor=1.6, full_attn_beta_factor=0.7, linear_attn_alpha_factor=1.3,
        linear_attn_beta_factor=1.2, mlp_alpha_factor=0.8, mlp_beta_factor=1.4,
        experts_implementation="eager")),
    "falcon-h1": ("FalconH1", dict(
        SSM, hidden_size=32, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, rope_parameters=rope(), mamba_d_ssm=40, mamba_n_heads=4,
        mamba_d_head=10, mamba_n_groups=2, mamba_d_state=8, mamba_rms_norm=True,
        mamba_norm_before_gate=False, mamba_proj_bias=True, projectors_bias=True, mlp_bias=True,
        attention_bias=True, attention_in_multiplier=1.25, attention_out_multiplier=0.75,
        key_multiplier=0.5, ssm_in_multiplier=0.8, ssm_out_multiplier=1.5,
        ssm_multipliers=[0.7, 1.3, 0.9, 1.2, 1.6], mlp_multipliers=[1.4, 0.6],
        embedding_multiplier=1.5, lm_head_multiplier=0.4)),
    "cohere": ("Cohere", dict(BASE, num_key_value_heads=2, logit_scale=0.25, use_qk_norm=False,
                              tie_word_embeddings=True, rope_parameters=rope())),
}

# Where the first draw leaves an expert unused or a choice too close.
SEEDS = {"qwen2-moe": 1, "qwen3-moe": 0}

HEADS = {"GPT2": "LMHeadModel"}

# The library cannot load what it has saved of these.
PATCHED = {"transmla", "hunyuan-cla"}

# Saved with the field names that most published checkpoints still carry.
OLD_NAMES = {"llama-gqa", "llama-yarn", "llama-mqa", "qwen2", "gemma2", "gemma3", "mistral",
             "stablelm", "gpt-neox", "phi3-short", "granite", "mixtral", "qwen3-moe",
             "gpt-oss-mxfp4", "deepseek-v2-groups", "deepseek-v3"}


def build(name):
    family, fields = CASES[name]
    whole = "vision_config" in fields
    text = family in ("Gemma3", "Qwen3_5") and not whole
    config = getattr(hf, family + ("TextConfig" if text else "Config"))(**fields)
    head = "ForConditionalGeneration" if whole else HEADS.get(family, "ForCausalLM")
    model = getattr(hf, family + head)(config).eval().float()
    g = torch.Generator().manual_seed(sum(map(ord, name)) + SEEDS.get(name, 0))
    as_published(name, model)

    def noise(p, std, mean=0.0):
        p.copy_(torch.randn(p.shape, generator=g) * std + mean)

    # they store w of (1 + w)
    gemma = family.startswith(("Gemma", "Qwen3_5", "Qwen3Next"))
    with torch.no_grad():
        for key, p in model.named_parameters():
            stem = key.rsplit(".", 2)[-2]
            if key.endswith(("sinks", "down_proj_bias")):
                noise(p, 1.5)
            elif key.endswith(("dt_bias", "dt_proj.bias")):
                noise(p, 0.5, -1.0)                       # states outlive some tokens
            elif key.endswith(("A_log", "conv1d.weight")):
                noise(p, 0.5)
            elif key.endswith("bias"):
                noise(p, 0.3)
            elif p.dim() == 1:
                noise(p, 0.3, 0.0 if gemma and "linear_attn" not in key else 1.0)
            elif "embed" in key or stem in ("wte", "wpe"):
                noise(p, 0.4 if family.startswith("Gemma") else 1.0)
            elif "gate_up" in key and family == "GptOss":
                noise(p, 0.5)                             # some beyond the limit of 7
            elif stem in ("q_proj", "k_proj", "query_key_value", "qkv_proj", "c_attn", "q_b_proj"):
                noise(p, 0.2)
            else:
                noise(p, 0.3)
        for key, p in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                noise(p, 0.3)
        if name.endswith("mxfp4"):
            to_mxfp4(model, g)
    tokens = torch.randint(3, VOCAB, (TOKENS,), generator=g)
    tokens[TOKENS // 2] = tokens[3]                       # a repeat: equal token, other position
    return model, tokens


def as_published(name, model):
    """The code that came with DeepSeek-V2 multiplies the scores by the square of YaRN's magnitude
    for mscale_all_dim; the library does so for V3 alone, and its V2 lacks a number that choosing
    among groups needs."""
    for module in model.modules():
        if type(module).__name__ == "DeepseekV2Moe":
            module.num_experts = model.config.n_routed_experts
    for layer in model.model.layers if name == "transmla" else []:
        transmla(layer.self_attn)
    for i, layer in enumerate(model.model.layers if name == "hunyuan-cla" else []):
        before = model.model.layers[i - 1].self_attn if i % 2 == 1 else None
        share_keys(layer.self_attn, before)
    rope = model.config.rope_parameters if name.startswith("deepseek-v2") else {}
    if rope.get("mscale_all_dim"):
        magnitude = 0.1 * rope["mscale_all_dim"] * np.log(rope["factor"]) + 1.0
        for layer in model.model.layers:
            layer.self_attn.scaling *= magnitude ** 2


def transmla(attention):
    """As TransMLA's own code has it by default: latents without norms, a bias on queries, none on
    the output."""
    attention.kv_a_layernorm = torch.nn.Identity()
    old = attention.q_proj
    attention.q_proj = torch.nn.Linear(old.in_features, old.out_features, bias=True)
    attention.o_proj = torch.nn.Linear(attention.o_proj.in_features, attention.o_proj.out_features,
                                       bias=False)


def share_keys(attention, before):
    """Sharing across layers as in HunYuan-Large: a follower takes the keys of the layer before it
    behind their rotation and in front of their norm, and its values."""
    from transformers.models.hunyuan_v1_dense import modeling_hunyuan_v1_dense as hunyuan
    if before is not None:
        del attention.k_proj, attention.v_proj

    def forward(hidden_states, position_embeddings, attention_mask, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, attention.head_dim)
        q = attention.q_proj(hidden_states).view(shape).transpose(1, 2)
        if before is None:
            k = attention.k_proj(hidden_states).view(shape).transpose(1, 2)
            v = attention.v_proj(hidden_states).view(shape).transpose(1, 2)
            q, k = hunyuan.apply_rotary_pos_emb(q, k, *position_embeddings)
            attention.shared = k, v
        else:
            k, v = before.shared
            q, _ = hunyuan.apply_rotary_pos_emb(q, q, *position_embeddings)
        q, k = attention.query_layernorm(q), attention.key_layernorm(k)
        out, weights = hunyuan.eager_attention_forward(attention, q, k, v, attention_mask,
                                                       scaling=attention.scaling)
        return attention.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), weights

    attention.forward = forward


def to_mxfp4(model, g):
    """Random 4-bit experts; what they mean is for transformers to say. Kept in model.mxfp4."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    model.mxfp4 = {}
    for key, p in model.named_parameters():
        if key.endswith(("gate_up_proj", "down_proj")):
            experts, columns, rows = p.shape
            low = 123 if "gate_up" in key else 120
            blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), generator=g)
            scales = torch.randint(low, low + 3, (experts, rows, columns // 32), generator=g)
            blocks, scales = blocks.to(torch.uint8), scales.to(torch.uint8)
            model.mxfp4[key + "_blocks"], model.mxfp4[key + "_scales"] = blocks, scales
            p.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))


def save_mxfp4(model, folder):
    """The published form of the checkpoint: what save_pretrained wrote, with packed experts."""
    from safetensors.torch import load_file, save_file
    path = os.path.join(folder, "model.safetensors")
    tensors = {k: v for k, v in load_file(path).items()
               if not k.endswith(("gate_up_proj", "down_proj"))}
    save_file({**tensors, **model.mxfp4}, path, metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config.update(quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]},
        swiglu_limit=7.0, experts_per_token=config["num_experts_per_tok"],
        initial_context_length=16)
    with open(path, "w") as f:
        json.dump(config, f, indent=2, sort_keys=True)
        f.write("\n")


def add_further_head(folder):
    """Something of the head for tokens further on, which published checkpoints have."""
    from safetensors.torch import load_file, save_file
    path = os.path.join(folder, "model.safetensors")
    save_file({**load_file(path), "mtp.norm.weight": torch.zeros(4)}, path,
              metadata={"format": "pt"})


def logits_of(model, tokens):
    with torch.no_grad():
        return model(tokens[None], use_cache=False).logits[0]


def check_experts(name, model, tokens):
    """Every expert is chosen by some token, and no choice is so close that rounding may turn it."""
    if name.startswith("deepseek") or name == "transmla":
        return check_groups(name, model, tokens)
    routers = [m for n, m in model.named_modules() if hasattr(m, "top_k") and "Router" in
               type(m).__name__ or type(m).__name__ == "GraniteMoeTopKGating"]
    seen = []
    hooks = [m.register_forward_hook(lambda m, x, y: seen.append((m.top_k, y))) for m in routers]
    logits_of(model, tokens)
    for hook in hooks:
        hook.remove()
    for top_k, out in seen:
        logits = out[4] if len(out) == 5 else out[0]
        order = logits.sort(dim=-1, descending=True)
        used = order.indices[:, :top_k].unique().numel()
        gap = (order.values[:, top_k - 1] - order.values[:, top_k]).min().item()
        assert used == logits.shape[-1], f"{name}: {used} of {logits.shape[-1]} experts used"
        assert gap > 1e-3, f"{name}: a choice is {gap:.1e} wide"
    return len(seen)


def check_groups(name, model, tokens):
    """As check_experts, where the choice is a method; and the groups' limit decides some choice."""
    mixtures = [m for m in model.modules() if hasattr(m, "route_tokens_to_experts")]
    seen = []
    for m in mixtures:
        def route(logits, m=m, choose=m.route_tokens_to_experts):
            seen.append((m, logits, choose(logits)))
            return seen[-1][2]
        m.route_tokens_to_experts = route
    logits_of(model, tokens)
    for m, logits, (indices, _) in seen:
        del m.route_tokens_to_experts
        count = logits.shape[-1]
        bias = getattr(m.gate, "e_score_correction_bias", None)
        logits = logits.reshape(-1, count)
        score = logits.softmax(-1) if bias is None else logits.sigmoid() + bias
        best = 1 if bias is None else 2
        groups = m.n_group if bias is not None else m.num_group
        by_group = score.view(len(score), groups, -1).topk(best, -1)[0].sum(-1)
        order = by_group.sort(dim=-1, descending=True)
        gap = 1.0
        if m.topk_group < groups:
            gap = (order.values[:, m.topk_group - 1] - order.values[:, m.topk_group]).min().item()
            free = score.topk(m.top_k, -1)[1].sort(-1)[0]
            assert (free != indices.sort(-1)[0]).any(), f"{name}: the groups limit nothing"
        open_groups = torch.zeros_like(by_group).scatter(1, order.indices[:, :m.topk_group], 1.0)
        allowed = open_groups.repeat_interleave(count // groups, 1).bool()
        inside = score.masked_fill(~allowed, -1e9).sort(dim=-1, descending=True)
        gap = min(gap, (inside.values[:, m.top_k - 1] - inside.values[:, m.top_k]).min().item())
        assert torch.equal(inside.indices[:, :m.top_k].sort(-1)[0], indices.sort(-1)[0]), name
        assert indices.unique().numel() == count, f"{name}: {indices.unique().numel()} of {count}"
        assert gap > 1e-4, f"{name}: a choice is {gap:.1e} wide"
    return len(seen)


def check_limit(name, model, tokens):
    """Some gates and some ups of gpt-oss are beyond the limit."""
    for module in model.modules():
        if type(module).__name__ != "GptOssExperts":
            continue
        limit, module.limit = module.limit, 1e9
        free = logits_of(model, tokens)
        module.limit = limit
        moved = (free - logits_of(model, tokens)).abs().max().item()
        assert moved > 0.05, f"{name}: the limit moves the logits by {moved:.4f} only"


def check(name, model, tokens, ref):
    """Every tensor matters."""
    entropy = check_attention(name, model, tokens)
    with torch.no_grad():
        least, which, scale = 1e9, "", ref.std().item()
        for key, p in model.named_parameters():
            if key.startswith("model.visual."):
                continue
            keep = p.clone()
            centred = "gemma" in name or (name.startswith(("qwen3.5", "qwen3-next"))
                                          and "linear_attn" not in key)
            zero = p.dim() > 1 or key.endswith(("bias", "sinks")) or centred
            p.fill_(0.0 if zero else 1.0)
            moved = (logits_of(model, tokens) - ref).abs().max().item() / scale
            p.copy_(keep)
            if moved < least:
                least, which = moved, key
        assert least > 0.02, f"{name}: {which} moves the logits by {least:.4f} of their spread only"
    return entropy, least, which


def attention_outputs(model, tokens):
    seen = []
    hooks = [m.register_forward_hook(lambda m, x, y: seen.append(y[1])) for m in model.modules()
             if type(m).__name__ == "MiniMaxAttention"]
    logits_of(model, tokens)
    for hook in hooks:
        hook.remove()
    return seen


def check_attention(name, model, tokens):
    """Attention is neither flat nor one-hot, where there is any."""
    if name.startswith("mamba"):
        return float("nan")
    with torch.no_grad():
        probs = model(tokens[None], use_cache=False, output_attentions=True).attentions
        if name == "minimax":                             # it shows the other layers' states
            probs = attention_outputs(model, tokens)
        late = [p[0, :, 6:].clamp_min(1e-9) for p in probs]
        seen = [(p > 1e-8).sum(-1).float() for p in late]
        flat = torch.cat([(-(p * p.log()).sum(-1) / s.log()).flatten() for p, s in zip(late, seen)])
        entropy = flat.mean().item()
        assert 0.3 < entropy < 0.95, f"{name}: attention entropy {entropy:.2f} of the flat one"
    return entropy


def old_names(name, c):
    """rope_parameters -> rope_theta, rope_scaling and their like."""
    p = c.pop("rope_parameters")
    if name == "gemma3":
        full, near = p["full_attention"], p["sliding_attention"]
        c["rope_local_base_freq"] = near["rope_theta"]
        c["sliding_window_pattern"] = 2
        p = full
    c["rope_theta"] = p.pop("rope_theta")
    if "partial_rotary_factor" in p:
        c["partial_rotary_factor"] = p.pop("partial_rotary_factor")
        if name == "gpt-neox":
            c["rotary_pct"] = c.pop("partial_rotary_factor")
            c["rotary_emb_base"] = c.pop("rope_theta")
    if name == "phi3-short":
        p["type"] = p.pop("rope_type")
        p.pop("original_max_position_embeddings")         # stands above
    c["rope_scaling"] = p if p.get("type", p.get("rope_type", "default")) != "default" else None
    c["torch_dtype"] = c.pop("dtype", "float32")
    return c


def make(name, out):
    model, tokens = build(name)
    ref = logits_of(model, tokens)
    entropy, least, which = check(name, model, tokens, ref)
    mixtures = check_experts(name, model, tokens)
    check_limit(name, model, tokens)
    fields = CASES[name][1].get("text_config", CASES[name][1])
    assert ("num_experts_per_tok" in fields) == (mixtures > 0), name
    folder = os.path.join(out, name)
    model.save_pretrained(folder)
    extra = os.path.join(folder, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)
    config_file = os.path.join(folder, "config.json")
    if name in OLD_NAMES:
        config = old_names(name, json.load(open(config_file)))
        with open(config_file, "w") as f:
            json.dump(config, f, indent=2, sort_keys=True)
            f.write("\n")
    if name == "mamba2":                                  # as json writes it
        config = json.load(open(config_file))
        config["time_step_limit"] = [0.0, float("inf")]
        with open(config_file, "w") as f:
            json.dump(config, f, indent=2, sort_keys=True)
            f.write("\n")
    if name == "transmla":
        config = json.load(open(config_file))
        config["architectures"] = ["LlamaMLAForCausalLM"]
        for key in [k for k in config if "rout" in k or k in (
                "first_k_dense_replace", "moe_intermediate_size", "n_group", "n_shared_experts",
                "norm_topk_prob", "num_experts_per_tok", "topk_group", "rope_interleave")]:
            del config[key]
        with open(config_file, "w") as f:
            json.dump(config, f, indent=2, sort_keys=True)
            f.write("\n")
    if hasattr(model.model, "visual"):
        add_further_head(folder)
    loader = type(model) if hasattr(model.model, "visual") else hf.AutoModelForCausalLM
    again = model if name in PATCHED else loader.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32)
    if again is not model:
        as_published(name, again)
    drift = (logits_of(again.eval(), tokens) - ref).abs().max().item()
    assert drift < 1e-5, f"{name}: the saved folder computes something else ({drift})"
    if name.endswith("mxfp4"):
        save_mxfp4(model, folder)
    json.dump(tokens.tolist(), open(os.path.join(folder, "tokens.json"), "w"))
    np.save(os.path.join(folder, "logits.npy"), ref.numpy().astype(np.float32))
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    assert size <= 200 * 1024, f"{name}: {size} bytes"
    print(f"{name:11s} {size:7d} bytes, entropy {entropy:.2f}, logits std {ref.std():.2f}, "
          f"weakest tensor {which} {least:.3f}", flush=True)


if __name__ == "__main__":
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for case in sys.argv[2:] or CASES:
        make(case, where)
