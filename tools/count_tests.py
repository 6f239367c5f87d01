#!/usr/bin/env python3
"""Counts test cases of one CTest run and appends "<name> <passed> <failed> <skipped>" to a summary.

A CTest entry that is a Catch2 program counts with each of its cases (from the XML report it wrote); any other entry
counts as one. A skip must state a reason, and tests/expected_counts.txt bounds how many a configuration may have
and how many cases must at least pass: a test that silently vanished is a failure.
"""
import argparse
import os
import xml.etree.ElementTree as ElementTree


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="configuration, first column of the limits file")
    parser.add_argument("--junit", required=True, help="report of ctest --output-junit")
    parser.add_argument("--cases", required=True, help="folder of Catch2 XML reports, <entry>.xml")
    parser.add_argument("--limits", required=True, help="file of lines: name at-least-passed at-most-skipped")
    parser.add_argument("--append", required=True, help="summary file to append to")
    return parser.parse_args()


def catch2_cases(path):
    """Yields (case name, 'passed' | 'failed' | 'skipped', reason) of a Catch2 report; None if it is incomplete."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None  # no report, or the program died while writing it
    cases = []
    for case in root.iter("TestCase"):
        result = case.find("OverallResult")
        skip = case.find(".//Skip")
        if result is None:
            return None
        if result.get("success") != "true":
            cases.append((case.get("name"), "failed", ""))
        elif skip is not None or int(result.get("skips", "0")) > 0:
            reason = (skip.text or "").strip() if skip is not None else ""
            cases.append((case.get("name"), "skipped", reason))
        else:
            cases.append((case.get("name"), "passed", ""))
    return cases


def entry_cases(entry, cases_dir):
    """All cases of one CTest entry. The exit status of the program has the last word."""
    name = entry.get("name")
    status = entry.get("status")  # run, fail, notrun, disabled
    output = (entry.findtext("system-out") or "").strip()
    cases = catch2_cases(os.path.join(cases_dir, name + ".xml"))
    if cases:
        if status == "fail" and not any(result == "failed" for _, result, _ in cases):
            cases.append((name + ": exit status", "failed", ""))
        return cases
    if status == "run":
        return [(name, "passed", "")]
    if status == "notrun" and entry.find("skipped") is not None and "SKIP_RETURN_CODE" in ElementTree.tostring(
            entry.find("skipped"), encoding="unicode"):
        return [(name, "skipped", output.splitlines()[-1] if output else "")]
    return [(name, "failed", "")]


def read_limits(path, name):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if words and words[0] == name:
                return int(words[1]), int(words[2])
    return 1, 0


def main():
    arguments = parse_arguments()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for entry in ElementTree.parse(arguments.junit).getroot().iter("testcase"):
        for case, result, reason in entry_cases(entry, arguments.cases):
            if result == "skipped" and not reason:
                result, reason = "failed", "skipped without a reason"
            counts[result] += 1
            if result != "passed":
                print(f"  {result}: {entry.get('name')}: {case}{': ' + reason if reason else ''}")
    at_least, at_most = read_limits(arguments.limits, arguments.name)
    if counts["passed"] < at_least:
        print(f"  failed: {arguments.name}: {counts['passed']} cases passed < {at_least} expected ({arguments.limits})")
        counts["failed"] += 1
    if counts["skipped"] > at_most:
        print(f"  failed: {arguments.name}: {counts['skipped']} cases skipped > {at_most} allowed ({arguments.limits})")
        counts["failed"] += 1
    print(f"test: {arguments.name}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    with open(arguments.append, "a", encoding="utf-8") as summary:
        print(arguments.name, counts["passed"], counts["failed"], counts["skipped"], file=summary)


if __name__ == "__main__":
    main()
