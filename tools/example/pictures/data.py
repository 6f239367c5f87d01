"""Reads what `headroom-draw DIR --raw NAME` wrote: all pixels, then a byte for each label."""
import os

import numpy as np
import torch

SIDE = 128
PICTURE_BYTES = SIDE * SIDE * 3


class Pictures:
    def __init__(self, folder, name):
        path = f"{folder}/{name}.raw"
        self.names = open(f"{folder}/labels.txt").read().splitlines()
        self.count, rest = divmod(os.path.getsize(path), PICTURE_BYTES + 1)
        if rest or not self.count:
            raise ValueError(f"{path}: not a whole number of pictures")
        self.pixels = np.memmap(path, np.uint8, "r", 0, (self.count, SIDE, SIDE, 3))
        labels = np.fromfile(path, np.uint8, offset=self.count * PICTURE_BYTES)
        self.labels = torch.from_numpy(labels.astype(np.int64))

    def take(self, index):
        """-> x [B, 3, SIDE, SIDE] in -1 .. 1 (mean 0.5, deviation 0.5), labels [B]."""
        pixels = torch.from_numpy(self.pixels[index.numpy()])
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, self.labels[index]
