"""Trains the classifier of pictures on a CPU and writes it as timm's hub lays a model out.

    train.py DATA OUT [--epochs N] [--minutes M]     DATA/train.raw, DATA/held-out.raw, DATA/labels.txt

The learning rate warms up and falls along a cosine over the whole budget: epochs, or minutes of wall
clock where a shared machine is too slow for them. What is saved is the running mean of the weights.
"""
import argparse
import copy
import json
import math
import os
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from data import SIDE, Pictures
from model import Config, Model

EMA = 0.998       # of the running mean: it forgets in 500 steps
SHIFT = 6         # pixels by which pictures are moved
CHECKED = 2048    # held-out pictures looked at during training


def varied(x):
    """Moved by a few pixels, edges repeated; lighter or darker; more or less contrast."""
    dx, dy = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
    x = F.pad(x, (SHIFT,) * 4, mode="replicate")[:, :, dy:dy + SIDE, dx:dx + SIDE]
    gain, light = 0.85 + 0.3 * torch.rand(len(x), 1, 1, 1), 0.3 * torch.rand(len(x), 1, 1, 1) - 0.15
    return (x * gain + light).clamp(-1, 1)


def groups(model, decay):
    """Matrices and kernels decay; norms and biases do not."""
    dense = [q for q in model.parameters() if q.dim() > 1]
    rest = [q for q in model.parameters() if q.dim() <= 1]
    return [dict(params=dense, weight_decay=decay), dict(params=rest, weight_decay=0.0)]


@torch.no_grad()
def accuracy(model, pictures, count):
    model.eval()
    right = sum((model(x).argmax(1) == y).sum().item()
                for x, y in map(pictures.take, torch.arange(count).split(256)))
    return right / count


class Trainer:
    def __init__(self, options):
        self.options = options
        torch.manual_seed(options.seed)
        self.train = Pictures(options.data, "train")
        self.held_out = Pictures(options.data, "held-out")
        self.config = Config(len(self.train.names))
        self.model = Model(self.config).to(memory_format=torch.channels_last)
        if options.start:
            self.model.load_state_dict(load_file(f"{options.start}/model.safetensors"))
        self.mean = copy.deepcopy(self.model)
        self.opt = torch.optim.AdamW(groups(self.model, options.decay), options.lr)
        self.step, self.start = 0, time.time()
        print(f"{sum(q.numel() for q in self.model.parameters())} parameters, "
              f"{self.train.count} pictures", flush=True)

    def done(self):
        o = self.options
        by_count = self.step * o.batch / (o.epochs * self.train.count)
        return max(by_count, (time.time() - self.start) / 60 / o.minutes)

    def batches(self):
        while True:
            for index in torch.randperm(self.train.count).split(self.options.batch):
                if len(index) == self.options.batch:
                    yield self.train.take(index)

    def learn(self, x, y):
        rate = self.options.lr * min(1, (self.step + 1) / 300)
        for group in self.opt.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * min(1, self.done())))
        x = varied(x).to(memory_format=torch.channels_last)
        loss = F.cross_entropy(self.model.train()(x), y, label_smoothing=0.05)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.opt.step()
        self.step += 1
        self.average()
        return loss.item()

    @torch.no_grad()
    def average(self):
        """Weights and statistics alike; young means follow faster."""
        keep = min(EMA, self.step / (self.step + 10))
        for mean, now in zip(self.mean.state_dict().values(), self.model.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)

    def run(self):
        losses, seen = [], time.time()
        for x, y in self.batches():
            losses.append(self.learn(x, y))
            if self.step % 100 == 0:
                rate = len(losses) * self.options.batch / (time.time() - seen)
                line = (f"step {self.step} done {self.done():.3f} {rate:.0f} pictures/s "
                        f"lr {self.opt.param_groups[0]['lr']:.1e} "
                        f"loss {sum(losses) / len(losses):.4f}")
                if self.step % 500 == 0:
                    line += f" held out {accuracy(self.mean, self.held_out, CHECKED):.4f}"
                    self.save()
                print(line, flush=True)
                losses, seen = [], time.time()
            if self.done() >= 1:
                break
        self.save()
        print(f"{self.step} steps of {self.options.batch} pictures, "
              f"{(time.time() - self.start) / 60:.1f} minutes, held out "
              f"{accuracy(self.mean, self.held_out, self.held_out.count):.4f}", flush=True)

    def save(self):
        """model.safetensors and config.json, as timm.create_model('hf-hub:...') reads them."""
        c, names, half = self.config, self.train.names, [0.5, 0.5, 0.5]
        os.makedirs(self.options.out, exist_ok=True)
        weights = {k: v.contiguous() for k, v in self.mean.state_dict().items()}
        save_file(weights, f"{self.options.out}/model.safetensors", metadata={"format": "pt"})
        with open(f"{self.options.out}/config.json", "w") as f:
            json.dump({
                "architecture": "shvit_s1", "num_classes": len(names),
                "num_features": c.embed_dim[-1], "global_pool": "avg",
                "model_args": {k: list(getattr(c, k)) for k in (
                    "embed_dim", "partial_dim", "depth", "types", "qk_dim")},
                "pretrained_cfg": {
                    "input_size": [3, SIDE, SIDE], "fixed_input_size": False,
                    "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
                    "mean": half, "std": half, "num_classes": len(names),
                    "first_conv": "patch_embed.0.c", "classifier": "head.l",
                    "label_names": names}}, f, indent=2)
            f.write("\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("data")
    p.add_argument("out")
    p.add_argument("--epochs", type=float, default=7)
    p.add_argument("--minutes", type=float, default=math.inf)
    p.add_argument("--start", metavar="MODEL", help="go on from the weights of this folder")
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--decay", type=float, default=0.05)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    Trainer(options).run()


if __name__ == "__main__":
    main()
