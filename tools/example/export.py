"""Writes a training checkpoint as a Hugging Face directory, for LlamaForCausalLM or, with layers of
linear attention, for Qwen3_5ForCausalLM.

    export.py RUN_DIR OUT_DIR [--f32]
"""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

from hybrid import HybridConfig
from model import Config
from vocabulary import END, load_encoder


def llama(c):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "rope_theta": c.theta, "rope_scaling": None, "mlp_bias": False}


def qwen(c):
    kinds = {"l": "linear_attention", "a": "full_attention"}
    return {"architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text",
            "layer_types": [kinds[kind] for kind in c.pattern],
            "linear_num_key_heads": c.state_heads, "linear_num_value_heads": c.state_heads,
            "linear_key_head_dim": c.state_width, "linear_value_head_dim": c.state_width,
            "linear_conv_kernel_dim": c.taps,
            "rope_parameters": {"rope_type": "default", "rope_theta": c.theta,
                                "partial_rotary_factor": c.rotary}}


def config_of(weights):
    """-> (sizes, what only this architecture's config.json has)"""
    words = weights["model.embed_tokens.weight"].shape[0]
    layers = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("model.layers."))
    pattern = "".join("l" if f"model.layers.{i}.linear_attn.A_log" in weights else "a"
                      for i in range(layers))
    if "l" in pattern:
        c = HybridConfig(words, pattern)
        return c, qwen(c)
    return Config(words), llama(Config)


def main(run, out, dtype):
    os.makedirs(out, exist_ok=True)
    saved = torch.load(f"{run}/last.pt", weights_only=False, map_location="cpu")
    weights = {f"model.{k}": v.to(dtype).contiguous() for k, v in saved["model"].items()}
    save_file(weights, f"{out}/model.safetensors", metadata={"format": "pt"})
    shutil.copy(f"{run}/tokenizer.json", f"{out}/tokenizer.json")
    encode = load_encoder(f"{out}/tokenizer.json")
    end, newline = encode.tokenizer.token_to_id(END), encode("\n")[0]
    c, own = config_of(weights)

    def write(name, what):
        with open(f"{out}/{name}", "w") as f:
            json.dump(what, f, indent=2)
            f.write("\n")

    write("config.json", own | {
        "vocab_size": c.vocab, "hidden_size": c.hidden, "intermediate_size": c.ffn,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim,
        "max_position_embeddings": c.positions,
        "rms_norm_eps": c.eps, "hidden_act": "silu", "attention_bias": False,
        "tie_word_embeddings": True, "bos_token_id": end, "eos_token_id": end,
        "torch_dtype": str(dtype).split(".")[1]})
    # An answer ends with its line, so a newline stops generation too.
    write("generation_config.json", {"bos_token_id": end, "eos_token_id": [end, newline],
                                     "do_sample": False, "max_new_tokens": 16})
    write("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast",
                                    "bos_token": END, "eos_token": END, "add_bos_token": False,
                                    "model_max_length": c.positions,
                                    "clean_up_tokenization_spaces": False})
    print(f"{out}: {sum(w.numel() for w in weights.values())} parameters, {saved['state']}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], torch.float32 if "--f32" in sys.argv else torch.float16)
