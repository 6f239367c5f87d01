"""SHViT, an image classifier with one attention head per layer, after arXiv 2401.16456.

Modules are named as in timm's `shvit`, so that a checkpoint made here loads there. Letters:
B pictures, C channels, P channels that attend, K width of queries and keys, T = H*W positions.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    classes: int
    embed_dim: tuple = (64, 96, 144)
    partial_dim: tuple = (16, 24, 32)
    depth: tuple = (1, 2, 3)
    types: tuple = ("i", "s", "s")
    qk_dim: tuple = (16, 16, 16)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm. `gain` 0 makes a residual branch begin as nothing."""

    def __init__(self, a, b, kernel=1, stride=1, groups=1, gain=1.0):
        super().__init__()
        self.c = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(b)
        nn.init.constant_(self.bn.weight, gain)


class Residual(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return x + self.m(x)


def near(c, gain=1.0):
    """x + what each channel makes of its 3x3 neighbours."""
    return Residual(ConvNorm(c, c, 3, groups=c, gain=gain))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.pw1, self.pw2 = ConvNorm(c, 2 * c), ConvNorm(2 * c, c, gain=0.0)

    def forward(self, x):
        return self.pw2(F.relu(self.pw1(x)))


class ChannelGate(nn.Module):
    """Squeeze and excitation: channels are weighed by what the mean of the picture says."""

    def __init__(self, c):
        super().__init__()
        width = (c // 4 + 4) // 8 * 8
        self.fc1, self.fc2 = nn.Conv2d(c, width, 1), nn.Conv2d(width, c, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Merge(nn.Module):
    """Halves height and width: [B, a, H, W] -> [B, b, H/2, W/2]."""

    def __init__(self, a, b):
        super().__init__()
        self.conv1 = ConvNorm(a, 4 * a)
        self.conv2 = ConvNorm(4 * a, 4 * a, 3, 2, groups=4 * a)
        self.se = ChannelGate(4 * a)
        self.conv3 = ConvNorm(4 * a, b)

    def forward(self, x):
        return self.conv3(self.se(F.relu(self.conv2(F.relu(self.conv1(x))))))


class SingleHead(nn.Module):
    """The first P channels attend over all positions, the others pass by; `proj` mixes them."""

    def __init__(self, c, width, part):
        super().__init__()
        self.widths, self.split = (width, width, part), (part, c - part)
        self.pre_norm = nn.GroupNorm(1, part)
        self.qkv = ConvNorm(part, 2 * width + part)
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(c, c, gain=0.0))

    def forward(self, x):
        some, rest = x.split(self.split, 1)
        q, k, v = self.qkv(self.pre_norm(some)).flatten(2).split(self.widths, 1)   # [B, ., T]
        weights = (q.transpose(1, 2) @ k * self.widths[0] ** -0.5).softmax(-1)      # [B, T, T]
        attended = (v @ weights.transpose(1, 2)).view_as(some)
        return self.proj(torch.cat((attended, rest), 1))


class Block(nn.Module):
    def __init__(self, c, kind, width, part):
        super().__init__()
        self.conv = near(c, gain=0.0)
        self.mixer = Residual(SingleHead(c, width, part)) if kind == "s" else nn.Identity()
        self.ffn = Residual(FeedForward(c))

    def forward(self, x):
        return self.ffn(self.mixer(self.conv(x)))


class Stage(nn.Module):
    def __init__(self, before, c, depth, *block):
        super().__init__()
        self.downsample = nn.Identity() if before == c else nn.Sequential(
            near(before), Residual(FeedForward(before)), Merge(before, c),
            near(c), Residual(FeedForward(c)))
        self.blocks = nn.Sequential(*(Block(c, *block) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Head(nn.Sequential):
    def __init__(self, c, classes):
        super().__init__()
        self.bn, self.l = nn.BatchNorm1d(c), nn.Linear(c, classes)
        nn.init.trunc_normal_(self.l.weight, std=0.02)
        nn.init.zeros_(self.l.bias)


class Model(nn.Module):
    """x: [B, 3, H, W] in -1 .. 1 -> logits [B, classes]. The stem's stride is 16."""

    def __init__(self, c):
        super().__init__()
        first = c.embed_dim[0]
        widths = (3, first // 8, first // 4, first // 2, first)
        stem = []
        for a, b in zip(widths, widths[1:]):
            stem += [ConvNorm(a, b, 3, 2), nn.ReLU()]
        self.patch_embed = nn.Sequential(*stem[:-1])
        before = (first,) + tuple(c.embed_dim)
        self.stages = nn.Sequential(*(
            Stage(*of) for of in zip(before, c.embed_dim, c.depth, c.types, c.qk_dim,
                                     c.partial_dim)))
        self.head = Head(c.embed_dim[-1], c.classes)

    def forward(self, x):
        return self.head(self.stages(self.patch_embed(x)).mean((2, 3)))
