"""Makes tiny random GGUF files and llama.cpp's logits for them, one folder per case.

Run with transformers 5.x, llama.cpp's conversion package (0.7) on the path and the program
llama_logits (gcc llama_logits.c -lllama -lggml -o llama_logits) beside this file:
    python3 make_gguf_goldens.py [OUT_DIR] [CASE ...]

The checkpoints are those of make_goldens.py, smaller, and with what llama.cpp fixes for an
architecture set likewise (which layers are windowed or not rotated, the scale of attention).
llama.cpp's own converter writes the files, without a vocabulary. Each folder holds model.gguf (f32),
tokens.json (28 tokens of prompt, then 16) and logits.npy (float32 [44, 64]: the prompt in one batch,
then token by token). NAME-q4_0 and NAME-q8_0 are a case quantised by llama-quantize, with the logits
of the weights that it left; so are those of gpt-oss-mxfp4, which is 4-bit from the start. transformers
must compute the same, within what llama.cpp's table for GELU (f16) costs.
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf

import make_goldens
from make_goldens import BASE, CASES, GQA, VOCAB, rope

PROMPT, STEPS = 28, 16
SMALL = dict(hidden_size=32, intermediate_size=48)
FACTORS = dict(rope_type="longrope", short_factor=[1.0, 1.3, 2.0], long_factor=[1.2, 2.0, 6.0],
               original_max_position_embeddings=16)
# llama.cpp knows yarn's usual betas only, and rounds its corner dimensions whatever a file says.
YARN = rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
SIX = ["sliding_attention"] * 5 + ["full_attention"]

GGUF_CASES = {
    "llama": ("Llama", dict(GQA, **SMALL, attention_bias=True, mlp_bias=True,
                            rope_parameters=CASES["llama-gqa"][1]["rope_parameters"])),
    "llama-yarn": ("Llama", dict(GQA, **SMALL, rope_parameters=YARN)),
    "qwen2": ("Qwen2", dict(CASES["qwen2"][1], **SMALL)),
    "qwen3": ("Qwen3", dict(CASES["qwen3"][1], **SMALL)),
    "gemma2": ("Gemma2", dict(CASES["gemma2"][1], **SMALL, query_pre_attn_scalar=16,
                              rope_parameters=rope(10000.0))),
    "gemma3": ("Gemma3", dict(CASES["gemma3"][1], hidden_size=32, intermediate_size=32, head_dim=8,
                              query_pre_attn_scalar=8, num_hidden_layers=6, layer_types=SIX)),
    "phi3": ("Phi3", dict(BASE, **SMALL, num_key_value_heads=2, tie_word_embeddings=False,
                          sliding_window=None, original_max_position_embeddings=16,
                          rope_parameters=rope(partial_rotary_factor=0.75, **FACTORS))),
    "smollm3": ("SmolLM3", dict(BASE, **SMALL, num_hidden_layers=4, num_key_value_heads=2,
                                no_rope_layers=[1, 1, 1, 0], use_sliding_window=False,
                                rope_parameters=rope())),
    "olmo2": ("Olmo2", dict(GQA, **SMALL, rope_parameters=rope())),
    "granite": ("Granite", dict(CASES["granite"][1], **SMALL)),
    "starcoder2": ("Starcoder2", dict(CASES["starcoder2"][1], **SMALL)),
    "gpt2": ("GPT2", dict(CASES["gpt2"][1], n_embd=32, n_inner=None)),
    # Mixtures of experts: in every layer, without windows but for gpt-oss.
    "mixtral": ("Mixtral", dict(CASES["mixtral"][1], sliding_window=None)),
    "qwen2-moe": ("Qwen2Moe", dict(CASES["qwen2-moe"][1], num_hidden_layers=2,
                                   moe_intermediate_size=32, mlp_only_layers=[])),
    "qwen3-moe": ("Qwen3Moe", dict(CASES["qwen3-moe"][1], decoder_sparse_step=1)),
    "olmoe": ("Olmoe", dict(CASES["olmoe"][1], attention_bias=False, num_key_value_heads=4)),
    "granite-moe": ("GraniteMoe", CASES["granite-moe"][1]),
    "gpt-oss": ("GptOss", dict(CASES["gpt-oss"][1], rope_parameters=YARN)),
    "gpt-oss-mxfp4": ("GptOss", dict(CASES["gpt-oss-mxfp4"][1], rope_parameters=YARN)),
    # State space models: llama.cpp reads no biases of projections.
    "mamba": ("Mamba", dict(CASES["mamba"][1], use_bias=False, tie_word_embeddings=True)),
    "mamba2": ("Mamba2", dict(CASES["mamba2"][1], use_bias=False, state_size=12)),
}

# Where the first draw leaves an expert unused or a choice too close.
GGUF_SEEDS = {}


def convert(folder, out):
    """By llama.cpp's converter, less the vocabulary, which these models do not have."""
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    hparams = ModelBase.load_hparams(Path(folder), False)
    hparams.setdefault("n_ctx", hparams.get("n_positions"))
    architecture = get_model_architecture(hparams, ModelType.TEXT)
    base = get_model_class(architecture, mmproj=False)

    class WithoutVocabulary(base):
        model_arch = base.model_arch

        def set_vocab(self):
            self._set_vocab_none()

        def set_gguf_parameters(self):
            super().set_gguf_parameters()
            if not any("vocab_size" in key for key in self.gguf_writer.kv_data[0]):
                self.gguf_writer.add_vocab_size(VOCAB)

    model = WithoutVocabulary(Path(folder), gguf.LlamaFileType.ALL_F32, Path(out), eager=True,
                              hparams=hparams)
    model.write()


def norm_groups(model):
    """The norm behind Mamba-2's gate goes over as many parts as there are heads of keys, in
    llama.cpp as in the code published with the models; the library's goes over all at once."""
    groups = model.config.n_groups

    def forward(norm, x, gate):
        x = x * torch.nn.functional.silu(gate)
        parts = x.reshape(*x.shape[:-1], groups, -1)
        parts = parts * torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        return norm.weight * parts.reshape(x.shape)

    for layer in model.backbone.layers:
        layer.mixer.norm.forward = lambda x, gate=None, norm=layer.mixer.norm: forward(norm, x, gate)


def logits(gguf_file, tokens, program):
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([program, gguf_file, str(PROMPT), out.name, *map(str, tokens)], check=True)
        return np.fromfile(out.name, np.float32).reshape(len(tokens), VOCAB)


def make(name, out, program):
    make_goldens.CASES = GGUF_CASES
    make_goldens.SEEDS = GGUF_SEEDS
    make_goldens.TOKENS = PROMPT + STEPS
    model, tokens = make_goldens.build(name)
    if name == "mamba2":
        norm_groups(model)
    ref = make_goldens.logits_of(model, tokens)
    make_goldens.check(name, model, tokens, ref)
    make_goldens.check_experts(name, model, tokens)
    make_goldens.check_limit(name, model, tokens)
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as checkpoint:
        model.save_pretrained(checkpoint)
        if name.endswith("mxfp4"):
            make_goldens.save_mxfp4(model, checkpoint)
        vocabulary = {"model": {"vocab": {str(i): i for i in range(VOCAB)}}, "added_tokens": []}
        json.dump(vocabulary, open(os.path.join(checkpoint, "tokenizer.json"), "w"))
        convert(checkpoint, os.path.join(folder, "model.gguf"))
    run = widened_logits if name.endswith("mxfp4") else logits
    got = run(os.path.join(folder, "model.gguf"), tokens.tolist(), program)
    assert np.isfinite(got).all()
    json.dump(tokens.tolist(), open(os.path.join(folder, "tokens.json"), "w"))
    np.save(os.path.join(folder, "logits.npy"), got)
    size = os.path.getsize(os.path.join(folder, "model.gguf"))
    assert size <= 300 * 1000, f"{name}: {size} bytes"
    apart = np.abs(got - ref.numpy()).max()
    assert apart < 1e-3 * np.abs(got).max(), f"{name}: llama.cpp computes something else"
    print(f"{name:13s} {size:7d} bytes, llama.cpp and transformers {apart:.2e} apart, "
          f"largest logit {np.abs(got).max():.2f}", flush=True)


def widened_logits(gguf_file, tokens, program):
    """Of the weights that the file holds, as f32."""
    with tempfile.TemporaryDirectory() as folder:
        widened = os.path.join(folder, "f32.gguf")
        quantise("--allow-requantize", gguf_file, widened, "F32")
        return logits(widened, tokens, program)


def quantise(*arguments):
    subprocess.run(["llama-quantize", *arguments, "1"], check=True, capture_output=True)


def make_quantised(name, kind, out, program):
    """A case in another element type; logits of the weights it then has."""
    source, folder = os.path.join(out, name), os.path.join(out, f"{name}-{kind.lower()}")
    os.makedirs(folder, exist_ok=True)
    quantised = os.path.join(folder, "model.gguf")
    quantise("--pure", os.path.join(source, "model.gguf"), quantised, kind)
    tokens = json.load(open(os.path.join(source, "tokens.json")))
    json.dump(tokens, open(os.path.join(folder, "tokens.json"), "w"))
    np.save(os.path.join(folder, "logits.npy"), widened_logits(quantised, tokens, program))
    print(f"{name} {kind} {os.path.getsize(quantised):7d} bytes", flush=True)


if __name__ == "__main__":
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    here = os.path.dirname(os.path.abspath(__file__))
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "gguf")
    for case in sys.argv[2:] or GGUF_CASES:
        make(case, where, os.path.join(here, "llama_logits"))
    for case in ("llama", "qwen2-moe") if not sys.argv[2:] else ():
        for kind in ("Q4_0", "Q8_0"):
            make_quantised(case, kind, where, os.path.join(here, "llama_logits"))
