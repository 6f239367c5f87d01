"""Makes GGUF files of tiny random RWKV-6 and -7 checkpoints, and llama.cpp's logits for them.

Run with numpy, gguf and the program llama_logits beside this file (see make_gguf_goldens.py):
    python3 make_rwkv_gguf_goldens.py [OUT_DIR]

The checkpoints are those of make_rwkv_goldens.py with heads of 64; names, order and extents are those
that llama.cpp's converter writes. Each folder holds model.gguf (f32), tokens.json (28 tokens of prompt,
then 16) and logits.npy (float32 [44, 64]: the prompt in one batch, then token by token). The forward
pass of make_rwkv_goldens.py must agree within f32's rounding.
"""
import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np

import make_rwkv_goldens as rwkv

PROMPT, STEPS = 28, 16
HALVED = 1  # layers after which the residual is halved, in version 6
OUTSIDE = {"emb.weight": "token_embd.weight", "blocks.0.ln0.weight": "token_embd_norm.weight",
           "blocks.0.ln0.bias": "token_embd_norm.bias", "ln_out.weight": "output_norm.weight",
           "ln_out.bias": "output_norm.bias", "head.weight": "output.weight"}
MODULES = {"ln1": "attn_norm", "ln2": "attn_norm_2", "att.ln_x": "time_mix_ln"}
SIX = {"time_faaaa": "first", "time_decay": "decay", "time_decay_w1": "decay_w1",
       "time_decay_w2": "decay_w2", "time_maa_w1": "w1", "time_maa_w2": "w2", "time_maa_x": "lerp_x"}


def block_tensors(version, w):
    """Of one layer: GGUF's names without the prefix."""
    out, shares = {}, {}
    for name, value in w.items():
        module, _, kind = name.rpartition(".")
        leaf = name.split(".")[1]
        if kind in ("weight", "bias"):
            sub = {"att": "time_mix_", "ffn": "channel_mix_"}.get(module.split(".")[0], "")
            out[MODULES.get(module, sub + module.split(".")[-1]) + "." + kind] = value
        elif name.startswith("ffn."):
            out[f"channel_mix_lerp_{leaf[-1]}.weight"] = value
        elif version == 7 and leaf.startswith("x_") or version == 6 and leaf[:-1] == "time_maa_" and leaf[-1] != "x":
            shares[leaf[-1]] = value
        else:
            if value.ndim >= 2 and leaf[-1] in "12":
                value = np.swapaxes(value, -1, -2)
            out[f"time_mix_{SIX.get(leaf, leaf)}.weight"] = value.reshape(-1) if leaf == "r_k" else value
    order = "wkvrg" if version == 6 else "rwkvag"
    out["time_mix_lerp_fused.weight"] = np.stack([shares[s] for s in order]).reshape(len(order), 1, 1, -1)
    return out


def write(path, version, weights):
    writer = gguf.GGUFWriter(path, f"rwkv{version}")
    writer.add_name(f"rwkv-{version}")
    writer.add_context_length(1024)
    writer.add_embedding_length(rwkv.C)
    writer.add_block_count(rwkv.LAYERS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(rwkv.HEAD)
    writer.add_head_count(0)
    writer.add_feed_forward_length(weights["blocks.0.ffn.key.weight"].shape[0])
    if version == 6:
        writer.add_rescale_every_n_layers(HALVED)
        writer.add_time_mix_extra_dim(4)
        writer.add_time_decay_extra_dim(6)
    else:
        for add, name in ((writer.add_decay_lora_rank, "w1"), (writer.add_iclr_lora_rank, "a1"),
                          (writer.add_value_residual_mix_lora_rank, "v1"), (writer.add_gate_lora_rank, "g1")):
            add(weights["blocks.1.att." + name].shape[1])
    writer.add_vocab_size(rwkv.VOCAB)
    writer.add_tokenizer_model("no_vocab")
    add = lambda name, value: writer.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))
    for name, value in weights.items():
        if name in OUTSIDE:
            add(OUTSIDE[name], value)
    for i in range(rwkv.LAYERS):
        prefix = f"blocks.{i}."
        block = {n[len(prefix):]: v for n, v in weights.items() if n.startswith(prefix) and ".ln0." not in n}
        if version == 7 and i == 0:  # present and never read
            block |= {f"att.v{s}": block[f"att.a{s}"] for s in "012"}
        for name, value in block_tensors(version, block).items():
            add(f"blk.{i}.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(version, out):
    rwkv.RNG = np.random.default_rng(70 + version)
    weights = {"emb.weight": rwkv.noise(rwkv.VOCAB, rwkv.C), "head.weight": rwkv.matrix(rwkv.VOCAB, rwkv.C, 3.0),
               "ln_out.weight": rwkv.noise(rwkv.C, std=0.2, mean=1.0), "ln_out.bias": rwkv.noise(rwkv.C, std=0.2)}
    for i in range(rwkv.LAYERS):
        weights |= {f"blocks.{i}.{n}": v for n, v in rwkv.block_of(version, i).items()}
    tokens = rwkv.RNG.integers(0, rwkv.VOCAB, PROMPT + STEPS)
    stored = dict(weights)
    if version == 6:  # as the converter does: what is added later is smaller by as much
        for i in range(rwkv.LAYERS):
            for name in ("att.output", "ffn.value"):
                stored[f"blocks.{i}.{name}.weight"] = weights[f"blocks.{i}.{name}.weight"] / 2.0 ** (i // HALVED)
    folder = os.path.join(out, f"rwkv-{version}")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "model.gguf")
    write(path, version, stored)
    with open(os.path.join(folder, "tokens.json"), "w") as file:
        json.dump([int(t) for t in tokens], file)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llama_logits")
    with tempfile.NamedTemporaryFile() as raw:
        subprocess.run([program, path, str(PROMPT), raw.name, *map(str, tokens)], check=True,
                       stderr=subprocess.DEVNULL)
        logits = np.fromfile(raw.name, np.float32).reshape(len(tokens), rwkv.VOCAB)
    expected = rwkv.logits_of(version, weights, tokens)
    difference = np.abs(logits - expected).max() / expected.std()
    assert difference < 2e-4, difference
    np.save(os.path.join(folder, "logits.npy"), logits)
    print(folder, "differs from the formulas by", difference)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
    rwkv.C = rwkv.HEAD = 64
    rwkv.H, rwkv.LAYERS = 1, 2
    for version in (6, 7):
        make(version, out)


if __name__ == "__main__":
    main()
