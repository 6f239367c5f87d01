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


def rope(theta=100.0, **more):
    return {"rope_theta": theta, "rope_type": "default", **more}


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
    "cohere": ("Cohere", dict(BASE, num_key_value_heads=2, logit_scale=0.25, use_qk_norm=False,
                              tie_word_embeddings=True, rope_parameters=rope())),
}

HEADS = {"GPT2": "LMHeadModel"}

# Saved with the field names that most published checkpoints still carry.
OLD_NAMES = {"llama-gqa", "llama-yarn", "llama-mqa", "qwen2", "gemma2", "gemma3", "mistral",
             "stablelm", "gpt-neox", "phi3-short", "granite"}


def build(name):
    family, fields = CASES[name]
    config = getattr(hf, family + ("TextConfig" if family == "Gemma3" else "Config"))(**fields)
    model = getattr(hf, family + HEADS.get(family, "ForCausalLM"))(config).eval().float()
    g = torch.Generator().manual_seed(sum(map(ord, name)))

    def noise(p, std, mean=0.0):
        p.copy_(torch.randn(p.shape, generator=g) * std + mean)

    gemma = family.startswith("Gemma")
    with torch.no_grad():
        for key, p in model.named_parameters():
            stem = key.rsplit(".", 2)[-2]
            if key.endswith(".bias"):
                noise(p, 0.3)
            elif p.dim() == 1:
                noise(p, 0.3, 0.0 if gemma else 1.0)      # gemma stores w of (1 + w)
            elif "embed" in key or stem in ("wte", "wpe"):
                noise(p, 0.4 if gemma else 1.0)
            elif stem in ("q_proj", "k_proj", "query_key_value", "qkv_proj", "c_attn"):
                noise(p, 0.2)
            else:
                noise(p, 0.3)
    tokens = torch.randint(3, VOCAB, (TOKENS,), generator=g)
    tokens[TOKENS // 2] = tokens[3]                       # a repeat: equal token, other position
    return model, tokens


def logits_of(model, tokens):
    with torch.no_grad():
        return model(tokens[None], use_cache=False).logits[0]


def check(name, model, tokens, ref):
    """Every tensor matters; attention is neither flat nor one-hot; positions matter."""
    with torch.no_grad():
        probs = model(tokens[None], use_cache=False, output_attentions=True).attentions
        late = [p[0, :, 6:].clamp_min(1e-9) for p in probs]
        seen = [(p > 1e-8).sum(-1).float() for p in late]
        flat = torch.cat([(-(p * p.log()).sum(-1) / s.log()).flatten() for p, s in zip(late, seen)])
        entropy = flat.mean().item()
        assert 0.3 < entropy < 0.95, f"{name}: attention entropy {entropy:.2f} of the flat one"
        least, which, scale = 1e9, "", ref.std().item()
        for key, p in model.named_parameters():
            keep = p.clone()
            gemma = "gemma" in name
            p.fill_(0.0 if p.dim() > 1 or key.endswith(".bias") or gemma else 1.0)
            moved = (logits_of(model, tokens) - ref).abs().max().item() / scale
            p.copy_(keep)
            if moved < least:
                least, which = moved, key
        assert least > 0.02, f"{name}: {which} moves the logits by {least:.4f} of their spread only"
    return entropy, least, which


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
    again = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager",
                                                    dtype=torch.float32)
    drift = (logits_of(again.eval(), tokens) - ref).abs().max().item()
    assert drift < 1e-5, f"{name}: the saved folder computes something else ({drift})"
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
