"""Gated DeltaNet layers (arXiv 2412.06464), alone or with gated softmax attention between them: the
mathematics and tensor names of Qwen3.5's text model, for train.py.

A pattern has a letter per layer: l linear, a softmax attention. "llal" keeps cached rows for one
layer of four, "llll" for none.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from model import Decoder, Projection

CHUNK = 64


class HybridConfig:
    hidden, heads, kv_heads, head_dim, ffn = 256, 8, 2, 32, 512
    state_heads, state_width, taps = 4, 64, 8
    theta, rotary, eps, positions = 100_000_000.0, 0.25, 1e-6, 8192

    def __init__(self, vocab, pattern):
        self.vocab, self.pattern, self.layers = vocab, pattern, len(pattern)


class Norm(nn.Module):
    """RMS norm that stores w of (1 + w)."""

    def __init__(self, width, eps, start=0.0):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.full((width,), start)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], eps=self.eps) * (1 + self.weight)


def gated_delta(q, k, v, decay, rate):
    """Every token t of a head: S = exp(decay) S; S += rate k (v - k S); out = q S.

    q, k, v [B, H, T, D]; decay (a logarithm, not positive), rate [B, H, T]; T a multiple of CHUNK.
    Inside a chunk the rows that tokens write depend on each other by a triangular system; between
    chunks the state is passed on.
    """
    B, H, T, D = q.shape
    q, k, v = (x.reshape(B, H, T // CHUNK, CHUNK, D) for x in (q, k, v))
    g = decay.view(B, H, -1, CHUNK).cumsum(-1)
    rate = rate.view(B, H, -1, CHUNK, 1)
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    gap = (g[..., :, None] - g[..., None, :]).masked_fill(~lower, -torch.inf).exp()
    system = (rate * k) @ k.transpose(-1, -2) * gap
    system = system.tril(-1) + torch.eye(CHUNK)
    right = torch.cat((rate * v, rate * k * g.exp()[..., None]), -1)
    own, seen = torch.linalg.solve_triangular(system, right, upper=False,
                                              unitriangular=True).chunk(2, -1)
    inside = q @ k.transpose(-1, -2) * gap
    q = q * g.exp()[..., None]
    k = (k * (g[..., -1:] - g).exp()[..., None]).transpose(-1, -2)
    fade = g[..., -1].exp()[..., None, None]
    state, outs = torch.zeros(B, H, D, D), []
    for q, k, own, seen, inside, fade in zip(*(x.unbind(2)
                                               for x in (q, k, own, seen, inside, fade))):
        write = own - seen @ state
        outs.append(q @ state + inside @ write)
        state = state * fade + k @ write
    return torch.stack(outs, 2).view(B, H, T, D)


class GatedDelta(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        self.c, width = c, c.state_heads * c.state_width
        self.in_proj_qkv = Projection(c.hidden, 3 * width, 0.04)
        self.in_proj_z = Projection(c.hidden, width, 0.04)
        self.in_proj_b = Projection(c.hidden, c.state_heads, 0.04)
        self.in_proj_a = Projection(c.hidden, c.state_heads, 0.04)
        self.out_proj = Projection(width, c.hidden, out)
        self.conv1d = nn.Conv1d(3 * width, 3 * width, c.taps, groups=3 * width, bias=False)
        self.norm = nn.RMSNorm(c.state_width, eps=c.eps)
        with torch.no_grad():
            self.in_proj_z.weight[:, 0] = 0.15
        # States that fade within some ten, and within some thousand tokens.
        step = torch.logspace(-4, -1, c.state_heads)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.zeros(c.state_heads))

    @torch.no_grad()
    def copy(self):
        """Starts as what repeats: a head looks for the last place where its last 1, 2, 4 or 7 tokens
        stood and answers with the token behind. Queries and keys are one projection, keys a token
        late; channel 0, a constant, opens the gate. Training finds this by itself, but late. Taps
        that started at zero were at 0.03 after 3,400 steps; whether wide windows from the first
        step on help a model without softmax was not tried."""
        c = self.c
        parts = self.in_proj_qkv.weight.view(3, c.state_heads, c.state_width, c.hidden)
        parts[..., 0] = 0
        parts[1] = parts[0]
        taps = self.conv1d.weight.view(3, c.state_heads, c.state_width, c.taps).zero_()
        taps[2, ..., -1] = 1
        for h in range(c.state_heads):
            for back in range(min(2 ** h, c.taps - 1)):
                taps[0, h, :, -1 - back] = taps[1, h, :, -2 - back] = 1
        self.out_proj.weight.copy_(0.5 * parts[2].flatten(0, 1).T)

    def forward(self, x, *_):
        c = self.c
        B, T, _ = x.shape
        short = -T % CHUNK
        y = F.pad(self.in_proj_qkv(x).transpose(1, 2), (c.taps - 1, short))
        y = F.silu(self.conv1d(y)).view(B, 3, c.state_heads, c.state_width, -1).transpose(-1, -2)
        q, k, v = y.unbind(1)
        q, k = (z * (z.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for z in (q, k))
        decay = -self.A_log.exp() * F.softplus(self.in_proj_a(x) + self.dt_bias)
        decay, rate = (F.pad(z.transpose(1, 2), (0, short))
                       for z in (decay, self.in_proj_b(x).sigmoid()))
        y = gated_delta(q * c.state_width ** -0.5, k, v, decay, rate)[:, :, :T].transpose(1, 2)
        z = self.in_proj_z(x).view(B, T, c.state_heads, c.state_width)
        return self.out_proj((self.norm(y) * F.silu(z)).reshape(B, T, -1))


class GatedAttention(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        self.c = c
        self.q_proj = Projection(c.hidden, 2 * c.heads * c.head_dim, 0.04)   # queries and gates
        self.k_proj = Projection(c.hidden, c.kv_heads * c.head_dim, 0.04)
        self.v_proj = Projection(c.hidden, c.kv_heads * c.head_dim, 0.04)
        self.o_proj = Projection(c.heads * c.head_dim, c.hidden, out)
        # A lookup among thousands needs products up to 35; training hardly gets there from 5.7.
        self.q_norm, self.k_norm = Norm(c.head_dim, c.eps, 1.5), Norm(c.head_dim, c.eps, 1.5)

    def forward(self, x, cos, sin):
        c = self.c
        B, T, _ = x.shape
        half = cos.shape[-1]

        def rotate(y):
            lo, hi, rest = y.split((half, half, c.head_dim - 2 * half), -1)
            return torch.cat((lo * cos - hi * sin, hi * cos + lo * sin, rest), -1)

        q, gate = self.q_proj(x).view(B, T, c.heads, -1).chunk(2, -1)
        k, v = (p(x).view(B, T, c.kv_heads, c.head_dim) for p in (self.k_proj, self.v_proj))
        q, k = rotate(self.q_norm(q).transpose(1, 2)), rotate(self.k_norm(k).transpose(1, 2))
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.transpose(1, 2).repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        return self.o_proj((y * gate.sigmoid()).reshape(B, T, -1))


class HybridLayer(nn.Module):
    def __init__(self, c, kind):
        super().__init__()
        out = 0.02 / (2 * c.layers) ** 0.5
        self.name = "linear_attn" if kind == "l" else "self_attn"
        self.add_module(self.name, (GatedDelta if kind == "l" else GatedAttention)(c, out))
        self.input_layernorm = Norm(c.hidden, c.eps)
        self.post_attention_layernorm = Norm(c.hidden, c.eps)
        self.mlp = nn.ModuleDict(dict(
            gate_proj=Projection(c.hidden, c.ffn, 0.04), up_proj=Projection(c.hidden, c.ffn, 0.04),
            down_proj=Projection(c.ffn, c.hidden, out)))

    def forward(self, x, cos, sin):
        x = x + getattr(self, self.name)(self.input_layernorm(x), cos, sin)
        y, m = self.post_attention_layernorm(x), self.mlp
        return x + m.down_proj(F.silu(m.gate_proj(y)) * m.up_proj(y))


class HybridModel(Decoder):
    def __init__(self, c):
        super().__init__(c, (HybridLayer(c, kind) for kind in c.pattern), Norm(c.hidden, c.eps),
                         int(c.head_dim * c.rotary))
        for kind, layer in zip(c.pattern[:2], self.layers):
            if kind == "l":
                layer.linear_attn.copy()
