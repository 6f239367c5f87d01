#!/usr/bin/env python3
"""Converts every golden case to f32 and prints how far our logits are from those committed with it.

usage: parity.py [--headroom build/release/bin/headroom]    Standard library only.
The tests check the same with bounds; this prints the figures of README's table.
"""
import argparse
import array
import json
import pathlib
import subprocess
import tempfile

GOLDEN = pathlib.Path(__file__).resolve().parent


def read_npy(path):
    """The numbers of a float32 .npy file, row after row."""
    data = path.read_bytes()
    begin = 10 + int.from_bytes(data[8:10], "little")
    return array.array("f", data[begin:])


def measure(headroom, case, folder):
    """Largest |logit| of the reference and largest difference of ours."""
    source = case / "model.gguf"
    model, out = folder / "model.hrm", folder / "logits.npy"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([headroom, "convert", source if source.exists() else case, model, "--weights", "f32"], **quiet)
    tokens = ",".join(map(str, json.loads((case / "tokens.json").read_text())))
    subprocess.run([headroom, "logits", model, "--tokens", tokens, "--kv", "f32", "--chunk", "8", "--no-cache",
                    "--out", out], **quiet)
    ours, theirs = read_npy(out), read_npy(case / "logits.npy")
    assert len(ours) == len(theirs), f"{case}: {len(ours)} logits, {len(theirs)} expected"
    return max(map(abs, theirs)), max(abs(a - b) for a, b in zip(ours, theirs))


def main():
    """Prints one line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headroom", default=GOLDEN.parent.parent / "build/release/bin/headroom")
    headroom = parser.parse_args().headroom
    cases = sorted(path.parent for path in GOLDEN.rglob("logits.npy"))
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            largest, difference = measure(headroom, case, pathlib.Path(folder))
        print(f"{case.relative_to(GOLDEN)!s:24} logits to {largest:6.2f}   largest difference {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
