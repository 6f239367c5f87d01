"""Makes tiny vision checkpoints, and the logits and features that PyTorch computes for them.

Run with torch, safetensors and transformers: python3 make_vision_goldens.py OUT_DIR [CASE ...]

SHViT is written below from the paper (arXiv 2401.16456, sections 3.1 to 3.3) under timm's module names, and runs in
double precision; ViT (arXiv 2010.11929) and DeiT (arXiv 2012.12877) are transformers' own. Numbers come from integers
alone (`numbers`), so that another language makes the same: small checkpoints are stored, those of the published widths
only as what comes out of them. A case is refused where neutralising one tensor moves no logit by 0.03 % of their
spread; biases of keys are let off, since softmax takes them back.
"""
import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

torch.set_num_threads(2)
torch.set_grad_enabled(False)
BATCH_NORM_EPSILON = 1e-5
IMAGE_NET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PUBLISHED = {
    "shvit_s1": (224, (128, 224, 320), (2, 4, 5), (32, 48, 68)),
    "shvit_s2": (224, (128, 308, 448), (2, 4, 5), (32, 66, 96)),
    "shvit_s3": (224, (192, 352, 448), (3, 5, 5), (48, 75, 96)),
    "shvit_s4": (256, (224, 336, 448), (4, 7, 6), (48, 72, 96)),
}


def numbers(name, count):
    """Of element i, in [-0.5, 0.5): multiples of 2^-24 by a hash of the name (FNV-1a) and of i (MurmurHash3's last)."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    z = (np.arange(count, dtype=np.uint64) + seed) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        z ^= z >> np.uint64(shift)
        z = z * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    return (z >> np.uint64(8)).astype(np.float64) * 2.0**-24 - 0.5


def spread(name, shape, deep):
    """(factor, addend) of the numbers of a tensor: matrices keep the size of what goes through; of many branches that
    are added one behind another each is small."""
    if name.endswith("running_var"):
        return 1.0, 1.0
    if name.endswith(("running_mean", ".bias")):
        return 0.5, 0.0
    if len(shape) == 1:
        small = deep and name.endswith(("pw2.bn.weight", "proj.1.bn.weight", "m.bn.weight"))
        return (0.2, 0.3) if small else (0.6, 1.0)
    if name.endswith(("_token", "position_embeddings")):
        return 2.0, 0.0
    gain = 0.5 if ".se." in name else 1.4 if "patch_embed" in name else 1.0
    return gain * (12.0 / np.prod(shape[1:]))**0.5, 0.0


def fill(module, deep=False):
    for name, tensor in module.state_dict().items():
        if tensor.dtype == torch.int64:
            continue
        factor, addend = spread(name, tuple(tensor.shape), deep)
        values = numbers(name, tensor.numel()) * factor + addend
        tensor.copy_(torch.from_numpy(values.astype(np.float32).reshape(tuple(tensor.shape))))
    return module.eval().double()


def picture(height, width):
    """[1, 3, height, width]; element (row, column, colour) is number (row * width + column) * 3 + colour, times 4."""
    values = numbers("picture", height * width * 3).astype(np.float64) * 4
    return torch.from_numpy(values.reshape(1, height, width, 3)).permute(0, 3, 1, 2)


def normed(inputs, outputs, kernel=1, stride=1, groups=1):
    module = nn.Sequential()
    module.add_module("c", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
    module.add_module("bn", nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPSILON))
    return module


class Around(nn.Module):
    """x + m(x)"""
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return x + self.m(x)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pw1, self.pw2 = normed(width, 2 * width), normed(2 * width, width)

    def forward(self, x):
        return self.pw2(self.pw1(x).relu())


class Excite(nn.Module):
    def __init__(self, width):
        super().__init__()
        inner = max(8, int(width * 0.25 + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Merge(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.conv1 = normed(width, 4 * width)
        self.conv2 = normed(4 * width, 4 * width, 3, 2, 4 * width)
        self.se = Excite(4 * width)
        self.conv3 = normed(4 * width, out)

    def forward(self, x):
        return self.conv3(self.se(self.conv2(self.conv1(x).relu()).relu()))


class SingleHead(nn.Module):
    def __init__(self, width, query, partial):
        super().__init__()
        self.query, self.partial = query, partial
        self.pre_norm = nn.GroupNorm(1, partial)
        self.qkv = normed(partial, 2 * query + partial)
        self.proj = nn.Sequential(nn.ReLU(), normed(width, width))

    def forward(self, x):
        first, rest = x[:, :self.partial], x[:, self.partial:]
        qkv = self.qkv(self.pre_norm(first)).flatten(2).transpose(1, 2)  # [1, positions, 2 query + partial]
        q, k, v = qkv.split([self.query, self.query, self.partial], 2)
        mixed = (q @ k.transpose(1, 2) * self.query**-0.5).softmax(-1) @ v
        return self.proj(torch.cat([mixed.transpose(1, 2).reshape(first.shape), rest], 1))


class Block(nn.Module):
    def __init__(self, width, query, partial, kind):
        super().__init__()
        self.conv = Around(normed(width, width, 3, 1, width))
        self.mixer = Around(SingleHead(width, query, partial)) if kind == "s" else nn.Identity()
        self.ffn = Around(FeedForward(width))

    def forward(self, x):
        return self.ffn(self.mixer(self.conv(x)))


class Stage(nn.Module):
    def __init__(self, before, width, query, partial, kind, depth, joined):
        super().__init__()
        self.downsample = nn.Sequential(
            Around(normed(before, before, 3, 1, before)), Around(FeedForward(before)), Merge(before, width),
            Around(normed(width, width, 3, 1, width)), Around(FeedForward(width))) if joined else nn.Identity()
        self.blocks = nn.Sequential(*(Block(width, query, partial, kind) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Head(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.bn, self.l = nn.BatchNorm1d(width, eps=BATCH_NORM_EPSILON), nn.Linear(width, classes)

    def forward(self, x):
        return self.l(self.bn(x))


class Shvit(nn.Module):
    """`authors`: stages of one width are joined, too, and a second head may stand beside the first."""
    def __init__(self, embed_dim, depth, partial_dim, types, qk_dim=None, classes=1000, authors=False):
        super().__init__()
        qk_dim = qk_dim or [16] * len(embed_dim)
        stem = [3] + [embed_dim[0] // n for n in (8, 4, 2, 1)]
        parts = []
        for i in range(4):
            parts += [normed(stem[i], stem[i + 1], 3, 2)] + ([nn.ReLU()] if i < 3 else [])
        self.patch_embed = nn.Sequential(*parts)
        before, stages = embed_dim[0], []
        for i, width in enumerate(embed_dim):
            joined = i > 0 if authors else before != width
            stages.append(Stage(before, width, qk_dim[i], partial_dim[i], types[i], depth[i], joined))
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = Head(before, classes)
        if authors:
            self.head_dist = Head(before, classes)

    def forward(self, x):
        features = self.stages(self.patch_embed(x)).mean((2, 3))
        if hasattr(self, "head_dist"):
            return (self.head(features) + self.head_dist(features)) / 2, features
        return self.head(features), features


def authors_name(name):
    """The authors keep what joins two stages as the first three blocks of the second."""
    part = name.split(".")
    if part[0] != "stages":
        return name
    stage, kind, item, rest = int(part[1]), part[2], int(part[3]), ".".join(part[4:])
    if kind == "blocks":
        return f"blocks{stage + 1}.{item + (3 if stage else 0)}.{rest}"
    return f"blocks{stage + 1}." + {0: "0.0.", 1: "0.1.", 2: "1.", 3: "2.0.", 4: "2.1."}[item] + rest


def folded(model):
    """Names and numbers as timm's fuse() leaves them, in double."""
    state, out = model.state_dict(), {}
    for name in state:
        if name.endswith(".c.weight"):
            base = name[:-len(".c.weight")]
            scale = state[base + ".bn.weight"] / (state[base + ".bn.running_var"] + BATCH_NORM_EPSILON).sqrt()
            weight = state[name] * scale[:, None, None, None]
            bias = state[base + ".bn.bias"] - state[base + ".bn.running_mean"] * scale
            if base.endswith(".m"):  # a depthwise convolution and the sum around it
                weight[:, 0, 1, 1] += 1
                base = base[:-2]
            out[base + ".weight"], out[base + ".bias"] = weight, bias
        elif ".se." in name or ".pre_norm." in name:
            out[name] = state[name]
    scale = state["head.bn.weight"] / (state["head.bn.running_var"] + BATCH_NORM_EPSILON).sqrt()
    shift = state["head.bn.bias"] - state["head.bn.running_mean"] * scale
    out["head.weight"] = state["head.l.weight"] * scale
    out["head.bias"] = state["head.l.bias"] + state["head.l.weight"] @ shift
    return out


def expect(model, sizes, run, every=1):
    out = []
    for height, width in sizes:
        logits, features = run(model, picture(height, width))
        short = lambda x: [float(f"{value:.9g}") for value in x[0].tolist()[::every]]
        out.append({"height": height, "width": width, "logits": short(logits), "features": short(features),
                    "logit_spread": float(f"{logits.std().item():.9g}")})
    return out


def check_terms(model, size, run):
    """That every tensor has a say."""
    want = run(model, picture(*size))[0]
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.int64 or name.endswith("k_proj.bias"):
            continue
        kept = tensor.clone()
        neutral = 1.0 if name.endswith("running_var") else tensor.mean().item() if tensor.dim() > 1 else 0.0
        tensor.fill_(neutral)
        moved = (run(model, picture(*size))[0] - want).abs().max() / want.std()
        tensor.copy_(kept)
        assert moved > 3e-4, f"{name} moves the logits by {moved:.2g} of their spread"
    assert 0.05 < want.std() < 20, want.std()


def write(folder, config, tensors, expected, preprocessor=None):
    os.makedirs(folder, exist_ok=True)
    texts = {"config.json": config, "expected.json": expected, "preprocessor_config.json": preprocessor}
    for name, value in texts.items():
        if value is not None:
            with open(os.path.join(folder, name), "w") as file:
                json.dump(value, file, indent=1)
                file.write("\n")
    save_file({name: tensor.float().contiguous() if tensor.is_floating_point() else tensor
               for name, tensor in tensors.items()}, os.path.join(folder, "model.safetensors"))


def timm_config(arguments, classes, side, **around):
    return {"architecture": "shvit_s1", "num_classes": classes, "num_features": arguments["embed_dim"][-1],
            "global_pool": "avg", "model_args": arguments,
            "pretrained_cfg": {"tag": "test", "input_size": [3, side, side], "interpolation": "bicubic",
                               "crop_pct": 0.875, "crop_mode": "center", "num_classes": classes, "license": "mit",
                               **IMAGE_NET, **around}}


SIZES = [(32, 32), (64, 48), (96, 96)]
SMALL = {
    "shvit": dict(embed_dim=[8, 16, 24], depth=[1, 1, 2], partial_dim=[3, 7, 5], types=["i", "s", "s"]),
    "shvit-even": dict(embed_dim=[16, 16, 24], depth=[1, 2, 1], partial_dim=[3, 5, 6], types=["s", "i", "s"],
                       qk_dim=[8, 16, 4]),
    "shvit-authors": dict(embed_dim=[8, 16, 16], depth=[1, 1, 1], partial_dim=[3, 7, 5], types=["i", "s", "s"]),
}


def run_shvit(model, x):
    return model(x)


def make_shvit(out, case):
    classes = 12
    authors = case == "shvit-authors"
    model = fill(Shvit(**SMALL[case], classes=classes, authors=authors))
    check_terms(model, SIZES[2], run_shvit)
    expected = expect(model, SIZES, run_shvit)
    around = {"shvit": {"crop_mode": "squash", "label_names": [f"kind {i}" for i in range(classes)]},
              "shvit-even": {"interpolation": "bilinear", "crop_pct": 0.9}, "shvit-authors": {}}[case]
    config = timm_config(SMALL[case], classes, 64, **around)
    tensors = {authors_name(name) if authors else name: tensor for name, tensor in model.state_dict().items()}
    write(os.path.join(out, case), config, tensors, expected)
    if case == "shvit":
        write(os.path.join(out, "shvit-folded"), config, folded(model), expected)


def make_published(out, case):
    side, widths, depth, partial = PUBLISHED[case]
    model = fill(Shvit(widths, depth, partial, ("i", "s", "s")), deep=True)
    trained = sum(p.numel() for p in model.parameters())
    sizes = [(64, 64), (224, 224), (256, 256), (512, 512)]
    expected = {"every": 16, "side": side, "trained_parameters": trained,
                "folded_parameters": sum(t.numel() for t in folded(model).values()),
                "pictures": expect(model, sizes, run_shvit, 16)}
    with open(os.path.join(out, case + ".json"), "w") as file:
        json.dump(expected, file, indent=None, separators=(",", ":"))
        file.write("\n")
    print(case, trained, expected["folded_parameters"], [p["logit_spread"] for p in expected["pictures"]])


def run_transformers(model, x):
    base = getattr(model, "vit", None) or model.deit
    out = model(pixel_values=x)
    return out.logits, base(pixel_values=x).last_hidden_state[:, 0]


def make_transformers(out, case):
    from transformers import (DeiTConfig, DeiTForImageClassification, DeiTForImageClassificationWithTeacher, ViTConfig,
                              ViTForImageClassification)
    classes = {"vit": (ViTConfig, ViTForImageClassification), "deit": (DeiTConfig, DeiTForImageClassification),
               "deit-teacher": (DeiTConfig, DeiTForImageClassificationWithTeacher)}
    config_class, model_class = classes[case]
    labels = {i: f"kind {i}" for i in range(7)} if case == "vit" else None
    config = config_class(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
                          image_size=32, patch_size=8, layer_norm_eps=1e-6, num_labels=7,
                          **({"id2label": labels, "label2id": {v: k for k, v in labels.items()}} if labels else {}))
    config._attn_implementation = "eager"
    model = fill(model_class(config))
    check_terms(model, (32, 32), run_transformers)
    folder = os.path.join(out, case)
    os.makedirs(folder, exist_ok=True)
    model.float().save_pretrained(folder)
    model = model.double()
    preprocessor = {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True,
                    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
                    "image_processor_type": "ViTImageProcessor"}
    if case != "vit":
        preprocessor.update(size={"height": 38, "width": 38}, resample=3, do_center_crop=True,
                            crop_size={"height": 32, "width": 32}, image_mean=IMAGE_NET["mean"],
                            image_std=IMAGE_NET["std"], image_processor_type="DeiTImageProcessor")
    for name, value in (("expected.json", expect(model, [(32, 32)], run_transformers)),
                        ("preprocessor_config.json", preprocessor)):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(value, file, indent=1)
            file.write("\n")


MAKERS = {**{case: make_shvit for case in SMALL}, **{case: make_published for case in PUBLISHED},
          **{case: make_transformers for case in ("vit", "deit", "deit-teacher")}}

if __name__ == "__main__":
    for wanted in sys.argv[2:] or MAKERS:
        MAKERS[wanted](sys.argv[1], wanted)
