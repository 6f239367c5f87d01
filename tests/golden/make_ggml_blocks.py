"""Makes gguf-blocks: random bytes of every block type and what ggml makes of them.

Run with libggml-base (ggml 0.27) at hand: python3 make_ggml_blocks.py [OUT_DIR]

Each type has TYPE.bin: 48 blocks of random bytes, scales included, so that every bit pattern of a
code and signed, denormal and ordinary scales occur (exponents that make infinities are lowered),
then the floats (little-endian) that ggml's own to_float makes of them.
"""
import ctypes
import os
import sys

import numpy as np

TYPES = {"Q4_0": (2, 32, 18, [0]), "Q4_1": (3, 32, 20, [0, 2]), "Q5_0": (6, 32, 22, [0]),
         "Q5_1": (7, 32, 24, [0, 2]), "Q8_0": (8, 32, 34, [0]), "Q2_K": (10, 256, 84, [80, 82]),
         "Q3_K": (11, 256, 110, [108]), "Q4_K": (12, 256, 144, [0, 2]),
         "Q5_K": (13, 256, 176, [0, 2]), "Q6_K": (14, 256, 210, [208]), "MXFP4": (39, 32, 17, []),
         "F16": (1, 1, 2, [0]), "BF16": (30, 1, 2, [])}


class Traits(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64),
                ("interleave", ctypes.c_int64), ("bytes", ctypes.c_size_t),
                ("quantised", ctypes.c_bool), ("to_float", ctypes.c_void_p),
                ("from_float", ctypes.c_void_p)]


def main(out):
    ggml = ctypes.CDLL("libggml-base.so.0")
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    random = np.random.default_rng(5)
    os.makedirs(out, exist_ok=True)
    for name, (number, block, size, scales) in TYPES.items():
        traits = ggml.ggml_get_type_traits(number).contents
        assert (traits.block, traits.bytes) == (block, size), name
        count = 48 if block > 1 else 512
        count = 12 if block == 256 else count
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for at in scales:                     # the high byte of a half: no exponent of all ones
            high = blocks[:, at + 1]
            high[(high & 0x7c) == 0x7c] &= 0xbf
        if name == "BF16":
            blocks[:, 1] &= 0xbf
        values = np.empty(count * block, np.float32)
        to_float = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        to_float(traits.to_float)(blocks.ctypes.data, values.ctypes.data, values.size)
        assert np.isfinite(values).all(), name
        with open(os.path.join(out, name + ".bin"), "wb") as f:
            f.write(blocks.tobytes())
            f.write(values.tobytes())
        print(name, count, "blocks", os.path.getsize(os.path.join(out, name + ".bin")), "bytes")


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "gguf-blocks"))
