"""Scores a saved classifier on held-out pictures: evaluate.py MODEL DATA [--name held-out] [--worst N]

MODEL is a folder with model.safetensors and config.json, DATA one with NAME.raw and labels.txt.
"""
import argparse
import json

import torch
from safetensors.torch import load_file

from data import Pictures
from model import Config, Model


def load(folder):
    config = json.load(open(f"{folder}/config.json"))
    sizes = {k: tuple(v) for k, v in config["model_args"].items()}
    model = Model(Config(config["num_classes"], **sizes))
    model.load_state_dict(load_file(f"{folder}/model.safetensors"))
    return model.eval(), config["pretrained_cfg"]["label_names"]


@torch.no_grad()
def confusion(model, pictures):
    """-> counts [label, answer]"""
    classes = len(pictures.names)
    counts = torch.zeros(classes * classes, dtype=torch.long)
    for x, y in map(pictures.take, torch.arange(pictures.count).split(256)):
        counts += torch.bincount(y * classes + model(x).argmax(1), minlength=classes * classes)
    return counts.view(classes, classes)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("data")
    p.add_argument("--name", default="held-out")
    p.add_argument("--worst", type=int, default=8)
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    model, names = load(a.model)
    pictures = Pictures(a.data, a.name)
    if pictures.names != names:
        raise SystemExit(f"{a.data}/labels.txt names other labels than {a.model}/config.json")
    counts = confusion(model, pictures)
    for name, right, asked in zip(names, counts.diagonal().tolist(), counts.sum(1).tolist()):
        print(f"{name:22s} {right:5d} of {asked:5d} = {100 * right / max(1, asked):6.2f} %")
    wrong = counts - torch.diag(counts.diagonal())
    often, pairs = wrong.flatten().sort(descending=True, stable=True)
    for times, at in list(zip(often.tolist(), pairs.tolist()))[:a.worst]:
        if times:
            print(f"{times:4d} x {names[at // len(names)]} was called {names[at % len(names)]}")
    right, asked = counts.diagonal().sum().item(), counts.sum().item()
    print(f"{right} of {asked} right: {100 * right / asked:.2f} %")


if __name__ == "__main__":
    main()
