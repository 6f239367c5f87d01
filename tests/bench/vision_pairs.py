#!/usr/bin/env python3
"""Milliseconds for a picture: Headroom and ONNX Runtime in turn, same shapes and threads, median of several rounds.

    vision_pairs.py HEADROOM shvit-s1.hrm shvit-s1.onnx [--threads 1] [--rounds 9] [--second int8.hrm]

Needs onnxruntime and numpy. The .onnx is the same architecture at the same size, batch norms folded, f32. Each round
measures one after the other, so that a busy machine hurts both; `ratio` is the median of the rounds' ratios
(ONNX Runtime's time by ours: above 1 we are faster), with its quartiles.
"""
import argparse
import json
import statistics
import subprocess
import time

import numpy
import onnxruntime


def ort_session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ort_ms(session, seconds=0.4):
    """The median of the runs that fit into `seconds`."""
    given = session.get_inputs()[0]
    x = numpy.random.default_rng(1).standard_normal(given.shape).astype(numpy.float32)
    times, end = [], time.monotonic() + seconds
    session.run(None, {given.name: x})
    while time.monotonic() < end:
        start = time.perf_counter()
        session.run(None, {given.name: x})
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def our_ms(program, model, threads):
    command = [program, "bench", model, "--threads", str(threads), "-r", "7", "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["results"][0]
    return result["median_ms"]


def quartiles(values):
    return statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("headroom")
    parser.add_argument("model")
    parser.add_argument("onnx")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--second", help="another of our models, compared with the first")
    arguments = parser.parse_args()
    session = ort_session(arguments.onnx, arguments.threads)
    rounds = []
    for _ in range(arguments.rounds):
        row = [our_ms(arguments.headroom, arguments.model, arguments.threads), ort_ms(session)]
        if arguments.second:
            row.append(our_ms(arguments.headroom, arguments.second, arguments.threads))
        rounds.append(row)
    ours, theirs = [r[0] for r in rounds], [r[1] for r in rounds]
    low, middle, high = quartiles([b / a for a, b in zip(ours, theirs)])
    print(f"{arguments.model} threads {arguments.threads}: ours {statistics.median(ours):.2f} ms, ONNX Runtime "
          f"{onnxruntime.__version__} {statistics.median(theirs):.2f} ms, ratio {middle:.2f} ({low:.2f} to {high:.2f})")
    if arguments.second:
        seconds = [r[2] for r in rounds]
        low, middle, high = quartiles([a / b for a, b in zip(ours, seconds)])
        print(f"  {arguments.second}: {statistics.median(seconds):.2f} ms, {middle:.2f} times as fast as the first "
              f"({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
