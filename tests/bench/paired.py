#!/usr/bin/env python3
"""Times two commands in turn and compares them.

Machines drift: clocks, neighbours, page caches. Two runs ten minutes apart measure the weather. This runs
A, B, B, A, A, B ... in one sitting, takes one number from each run, and reports medians, spreads and the
ratio of each pair, so that what disturbs both cancels out.

    tests/bench/paired.py --rounds 7 --json out.json \\
        --a  'build/release/bin/headroom bench m.hrm --prefill 0 --decode 32 -r 1 --json' --a-path results.0.median_ts \\
        --b  'llama-bench -m m.gguf -p 0 -n 32 -r 1 -o json'                              --b-path 0.avg_ts

A number is taken by --X-path (dots and indices into JSON on stdout) or --X-regex (first group, searched in
stdout, then stderr; the last match counts). Without either, the wall time of the command in seconds.
"""

import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
import time


class Side:
    """One of the two commands and how to read it."""

    def __init__(self, name, command, path, regex):
        self.name = name
        self.command = command
        self.path = path
        self.regex = re.compile(regex) if regex else None
        self.samples = []

    def run(self, timeout):
        started = time.monotonic()
        done = subprocess.run(shlex.split(self.command), capture_output=True, text=True, errors="replace",
                              timeout=timeout, check=False)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return self.number(done.stdout, done.stderr, seconds)

    def number(self, out, err, seconds):
        if self.path is not None:
            return dig(json.loads(out), self.path)
        if self.regex is not None:
            matches = self.regex.findall(out) or self.regex.findall(err)
            if not matches:
                raise RuntimeError(f"{self.name}: nothing matches {self.regex.pattern!r}")
            last = matches[-1]
            return float(last if isinstance(last, str) else last[0])
        return seconds


def dig(value, path):
    """results.0.median_ts -> value["results"][0]["median_ts"] as a float."""
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise RuntimeError(f"no {key!r} of path {path!r} in the output") from error
    return float(value)


def summary(samples):
    """Median, and the distance between the quartiles, which one bad sample does not move."""
    ordered = sorted(samples)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return {"median": statistics.median(ordered), "quartile_low": quartiles[0], "quartile_high": quartiles[2],
            "smallest": ordered[0], "largest": ordered[-1], "samples": samples}


def compare(a_samples, b_samples):
    ratios = [a / b for a, b in zip(a_samples, b_samples) if b != 0]
    if not ratios:
        raise RuntimeError("no pair to compare")
    return {"a": summary(a_samples), "b": summary(b_samples), "ratio_a_over_b": summary(ratios)}


def alternate(sides, rounds, warmup, pause, timeout):
    """ABBA order: a steady drift favours neither side."""
    for _ in range(warmup):
        for side in sides:
            side.run(timeout)
    for number in range(rounds):
        order = sides if number % 2 == 0 else sides[::-1]
        for side in order:
            time.sleep(pause)
            side.samples.append(side.run(timeout))
        print(f"round {number + 1}: " + ", ".join(f"{s.name} {s.samples[-1]:.4g}" for s in sides),
              file=sys.stderr, flush=True)


def line(name, numbers):
    return (f"{name:>8}  median {numbers['median']:10.4g}   quartiles {numbers['quartile_low']:.4g} .. "
            f"{numbers['quartile_high']:.4g}   range {numbers['smallest']:.4g} .. {numbers['largest']:.4g}")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for side in "ab":
        parser.add_argument(f"--{side}", required=True, metavar="COMMAND")
        parser.add_argument(f"--{side}-name", default=side.upper())
        taken = parser.add_mutually_exclusive_group()
        taken.add_argument(f"--{side}-path", metavar="JSON.PATH")
        taken.add_argument(f"--{side}-regex", metavar="REGEX")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1, help="unmeasured runs of each before (default 1)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between runs (default 0.5)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds a run may take")
    parser.add_argument("--json", metavar="FILE", help="also write all samples and figures there")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    sides = [Side(options.a_name, options.a, options.a_path, options.a_regex),
             Side(options.b_name, options.b, options.b_path, options.b_regex)]
    try:
        alternate(sides, options.rounds, options.warmup, options.pause, options.timeout)
        figures = compare(sides[0].samples, sides[1].samples)
    except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"paired: {error}", file=sys.stderr)
        return 1
    print(line(sides[0].name, figures["a"]))
    print(line(sides[1].name, figures["b"]))
    print(line("ratio", figures["ratio_a_over_b"]))
    if options.json:
        figures["commands"] = {side.name: side.command for side in sides}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
