#!/usr/bin/env python3
"""Runs a command and says what it took from the system at most, by the kernel's accounting (Linux).

    tests/bench/peak_memory.py build/release/bin/headroom run model.hrm --prompt hello --max-tokens 8

private: dirty pages that only this process has (the system cannot take them back); resident: all pages in memory,
mapped files included. The command's children count with it. Sampled every 20 ms, so very short peaks may escape.
"""

import json
import subprocess
import sys
import time


def kilobytes(path, key):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for text in file:
                if text.startswith(key):
                    return int(text.split()[1]) * 1024
    except OSError:  # the process has gone
        pass
    return 0


def family(pid):
    """A process and its descendants."""
    members, unseen = [], [pid]
    while unseen:
        parent = unseen.pop()
        members.append(parent)
        try:
            with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
                unseen += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return members


def measure(command):
    """Peaks in bytes; raises RuntimeError when the command fails."""
    peak = {"private_bytes": 0, "resident_bytes": 0}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            members = family(process.pid)
            private = sum(kilobytes(f"/proc/{pid}/smaps_rollup", "Private_Dirty:") for pid in members)
            resident = sum(kilobytes(f"/proc/{pid}/status", "VmRSS:") for pid in members)
            peak["private_bytes"] = max(peak["private_bytes"], private)
            peak["resident_bytes"] = max(peak["resident_bytes"], resident)
            time.sleep(0.02)
        if process.returncode != 0:
            raise RuntimeError(f"{command[0]}: exit status {process.returncode}")
    return peak


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2
    print(json.dumps(measure(sys.argv[1:])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
