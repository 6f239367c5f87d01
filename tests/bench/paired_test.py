#!/usr/bin/env python3
"""The paired harness takes the right numbers and compares pairs, not averages."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import paired

HERE = os.path.dirname(os.path.abspath(__file__))


def run(*arguments):
    return subprocess.run([sys.executable, os.path.join(HERE, "paired.py"), "--pause", "0", *arguments],
                          capture_output=True, text=True, check=False)


class PairedTest(unittest.TestCase):
    def test_json_paths_reach_into_lists_and_objects(self):
        value = {"results": [{"median_ts": 3}, {"median_ts": 5.5}]}
        self.assertEqual(paired.dig(value, "results.1.median_ts"), 5.5)
        self.assertEqual(paired.dig([{"avg_ts": 2}], "0.avg_ts"), 2.0)
        for path in ("results.2.median_ts", "results.x", "nothing"):
            with self.assertRaises(RuntimeError):
                paired.dig(value, path)

    def test_ratio_is_that_of_the_pairs(self):
        # A drift that doubles both sides leaves every ratio at 2; one outlier does not move the median.
        figures = paired.compare([2, 4, 8, 16, 99], [1, 2, 4, 8, 1])
        self.assertEqual(figures["ratio_a_over_b"]["median"], 2)
        self.assertEqual(figures["a"]["median"], 8)
        self.assertEqual(figures["b"]["smallest"], 1)

    def test_numbers_come_from_json_and_regex(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.json")
            done = run("--rounds", "3", "--json", out, "--a", "echo '[{\"x\": 6}]'", "--a-path", "0.x",
                       "--b", "echo t/s 1 then t/s 3.0", "--b-regex", r"t/s ([\d.]+)")
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(out, encoding="utf-8") as file:
                figures = json.load(file)
        self.assertEqual(figures["a"]["samples"], [6, 6, 6])
        self.assertEqual(figures["b"]["median"], 3)
        self.assertEqual(figures["ratio_a_over_b"]["median"], 2)
        self.assertIn("ratio", done.stdout)

    def test_without_a_pattern_wall_time_counts(self):
        done = run("--rounds", "1", "--warmup", "0", "--a", "sleep 0.2", "--b", "sleep 0.1")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_order_alternates(self):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            say = f"sh -c 'echo -n %s >> {log}; echo 1'"
            done = run("--rounds", "4", "--warmup", "0", "--a", say % "a", "--a-regex", r"(\d)",
                       "--b", say % "b", "--b-regex", r"(\d)")
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(log, encoding="utf-8") as file:
                self.assertEqual(file.read(), "abbaabba")

    def test_failures_are_reported(self):
        for bad in ("false", "/no/such/program", "echo nothing"):
            done = run("--rounds", "1", "--a", bad, "--a-regex", r"(\d+)", "--b", "echo 1", "--b-regex", r"(\d)")
            self.assertEqual(done.returncode, 1, bad)
            self.assertIn("paired:", done.stderr)


if __name__ == "__main__":
    unittest.main()
