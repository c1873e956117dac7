"""Ten thousand slides through the real scheduler path, their work a stub: what Dask and the account of
outcomes cost by themselves.

A scheduler and two workers run as processes of their own. Prints overhead per slide, memory of the scheduler,
size of outcomes.csv and how long it takes to write.

    python benchmarks/scaling.py [--slides 10000] [--workers 2] [--json FILE]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.tables import markdown_table
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.recording import record_outcomes

TILES = 20_000


@dataclass(frozen=True)
class StubJob:
    slide_id: str


def stub(job: StubJob) -> Outcome:
    """What a slide's extraction returns, without the extraction."""
    return Outcome(
        job.slide_id,
        "extract",
        "done",
        "",
        {"tiles": TILES, "unreadable": 0},
        f"{hash(job.slide_id) & 0xFFFFFFFFFFFFFFFF:016x}",
        60.0,
    )


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def start_cluster(address_file: Path, workers: int) -> list[subprocess.Popen[bytes]]:
    """Start a scheduler and `workers` workers of one thread; the scheduler writes its address to the file."""
    shared = ("--scheduler-file", str(address_file), "--no-dashboard")
    scheduler = start("distributed.cli.dask_scheduler", *shared, "--port", "0", "--host", "127.0.0.1")
    return [scheduler] + [
        start("distributed.cli.dask_worker", *shared, "--nthreads", "1") for _ in range(workers)
    ]


def measure(slides: int, workers: int, folder: Path) -> dict[str, float]:
    address_file = folder / "scheduler.json"
    processes = start_cluster(address_file, workers)
    try:
        while not address_file.exists():
            time.sleep(0.1)
        spec = ExecutionSpec(backend="dask", scheduler=read_json(address_file)["address"])
        jobs: Sequence[StubJob] = [
            StubJob(f"centre_{i % 5}/patient_{i // 5:06d}/slide_{i:07d}") for i in range(slides)
        ]
        with closing(map_slides(stub, jobs[:50], stage="warm", spec=spec)) as warm:
            list(warm)
        scheduler = psutil.Process(processes[0].pid)
        before = scheduler.memory_info().rss
        run = RunFolder(folder / "run")
        run.path.mkdir()
        highest = before

        def watched():  # type: ignore[no-untyped-def]
            nonlocal highest
            with closing(map_slides(stub, jobs, stage="extract", spec=spec)) as outcomes:
                for number, outcome in enumerate(outcomes):
                    if number % 500 == 0:
                        highest = max(highest, scheduler.memory_info().rss)
                    yield outcome

        started = time.perf_counter()
        record_outcomes(run, "extract", watched(), len(jobs))
        wall = time.perf_counter() - started
        started = time.perf_counter()
        run.ledger.save()
        saving = time.perf_counter() - started
        started = time.perf_counter()
        found = RunFolder(run.path).ledger
        reading = time.perf_counter() - started
        assert len(found.rows("extract")) == slides
        return {
            "slides": slides,
            "workers": workers,
            "overhead_ms_per_slide": 1000 * wall / slides,
            "scheduler_mb": highest / 1e6,
            "scheduler_mb_per_1000_slides": (highest - before) / 1e3 / slides,
            "outcomes_mb": (run.path / "outcomes.csv").stat().st_size / 1e6,
            "outcomes_save_s": saving,
            "outcomes_read_s": reading,
        }
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.slides, options.workers, Path(folder))
    cells = [f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" for value in found.values()]
    print(markdown_table(list(found), [cells]))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
