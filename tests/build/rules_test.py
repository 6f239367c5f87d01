#!/usr/bin/env python3
"""The checkers of the house rules, fed with small trees that break each rule once."""
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ.get("HEADROOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
sys.dont_write_bytecode = True


def load(name):
    path = str(SOURCE / "tools" / name)
    loader = importlib.machinery.SourceFileLoader(name.replace(".py", ""), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class IncludeDirection(unittest.TestCase):
    def setUp(self):
        self.checker = load("check_includes")
        self.folder = tempfile.TemporaryDirectory()
        self.checker.ROOT = pathlib.Path(self.folder.name)
        for name in ("base/status.h", "tensor/dims.h", "model/model.h", "store/kv.h", "plan/plan.h", "api/api.h",
                     "backends/xnnpack/dense.h", "session/session.h"):
            path = self.checker.ROOT / "runtime" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")

    def tearDown(self):
        self.folder.cleanup()

    def test_arrows_that_are_wrong(self):
        for path, include in [
                ("runtime/base/x.h", "tensor/dims.h"),
                ("runtime/store/x.h", "model/model.h"),
                ("runtime/plan/x.cc", "backends/xnnpack/dense.h"),
                ("runtime/session/x.cc", "api/api.h"),
                ("runtime/session/x.cc", "headroom/headroom.h"),
                ("runtime/plan/x.cc", "headroom_generated.h"),
                ("runtime/attention/x.cc", "hwy/highway.h"),
                ("runtime/model/x.cc", "nlohmann/json.hpp"),
                ("ports/linux/x.cc", "model/model.h"),
                ("tools/headroom/run.cc", "session/session.h"),
                ("tools/headroom/inspect.cc", "session/session.h"),
                ("tests/oracle/x.h", "store/kv.h")]:
            self.assertIsNotNone(self.checker.why_wrong(path, include), f"{path} -> {include}")

    def test_arrows_that_are_right(self):
        for path, include in [
                ("runtime/tensor/x.h", "base/status.h"),
                ("runtime/backends/xnnpack/x.cc", "plan/plan.h"),
                ("runtime/backends/xnnpack/x.cc", "backends/xnnpack/dense.h"),
                ("runtime/backends/xnnpack/x.cc", "hwy/highway.h"),
                ("runtime/api/x.cc", "headroom/headroom.h"),
                ("tools/headroom/inspect.cc", "model/model.h"),
                ("tools/headroom/run.cc", "headroom/headroom.h"),
                ("tests/oracle/x.h", "tensor/dims.h"),
                ("tests/store/x.cc", "store/kv.h")]:
            self.assertIsNone(self.checker.why_wrong(path, include), f"{path} -> {include}")


class ForbiddenCalls(unittest.TestCase):
    def setUp(self):
        self.checker = load("check_calls")

    def kinds(self, line):
        return set(self.checker.kinds_in(self.checker.without_comments_and_strings(line)))

    def test_calls_that_are_seen(self):
        for line, kind in [("p = malloc(n);", "heap"), ("auto* p = new Thing(1);", "heap"), ("delete p;", "heap"),
                           ("std::abort();", "exit"), ('printf("x");', "print"), ('fprintf(stderr, "x");', "print"),
                           ("throw 1;", "exception"), ('getenv("X")', "environment")]:
            self.assertEqual(self.kinds(line), {kind}, line)

    def test_words_that_are_not_calls(self):
        for line in ["// malloc(n) would be wrong", 'Make("free(%d)")', "Status free_bytes();", "T(const T&) = delete;",
                     "snprintf(text, n, format);", "int new_tokens = 1;", "p.reset(new Thing);",
                     "std::unique_ptr<Thing> p(new Thing(1));", "A::A() : impl_(new Impl) {}", "vsnprintf(a, b, c, d);"]:
            self.assertEqual(self.kinds(line), set(), line)


class Measure(unittest.TestCase):
    def test_functions_are_found_with_their_length(self):
        lines = ["namespace a {", "", "int One() { return 1; }", "", "int Two(int a,", "        int b) {", "  if (a) {",
                 "    return b;", "  }", "  return a;", "}", "", "struct S {", "  int Get() const {", "    return 1;",
                 "  }", "};", "}  // namespace a"]
        found = [(start, length) for start, length, _ in load("measure").c_functions(lines)]
        self.assertEqual(found, [(2, 1), (4, 7), (13, 3)])


class CountTests(unittest.TestCase):
    REPORT = ('<Catch2TestRun name="t"><TestCase name="a"><OverallResult success="true" skips="0"/></TestCase>'
              '<TestCase name="b"><Skip filename="f" line="1">no device</Skip>'
              '<OverallResult success="true" skips="1"/></TestCase>'
              '<TestCase name="c"><OverallResult success="false" skips="0"/></TestCase></Catch2TestRun>')

    def cases(self, report):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "t.xml"
            path.write_text(report)
            return load("count_tests.py").catch2_cases(str(path))

    def test_each_case_counts(self):
        self.assertEqual(self.cases(self.REPORT), [("a", "passed", ""), ("b", "skipped", "no device"), ("c", "failed", "")])

    def test_a_report_cut_off_is_no_report(self):
        self.assertIsNone(self.cases(self.REPORT[:200]))


if __name__ == "__main__":
    unittest.main()
