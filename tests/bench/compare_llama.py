#!/usr/bin/env python3
"""Compares headroom with llama.cpp on one shape: speed in pairs, memory side by side.

Before: the same shape for both programs. For random weights of a public shape:
    build/release/bin/headroom convert --random llama-3.2-1b --weights int4 --out shape.hrm
    and a GGUF of that shape, quantised with `llama-quantize shape-f16.gguf shape-q4_0.gguf Q4_0`.
Then, on an otherwise idle machine:
    tests/bench/compare_llama.py --ours build/release/bin/headroom --model shape.hrm \\
        --llama-bench /usr/bin/llama-bench --gguf shape-q4_0.gguf --threads 1,2 --depths 0,4096 --out result.json
--llama-bench may be a whole command ("chroot /some/root llama-bench"); the GGUF path is then as that command sees it.
Keep llama.cpp's GPU backends out of its sight (GGML_VK_VISIBLE_DEVICES= or no such library), or it uses them.

Columns mean the same on both sides: pp = prompt tokens per second, tg = generated tokens per second at a depth.
Flash attention is on for llama.cpp unless --llama-args says otherwise; the cache is f16 on both sides.
"""

import argparse
import json
import shlex
import sys

import paired
import peak_memory


def sides(options, test, depth, threads):
    """The two commands that measure `test` ("pp512", "tg32") once."""
    kind, tokens = test[:2], test[2:]
    prompt, generate = (tokens, "0") if kind == "pp" else ("0", tokens)
    ours = (f"{options.ours} bench {shlex.quote(options.model)} --prefill {prompt} --decode {generate} --depth {depth} "
            f"--threads {threads} --kv {options.kv} -r 1 --no-limit --json")
    theirs = (f"{options.llama_bench} -m {shlex.quote(options.gguf)} -p {prompt} -n {generate} -d {depth} "
              f"-t {threads} -r 1 -o json {options.llama_args}")
    return (paired.Side("headroom", ours, "results.0.median_ts", None),
            paired.Side("llama.cpp", theirs, "0.avg_ts", None))


def compare_speed(options):
    rows = []
    tests = [(f"pp{options.prefill}", 0)] + [(f"tg{options.decode}", depth) for depth in options.depths]
    for threads in options.threads:
        for test, depth in tests:
            pair = sides(options, test, depth, threads)
            paired.alternate(pair, options.rounds, 1, 1.0, 3600)
            row = paired.compare(pair[0].samples, pair[1].samples)
            row.update({"test": test, "depth": depth, "threads": threads})
            rows.append(row)
            print(f"{test:>6} @ d{depth:<6} {threads} thr  headroom {row['a']['median']:8.2f}  "
                  f"llama.cpp {row['b']['median']:8.2f}  ratio {row['ratio_a_over_b']['median']:.2f} "
                  f"({row['ratio_a_over_b']['smallest']:.2f} .. {row['ratio_a_over_b']['largest']:.2f})", flush=True)
    return rows


def compare_memory(options):
    """Peaks of a few tokens made at the largest depth."""
    depth, threads = max(options.depths), max(options.threads)
    rows = []
    for side in sides(options, "tg4", depth, threads):
        peak = peak_memory.measure(shlex.split(side.command))
        rows.append({"name": side.name, "depth": depth, **peak})
        print(f"{side.name:>10} @ d{depth}: peak private {peak['private_bytes'] / 2**20:.0f} MiB, "
              f"peak resident {peak['resident_bytes'] / 2**20:.0f} MiB", flush=True)
    return rows


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="path of headroom")
    parser.add_argument("--model", required=True, help=".hrm")
    parser.add_argument("--llama-bench", required=True, help="path or command")
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--llama-args", default="-fa 1 -ngl 0")
    parser.add_argument("--kv", default="f16")
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--depths", type=numbers, default=[0, 4096])
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="JSON file with every sample")
    options = parser.parse_args()
    try:
        result = {"speed": compare_speed(options), "memory": compare_memory(options)}
    except (RuntimeError, OSError, ValueError) as error:
        print(f"compare_llama: {error}", file=sys.stderr)
        return 1
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
