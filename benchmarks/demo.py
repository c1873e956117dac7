"""Time and peak memory of the demo, all its processes together: the figures of docs/benchmarks.md.

python benchmarks/demo.py [--run DIR]
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wsi_mil.io.json import json_text


def tree_rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, shared pages counted once per process (Linux)."""
    total, waiting = 0, [pid]
    while waiting:
        current = waiting.pop()
        try:
            fields = Path(f"/proc/{current}/smaps_rollup").read_text()
            total += (
                next(int(line.split()[1]) for line in fields.splitlines() if line.startswith("Pss:")) * 1024
            )
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError, PermissionError, StopIteration):
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(tempfile.gettempdir()) / "wsi_mil_bench_demo")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.run, ignore_errors=True)
    results = {}
    for name in ("first_run", "second_run"):
        started, peak = time.perf_counter(), 0
        command = [
            sys.executable,
            "-c",
            "from wsi_mil.cli import main; main()",
            "demo",
            f"run={arguments.run}",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            peak = max(peak, tree_rss_bytes(process.pid))
            time.sleep(0.1)
        results[name] = {
            "seconds": round(time.perf_counter() - started, 1),
            "peak_gb": round(peak / 1e9, 2),
            "exit": process.returncode,
        }
    results["machine"] = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    print(json_text(results))


if __name__ == "__main__":
    main()
