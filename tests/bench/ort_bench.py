#!/usr/bin/env python3
"""Milliseconds a run of an ONNX model takes in ONNX Runtime on the CPU, as JSON: for paired.py.

    ort_bench.py shvit-s1.onnx --threads 1

Needs onnxruntime and numpy, the only script here that needs more than the standard library.
"""
import argparse
import json
import statistics
import time

import numpy
import onnxruntime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="of timed runs")
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    x = numpy.random.default_rng(1).standard_normal(given.shape).astype(numpy.float32)
    for _ in range(3):
        session.run(None, {given.name: x})
    times, end = [], time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        session.run(None, {given.name: x})
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"median_ms": statistics.median(times), "runs": len(times), "version": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
