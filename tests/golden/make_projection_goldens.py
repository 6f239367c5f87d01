"""Makes tiny random checkpoints of layouts that transformers does not know, and their logits.

Run with torch and safetensors: python3 make_projection_goldens.py [OUT_DIR] [CASE ...]

The reference is the forward pass below, written from the papers and the authors' public code, which
are named at each case: keys and values are expanded, so that it is independent of a cache that
holds latents. Folders as make_goldens.py writes them; no tensor may move the logits by less than
2 % of their spread.
"""
import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

VOCAB, TOKENS, C, F, H, LAYERS, EPSILON, THETA = 64, 28, 32, 32, 4, 2, 1e-5, 100.0
LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCAB, hidden_size=C,
             intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=H, hidden_act="silu",
             max_position_embeddings=128, rms_norm_eps=EPSILON, rope_theta=THETA, bos_token_id=1,
             eos_token_id=2, tie_word_embeddings=False, torch_dtype="float32")


def rms(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


def frequencies(dims):
    return THETA ** (-torch.arange(0, dims, 2).double() / dims)


def rotate(x, inverse, interleaved):
    """x [T, heads, dims]; pairs are neighbours or halves."""
    angle = torch.arange(x.shape[0]).double()[:, None] * inverse
    cos, sin = angle.cos().float()[:, None], angle.sin().float()[:, None]
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q, k, v, scale):
    """q [T, H, d], k and v with as many heads or a divisor."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    v = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    logits = torch.einsum("thd,shd->hts", q, k) * scale
    logits = logits.masked_fill(torch.triu(torch.ones(logits.shape[1:]), 1).bool(), -1e30)
    p = logits.softmax(-1)
    seen = torch.arange(1, len(q) + 1).log()[6:]
    ENTROPY.append((-(p * p.clamp_min(1e-9).log()).sum(-1)[:, 6:] / seen).mean().item())
    return torch.einsum("hts,shd->thd", p, v).flatten(1)


ENTROPY = []


def grouped(w, x, groups=2, width=8):
    """A Llama layer's attention."""
    heads = lambda name, n: (x @ w["self_attn." + name + ".weight"].T).view(len(x), n, -1)
    q, k, v = heads("q_proj", H), heads("k_proj", groups), heads("v_proj", groups)
    inverse = frequencies(width)
    q, k = rotate(q, inverse, False), rotate(k, inverse, False)
    return attend(q, k, v, width ** -0.5) @ w["self_attn.o_proj.weight"].T


def grouped_shapes(groups=2, width=8):
    return {"self_attn.q_proj": (H * width, C), "self_attn.k_proj": (groups * width, C),
            "self_attn.v_proj": (groups * width, C), "self_attn.o_proj": (C, H * width)}


# X-EcoMLA (arXiv 2503.11132; AMD-AIG-AIMA/AMD-Hybrid-Models, X-EcoMLA/mla/hybrid_mla_layer.py): some
# layers stay as they were, the others are latent without norms, each with ranks of its own.
PART, TAIL, VALUE = 6, 4, 8
RANKS = {"1": {"q_rank": 20, "kv_rank": 12}, "2": {"q_rank": 14, "kv_rank": 10}}


def xeco_shapes(i):
    if i == 0:
        return grouped_shapes()
    r, rq = RANKS[str(i)]["kv_rank"], RANKS[str(i)]["q_rank"]
    return {"mla.q_a_proj": (rq, C), "mla.q_b_proj": (H * (PART + TAIL), rq),
            "mla.kv_a_proj_with_mqa": (r + TAIL, C), "mla.kv_b_proj": (H * (PART + VALUE), r),
            "mla.out_proj": (C, H * VALUE)}


def xeco(w, x, i):
    if i == 0:
        return grouped(w, x)
    get = lambda name: w["mla." + name + ".weight"]
    r = RANKS[str(i)]["kv_rank"]
    q = (x @ get("q_a_proj").T @ get("q_b_proj").T).view(len(x), H, -1)
    z = x @ get("kv_a_proj_with_mqa").T
    kv = (z[:, :r] @ get("kv_b_proj").T).view(len(x), H, -1)
    inverse = frequencies(TAIL)
    q_tail = rotate(q[..., PART:], inverse, True)
    k_tail = rotate(z[:, None, r:], inverse, True).expand(-1, H, -1)
    q = torch.cat([q[..., :PART], q_tail], -1)
    k = torch.cat([kv[..., :PART], k_tail], -1)
    return attend(q, k, kv[..., PART:], (PART + TAIL) ** -0.5) @ get("out_proj").T


# MHA2MLA (arXiv 2502.14837; JT-Ushio/MHA2MLA, src/mha2mla/patching_llama.py, patch_func.py): a
# rotated key for each KV head, of some of the head's pairs; queries with the rotated parts of all
# heads first. The arguments it was run with, which its checkpoints do not hold, stand in config.json.
G, D, DR, LOW_RANK = 2, 8, 4, 7
MHA2MLA = dict(partial_rope_version="uniform", rope_dim_for_mla=DR, uniform_start_point=1,
               low_rank=LOW_RANK, svd_init_method="joint", is_gqa2mha2mla=False)


def mha2mla_shapes(_):
    r = LOW_RANK * G
    return {"self_attn.q_proj": (H * D, C), "self_attn.k_r_proj": (G * DR, C),
            "self_attn.kv_proj.down_kv": (r, C), "self_attn.kv_proj.up_k": (G * (D - DR), r),
            "self_attn.kv_proj.up_v": (G * D, r), "self_attn.o_proj": (C, H * D)}


def mha2mla(w, x, _):
    get = lambda name: w["self_attn." + name + ".weight"]
    inverse = frequencies(D)[1::2]                  # start 1, step D / DR = 2 of the D / 2 pairs
    q = x @ get("q_proj").T
    q_r = rotate(q[:, :H * DR].view(len(x), H, DR), inverse, False)
    q_c = q[:, H * DR:].view(len(x), H, D - DR)
    k_r = rotate((x @ get("k_r_proj").T).view(len(x), G, DR), inverse, False)
    c = x @ get("kv_proj.down_kv").T
    k_c = (c @ get("kv_proj.up_k").T).view(len(x), G, D - DR)
    v = (c @ get("kv_proj.up_v").T).view(len(x), G, D)
    return attend(torch.cat([q_r, q_c], -1), torch.cat([k_r, k_c], -1), v,
                  D ** -0.5) @ get("o_proj").T


# Step-3's text model (arXiv 2507.19427; vllm-project/vllm, vllm/model_executor/models/step3_text.py,
# transformers_utils/configs/step3_vl.py; sgl-project/sglang, python/sglang/srt/models/step3_vl.py):
# one wide KV head (MFA), queries made of normed rows of low rank; experts in the layers of a list,
# softmax over all of them, the chosen ones' weights as they are or over their sum, beside an expert
# that every token takes.
STEP3_RANK, STEP3_WIDTH, EXPERTS, CHOSEN, EXPERT_F, SHARED_F = 12, 16, 5, 2, 10, 14
STEP3 = dict({k: v for k, v in LLAMA.items() if k not in ("max_position_embeddings", "hidden_act")},
             architectures=["Step3TextForCausalLM"], model_type="step3_text", num_hidden_layers=3,
             max_position_embedding=128, max_seq_len=128, num_attention_groups=1,
             head_dim=STEP3_WIDTH, share_q_dim=STEP3_RANK, moe_num_experts=EXPERTS,
             moe_top_k=CHOSEN, moe_intermediate_size=EXPERT_F, share_expert_dim=SHARED_F,
             use_moe=True, moe_every_n_layer=1)


def step3_shapes(_):
    return {"self_attn.q_proj": (STEP3_RANK, C), "self_attn.inter_norm": (STEP3_RANK,),
            "self_attn.wq": (H * STEP3_WIDTH, STEP3_RANK), "self_attn.k_proj": (STEP3_WIDTH, C),
            "self_attn.v_proj": (STEP3_WIDTH, C), "self_attn.o_proj": (C, H * STEP3_WIDTH)}


def step3(w, x, _):
    get = lambda name: w["self_attn." + name + ".weight"]
    q = (rms(x @ get("q_proj").T, get("inter_norm")) @ get("wq").T).view(len(x), H, STEP3_WIDTH)
    k, v = (x @ get("k_proj").T)[:, None], (x @ get("v_proj").T)[:, None]
    inverse = frequencies(STEP3_WIDTH)
    return attend(rotate(q, inverse, False), rotate(k, inverse, False), v,
                  STEP3_WIDTH ** -0.5) @ get("o_proj").T


def step3_has_experts(config, i):
    listed = config.get("moe_layers_enum")
    return i in map(int, listed.split(",")) if listed else i > 0


def step3_mlp_shapes(config, i):
    if not step3_has_experts(config, i):
        return DENSE_SHAPES
    return {"moe.gate": (EXPERTS, C), "moe.gate_proj": (EXPERTS, EXPERT_F, C),
            "moe.up_proj": (EXPERTS, EXPERT_F, C), "moe.down_proj": (EXPERTS, C, EXPERT_F),
            "share_expert.gate_proj": (SHARED_F, C), "share_expert.up_proj": (SHARED_F, C),
            "share_expert.down_proj": (C, SHARED_F)}


def step3_mlp(w, y, config, i):
    if not step3_has_experts(config, i):
        return dense(w, y)
    scores = (y @ w["moe.gate.weight"].T).softmax(-1)
    weights, chosen = scores.topk(CHOSEN, -1)
    best = scores.topk(CHOSEN + 1, -1)[0]
    ROUTED.append((len(chosen.unique()), (best[:, -2] - best[:, -1]).min().item()))
    if config["norm_expert_weight"]:
        weights = weights / weights.sum(-1, keepdim=True)
    out = swiglu(y, *(w[f"share_expert.{part}_proj.weight"] for part in ("gate", "up", "down")))
    for t in range(len(y)):
        for weight, e in zip(weights[t], chosen[t].tolist()):
            expert = (w[f"moe.{part}_proj.weight"][e] for part in ("gate", "up", "down"))
            out[t] = out[t] + weight * swiglu(y[t], *expert)
    return out


ROUTED = []  # how many experts of a layer are chosen at all, and by how little
DENSE_SHAPES = {"mlp.gate_proj": (F, C), "mlp.up_proj": (F, C), "mlp.down_proj": (C, F)}


def swiglu(y, gate, up, down):
    return (torch.nn.functional.silu(y @ gate.T) * (y @ up.T)) @ down.T


def dense(w, y, *_):
    return swiglu(y, *(w[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down")))


# What stands in place of the dense MLP: its result, its tensors.
MLPS = {"step3": (step3_mlp, step3_mlp_shapes), "step3-renormalised": (step3_mlp, step3_mlp_shapes)}
SEEDS = {"step3": 4, "step3-renormalised": 3}  # the first that the checks let pass
CASES = {
    "step3": (step3, step3_shapes,
              dict(STEP3, moe_layers_enum="0,2", norm_expert_weight=False), {}),
    "step3-renormalised": (step3, step3_shapes, dict(STEP3, norm_expert_weight=True), {}),
    "x-eco-mla": (xeco, xeco_shapes, dict(LLAMA, num_key_value_heads=2, head_dim=8,
                                          num_hidden_layers=3), {
        "MLA_config": dict(d_model=C, rms_norm_eps=EPSILON, n_layer=3, attn_layers=[0]),
        "mla_layer_config": dict(model_type="deepseek_v3", kv_lora_rank=16, q_lora_rank=24,
                                 qk_nope_head_dim=PART, qk_rope_head_dim=TAIL, v_head_dim=VALUE,
                                 rope_theta=THETA, use_lora_layer_norm=False,
                                 layer_rank_list=RANKS, attention_bias=False)}),
    "mha2mla": (mha2mla, mha2mla_shapes, dict(LLAMA, num_key_value_heads=G, head_dim=D,
                                              mha2mla=MHA2MLA), {}),
}


def shapes_of(case, layers):
    _, of_layer, config, _ = CASES[case]
    mlp_shapes = MLPS.get(case, (None, lambda *_: DENSE_SHAPES))[1]
    shapes = {"model.embed_tokens": (VOCAB, C), "model.norm": (C,), "lm_head": (VOCAB, C)}
    for i in range(layers):
        own = dict(of_layer(i), input_layernorm=(C,), post_attention_layernorm=(C,),
                   **mlp_shapes(config, i))
        shapes.update({f"model.layers.{i}.{name}": shape for name, shape in own.items()})
    return shapes


def forward(case, w, layers, tokens):
    attention, _, config, _ = CASES[case]
    mlp = MLPS.get(case, (dense, None))[0]
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(layers):
        prefix = f"model.layers.{i}."
        own = {k[len(prefix):]: v for k, v in w.items() if k.startswith(prefix)}
        x = x + attention(own, rms(x, own["input_layernorm.weight"]), i)
        y = rms(x, own["post_attention_layernorm.weight"])
        x = x + mlp(own, y, config, i)
    return rms(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


def make(case, out):
    config, beside = CASES[case][2:]
    layers = config["num_hidden_layers"]
    g = torch.Generator().manual_seed(sum(map(ord, case)) + SEEDS.get(case, 0))
    w = {}
    for name, shape in shapes_of(case, layers).items():
        std, mean = (0.3, 1.0) if len(shape) == 1 else (1.0 if "embed" in name else 0.3, 0.0)
        w[name + ".weight"] = torch.randn(shape, generator=g) * std + mean
    tokens = torch.randint(3, VOCAB, (TOKENS,), generator=g)
    tokens[TOKENS // 2] = tokens[3]
    ENTROPY.clear()
    ROUTED.clear()
    logits = forward(case, w, layers, tokens)
    entropy = sum(ENTROPY) / len(ENTROPY)
    for experts, margin in ROUTED:
        assert experts == EXPERTS and margin > 1e-3, f"{case}: {experts} experts, margin {margin}"
    assert 0.3 < entropy < 0.95, f"{case}: attention entropy {entropy:.2f} of the flat one"
    weakest = min(((forward(case, {**w, name: torch.full_like(t, 1.0 if t.dim() == 1 else 0.0)},
                            layers, tokens) - logits).abs().max().item() / logits.std().item(), name)
                  for name, t in w.items())
    assert weakest[0] > 0.02, f"{case}: {weakest}"
    folder = os.path.join(out, case)
    os.makedirs(folder, exist_ok=True)
    for name, content in {"config": config, **beside}.items():
        with open(os.path.join(folder, name + ".json"), "w") as f:
            json.dump(content, f, indent=2, sort_keys=True)
            f.write("\n")
    save_file(w, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    json.dump(tokens.tolist(), open(os.path.join(folder, "tokens.json"), "w"))
    np.save(os.path.join(folder, "logits.npy"), logits.numpy().astype(np.float32))
    print(f"{case:10s} entropy {entropy:.2f}, logits std {logits.std():.2f}, weakest {weakest}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for case in sys.argv[2:] or CASES:
        make(case, where)
