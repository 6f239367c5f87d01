"""The example model: LlamaForCausalLM's mathematics, and what all models of train.py share."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Config:
    hidden, layers, heads, kv_heads, head_dim, ffn = 256, 4, 8, 2, 32, 640
    theta, eps, positions = 100_000_000.0, 1e-5, 8192

    def __init__(self, vocab):
        self.vocab = vocab


class Projection(nn.Module):
    """A dense layer without bias. Multiplies in bfloat16 (3x faster on CPUs that have it), adds and
    keeps its weights in float32."""
    fast = False

    def __init__(self, n_in, n_out, std):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * std)

    def forward(self, x):
        if Projection.fast:
            return F.linear(x.bfloat16(), self.weight.bfloat16()).float()
        return F.linear(x, self.weight)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, out = c, 0.02 / math.sqrt(2 * c.layers)
        self.input_layernorm = nn.RMSNorm(c.hidden, eps=c.eps)
        self.self_attn = nn.ModuleDict(dict(
            q_proj=Projection(c.hidden, c.heads * c.head_dim, 0.04),
            k_proj=Projection(c.hidden, c.kv_heads * c.head_dim, 0.04),
            v_proj=Projection(c.hidden, c.kv_heads * c.head_dim, 0.04),
            o_proj=Projection(c.heads * c.head_dim, c.hidden, out)))
        self.post_attention_layernorm = nn.RMSNorm(c.hidden, eps=c.eps)
        self.mlp = nn.ModuleDict(dict(
            gate_proj=Projection(c.hidden, c.ffn, 0.04), up_proj=Projection(c.hidden, c.ffn, 0.04),
            down_proj=Projection(c.ffn, c.hidden, out)))

    def forward(self, x, cos, sin):
        c, a, m = self.c, self.self_attn, self.mlp
        B, T, _ = x.shape

        def heads(y, n):
            return y.view(B, T, n, c.head_dim).transpose(1, 2)

        def rotate(y):
            lo, hi = y.chunk(2, -1)
            return torch.cat((lo * cos - hi * sin, hi * cos + lo * sin), -1)

        y = self.input_layernorm(x)
        q, k = rotate(heads(a.q_proj(y), c.heads)), rotate(heads(a.k_proj(y), c.kv_heads))
        v = heads(a.v_proj(y), c.kv_heads)
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + a.o_proj(y.transpose(1, 2).reshape(B, T, -1))
        y = self.post_attention_layernorm(x)
        return x + m.down_proj(F.silu(m.gate_proj(y)) * m.up_proj(y))


class Decoder(nn.Module):
    """Embedding, tied with the head, layers that take (x, cos, sin), a norm. Channel 0 of the
    embedding is a constant, for what layers are to start with."""
    constant = 0.5

    def __init__(self, c, layers, norm, rotated):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab, c.hidden)
        nn.init.normal_(self.embed_tokens.weight, 0, 0.05)
        self.layers, self.norm = nn.ModuleList(layers), norm
        self.hold()
        self.freq = c.theta ** (-torch.arange(0, rotated, 2) / rotated)
        angle = torch.arange(c.positions)[:, None] * self.freq
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, at=None):
        """at: positions [B, T], plain counting without. -> hidden states after the last norm,
        [B, T, hidden]."""
        x = self.embed_tokens(ids)
        at = torch.arange(ids.shape[1])[None] if at is None else at
        cos, sin = self.cos[at][:, None], self.sin[at][:, None]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)

    @torch.no_grad()
    def hold(self):
        """Undoes what a step did to the constant channel."""
        self.embed_tokens.weight[:, 0] = self.constant


class Model(Decoder):
    """LlamaForCausalLM's mathematics and tensor names, tied embeddings."""

    def __init__(self, c):
        super().__init__(c, (Layer(c) for _ in range(c.layers)), nn.RMSNorm(c.hidden, eps=c.eps),
                         c.head_dim)
        self.look_back(self.freq)

    @torch.no_grad()
    def look_back(self, freq, strength=11.0, pairs=6):
        """Makes the first layer's query head h a look at the token h + 1 places back, and keeps it
        so: every position then knows its last eight tokens, and retrieval is a match one layer up.
        Left to itself, training finds such heads late and loses some again. Channel 0 of the
        embedding is a constant that feeds q and k; rotation by the distance does the rest."""
        c, attn = self.c, self.layers[0].self_attn
        gain = strength / (self.constant / self.embed_tokens.weight.square().mean().sqrt().item())
        half, n = c.head_dim // 2, c.head_dim
        attn.q_proj.weight.zero_()
        attn.k_proj.weight.zero_()
        for g in range(c.kv_heads):
            attn.k_proj.weight[g * n:g * n + pairs, 0] = gain
        for h in range(c.heads):
            back = -(h + 1) * freq[:pairs]
            attn.q_proj.weight[h * n:h * n + pairs, 0] = gain * back.cos()
            attn.q_proj.weight[h * n + half:h * n + half + pairs, 0] = gain * back.sin()
        attn.v_proj.weight.mul_(1.5)
        attn.q_proj.weight.requires_grad = attn.k_proj.weight.requires_grad = False
