"""Makes tiny random RWKV-5, -6 and -7 checkpoints with the authors' tensor names, and their logits.

Run with numpy and safetensors: python3 make_rwkv_goldens.py [OUT_DIR] [CASE ...]

The reference is the forward pass below, in double precision, from the papers (RWKV-5 and 6: arXiv
2404.05892 sections 3 and 4; RWKV-7: arXiv 2503.14456 section 4). The state is evaluated twice, by the
recurrence and by a sum over all earlier tokens of products of transition matrices, which must agree.
Folders hold model.safetensors, tokens.json and logits.npy; there is no config.json, as with the
published files. No tensor may move the logits by less than 2 % of their spread.
"""
import json
import os
import sys

import numpy as np
from safetensors.numpy import save_file

VOCAB, TOKENS, C, HEAD, LAYERS = 64, 28, 32, 8, 3
H = C // HEAD
RNG = np.random.default_rng(7)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, weight, bias, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight + bias


def group_norm(x, weight, bias, eps=64e-5):
    heads = x.reshape(len(x), H, HEAD)
    return layer_norm(heads, np.ones(HEAD), np.zeros(HEAD), eps).reshape(len(x), C) * weight + bias


def before(x):
    return np.vstack([np.zeros((1, x.shape[1])), x[:-1]])


def heads(x):
    return x.reshape(len(x), H, HEAD)


def read_before(r, k, v, w, u):
    """RWKV-5 and 6: y = r (S + u k v^T), then S = w S + k v^T. All [T, H, D], u [H, D]."""
    state, out = np.zeros((H, HEAD, HEAD)), np.zeros_like(v)
    for t in range(len(r)):
        kv = np.einsum("hi,hj->hij", k[t], v[t])
        out[t] = np.einsum("hi,hij->hj", r[t], state + u[:, :, None] * kv)
        state = w[t][:, :, None] * state + kv
    summed = np.zeros_like(v)
    for t in range(len(r)):
        for j in range(t):
            kept = np.prod(w[j + 1:t], 0) if j + 1 < t else np.ones((H, HEAD))
            summed[t] += (r[t] * kept * k[j]).sum(-1, keepdims=True) * v[j]
        summed[t] += (r[t] * u * k[t]).sum(-1, keepdims=True) * v[t]
    assert np.abs(out - summed).max() < 1e-9
    return out


def generalised_delta(r, w, k, v, a, b):
    """RWKV-7: S = S (diag(w) + a b^T) + v k^T with S [value, key], y = S r."""
    state, out = np.zeros((H, HEAD, HEAD)), np.zeros_like(v)
    moves = np.einsum("thi,ij->thij", w, np.eye(HEAD)) + np.einsum("thi,thj->thij", a, b)
    for t in range(len(r)):
        recalled = np.einsum("hvi,hi->hv", state, a[t])
        state = state * w[t][:, None, :] + np.einsum("hv,hi->hvi", recalled, b[t])
        state = state + np.einsum("hv,hi->hvi", v[t], k[t])
        out[t] = np.einsum("hvi,hi->hv", state, r[t])
    summed = np.zeros_like(v)
    for t in range(len(r)):
        for j in range(t + 1):
            key = k[j]
            for m in range(j + 1, t + 1):
                key = np.einsum("hi,hij->hj", key, moves[m])
            summed[t] += (key * r[t]).sum(-1, keepdims=True) * v[j]
    assert np.abs(out - summed).max() < 1e-9
    return out


def time_mix(version, w, x, first):
    if version == 7:
        return time_mix_7(w, x, first)
    xx = before(x) - x
    if version == 5:
        mixed = {s: x * w["time_mix_" + s][0, 0] + before(x) * (1 - w["time_mix_" + s][0, 0]) for s in "kvrg"}
        decay = np.broadcast_to(np.exp(-np.exp(w["time_decay"])), (len(x), H, HEAD))
    else:
        base = x + xx * w["time_maa_x"][0, 0]
        low = np.tanh(base @ w["time_maa_w1"]).reshape(len(x), 5, -1)
        mixed = {s: x + xx * (w["time_maa_" + s][0, 0] + low[:, i] @ w["time_maa_w2"][i])
                 for i, s in enumerate("wkvrg")}
        d = w["time_decay"][0, 0] + np.tanh(mixed["w"] @ w["time_decay_w1"]) @ w["time_decay_w2"]
        decay = heads(np.exp(-np.exp(d)))
    r, k, v = (heads(mixed[s] @ w[n + ".weight"].T)
               for s, n in zip("rkv", ("receptance", "key", "value")))
    g = mixed["g"] @ w["gate.weight"].T
    y = read_before(r, k, v, decay, w["time_faaaa"]).reshape(len(x), C)
    y = group_norm(y, w["ln_x.weight"], w["ln_x.bias"])
    return (y * g * sigmoid(g)) @ w["output.weight"].T, first


def time_mix_7(w, x, first):
    xx = before(x) - x
    xr, xw, xk, xv, xa, xg = (x + xx * w["x_" + s][0, 0] for s in "rwkvag")
    r, k, v = (a @ w[n + ".weight"].T for a, n in ((xr, "receptance"), (xk, "key"), (xv, "value")))
    decay = w["w0"][0, 0] + np.tanh(xw @ w["w1"]) @ w["w2"]
    decay = np.exp(-np.exp(-np.log1p(np.exp(-decay)) - 0.5))
    if first is None:
        first = v
    else:
        v = v + (first - v) * sigmoid(w["v0"][0, 0] + xv @ w["v1"] @ w["v2"])
    a = sigmoid(w["a0"][0, 0] + xa @ w["a1"] @ w["a2"])
    g = sigmoid(xg @ w["g1"]) @ w["g2"]
    kk = heads(k * w["k_k"][0, 0])
    kk = kk / np.maximum(np.sqrt((kk * kk).sum(-1, keepdims=True)), 1e-12)
    k = k * (1 + (a - 1) * w["k_a"][0, 0])
    r, k, v, a = heads(r), heads(k), heads(v), heads(a)
    y = generalised_delta(r, heads(decay), k, v, -kk, kk * a)
    y = group_norm(y.reshape(len(x), C), w["ln_x.weight"], w["ln_x.bias"])
    y = y + ((r * k * w["r_k"]).sum(-1, keepdims=True) * v).reshape(len(x), C)
    return (y * g) @ w["output.weight"].T, first


def channel_mix(version, w, x):
    xx = before(x) - x
    if version == 7:
        return np.maximum((x + xx * w["x_k"][0, 0]) @ w["key.weight"].T, 0) ** 2 @ w["value.weight"].T
    if version == 5:
        k, r = (x + xx * (1 - w["time_mix_" + s][0, 0]) for s in "kr")
    else:
        k, r = (x + xx * w["time_maa_" + s][0, 0] for s in "kr")
    inner = np.maximum(k @ w["key.weight"].T, 0) ** 2
    return sigmoid(r @ w["receptance.weight"].T) * (inner @ w["value.weight"].T)


def logits_of(version, weights, tokens):
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    part = lambda prefix: {n[len(prefix):]: v for n, v in w.items() if n.startswith(prefix)}
    x = layer_norm(w["emb.weight"][tokens], w["blocks.0.ln0.weight"], w["blocks.0.ln0.bias"])
    first = None
    for i in range(LAYERS):
        block = part(f"blocks.{i}.")
        sub = lambda prefix: {n[len(prefix):]: v for n, v in block.items() if n.startswith(prefix)}
        y, first = time_mix(version, sub("att."),
                            layer_norm(x, block["ln1.weight"], block["ln1.bias"]), first)
        x = x + y
        x = x + channel_mix(version, sub("ffn."), layer_norm(x, block["ln2.weight"], block["ln2.bias"]))
    return layer_norm(x, w["ln_out.weight"], w["ln_out.bias"]) @ w["head.weight"].T


def noise(*shape, std=1.0, mean=0.0):
    return (RNG.standard_normal(shape) * std + mean).astype(np.float32)


def mix(spread=0.3):
    return RNG.uniform(0.5 - spread, 0.5 + spread, (1, 1, C)).astype(np.float32)


def matrix(rows, columns, gain=1.0):
    return noise(rows, columns, std=gain / np.sqrt(columns))


def block_of(version, i):
    inner = 4 * C if version == 7 else 3 * C
    w = {f"{n}.{s}": noise(C, std=0.2, mean=float(s == "weight"))
         for n in (["ln0"] if i == 0 else []) + ["ln1", "ln2", "att.ln_x"] for s in ("weight", "bias")}
    names = ["receptance", "key", "value", "output"] + ([] if version == 7 else ["gate"])
    w |= {f"att.{n}.weight": matrix(C, C, 1.5) for n in names}
    w |= {"ffn.key.weight": matrix(inner, C), "ffn.value.weight": matrix(C, inner)}
    if version == 7:
        w |= {"att.x_" + s: mix() for s in "rwkvag"} | {"ffn.x_k": mix()}
        for s, rank, offset in (("w", 6, -1.0), ("a", 5, 0.0), ("v", 4, 0.5)):
            if s == "v" and i == 0:
                continue
            w |= {f"att.{s}0": noise(1, 1, C, std=1.0, mean=offset),
                  f"att.{s}1": noise(C, rank, std=1 / np.sqrt(C)), f"att.{s}2": noise(rank, C, std=1.0)}
        w |= {"att.g1": noise(C, 7, std=2 / np.sqrt(C)), "att.g2": noise(7, C, std=1.0),
              "att.k_k": noise(1, 1, C, std=0.3, mean=0.9), "att.k_a": noise(1, 1, C, std=0.3, mean=0.8),
              "att.r_k": noise(H, HEAD, std=0.4)}
        return w
    w["ffn.receptance.weight"] = matrix(C, C, 1.5)
    w["att.time_faaaa"] = noise(H, HEAD, std=0.7)
    if version == 5:
        w |= {"att.time_mix_" + s: mix() for s in "kvrg"} | {"ffn.time_mix_" + s: mix() for s in "kr"}
        w["att.time_decay"] = noise(H, HEAD, std=1.0, mean=-1.0)
        return w
    w |= {"att.time_maa_" + s: mix() for s in "xwkvrg"} | {"ffn.time_maa_" + s: mix() for s in "kr"}
    w |= {"att.time_maa_w1": noise(C, 5 * 4, std=1 / np.sqrt(C)), "att.time_maa_w2": noise(5, 4, C, std=0.4),
          "att.time_decay": noise(1, 1, C, std=1.0, mean=-1.0),
          "att.time_decay_w1": noise(C, 6, std=1 / np.sqrt(C)), "att.time_decay_w2": noise(6, C, std=0.6)}
    return w


def make(name, out):
    version = int(name.removeprefix("rwkv-"))
    weights = {"emb.weight": noise(VOCAB, C), "head.weight": matrix(VOCAB, C, 3.0),
               "ln_out.weight": noise(C, std=0.2, mean=1.0), "ln_out.bias": noise(C, std=0.2)}
    for i in range(LAYERS):
        weights |= {f"blocks.{i}.{n}": v for n, v in block_of(version, i).items()}
    tokens = RNG.integers(0, VOCAB, TOKENS)
    logits = logits_of(version, weights, tokens)
    for tensor, value in weights.items():
        neutral = dict(weights)
        neutral[tensor] = np.full_like(value, value.mean()) if value.mean() > 0.3 else np.zeros_like(value)
        moved = np.abs(logits_of(version, neutral, tokens) - logits).max() / logits.std()
        assert moved > 0.02, f"{name}: {tensor} moves the logits by {moved:.4f} of their spread"
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    save_file(weights, os.path.join(folder, "model.safetensors"))
    np.save(os.path.join(folder, "logits.npy"), logits.astype(np.float32))
    with open(os.path.join(folder, "tokens.json"), "w") as file:
        json.dump([int(t) for t in tokens], file)
    print(name, "logits", logits.std())


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[2:] or ["rwkv-5", "rwkv-6", "rwkv-7"]:
        make(name, out)


if __name__ == "__main__":
    main()
