"""Time and peak memory of the demo, all its processes together: the figures of docs/benchmarks.md.

python benchmarks/demo.py [--run DIR] [KEY=VALUE]...
python benchmarks/demo.py --stages [--run DIR] [KEY=VALUE]...      # each stage as a command of its own
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processor import adopt_orphans, timed
from wsi_mil.config import packaged_config
from wsi_mil.io.json import json_text
from wsi_mil.stages.table import STAGES


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
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.run, ignore_errors=True)
    overrides = [f"run={arguments.run}", *arguments.overrides]
    print(json_text(by_stage(overrides) if arguments.stages else whole(overrides)))


def by_stage(overrides: Sequence[str]) -> dict[str, object]:
    """Return wall and processor seconds of each stage, and of a run that has nothing to do then."""
    adopt_orphans()
    results: dict[str, object] = {}
    for command in (*STAGES, "run"):
        wall, processor = timed([command, str(packaged_config("demo")), *overrides])
        results[command] = {"seconds": round(wall, 1), "processor_seconds": round(processor, 1)}
    return {**results, "machine": machine()}


def machine() -> dict[str, object]:
    return {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def whole(overrides: Sequence[str]) -> dict[str, object]:
    """Return seconds and peak memory of the demo and of a second run."""
    results: dict[str, object] = {}
    for name in ("first_run", "second_run"):
        started, peak = time.perf_counter(), 0
        command = [
            sys.executable,
            "-c",
            "from wsi_mil.cli import main; main()",
            "demo",
            *overrides,
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
    return {**results, "machine": machine()}


if __name__ == "__main__":
    main()
