"""kill -9 at random moments of every stage, with two workers; what is resumed must be byte-equal.

    python -m tests.reliability.kills --kills 40 --seed 1

Every stage is run once undisturbed. Then it starts again from the files of before, is killed several times at
random moments, each time resumed, and in the end its files are compared with the undisturbed ones. Prints one
row for each stage. Exit code 1 if a file differs, a process is left over, or the run does not end.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from wsi_mil.execution import ExecutionSpec
from wsi_mil.synthetic import SynthSpec, write_cohort

COHORT = SynthSpec(
    pairs=5, centres=2, seed=3, width_px=(1500, 1700), height_px=(1250, 1350), itc_share=0, macro_share=0
)
PROGRAM = [sys.executable, "-c", "from wsi_mil.cli import main; main()"]
STARTS_WITHIN_S = 120.0
ENDS_WITHIN_S = 20.0
HOLD_TIMES = ("outcomes.csv", "tensorboard/", "provenance.json", "report.html", "run.log", ".lock")
"""Parts of names of files that hold times or durations: they differ between two undisturbed runs, too."""


@dataclass(frozen=True)
class Stage:
    """A subcommand to kill. `arguments`: after its name; `result`: the folder that it writes into."""

    name: str
    arguments: tuple[str, ...]
    result: Path


@dataclass
class Row:
    """What came of one stage. half_written: kills that left a temporary file. lost: processes that were still
    there `ENDS_WITHIN_S` after the kill."""

    stage: str
    kills: int = 0
    half_written: int = 0
    lost: int = 0
    files: int = 0
    different: tuple[str, ...] = ()
    problem: str = ""

    @property
    def good(self) -> bool:
        return not (self.lost or self.different or self.problem)


def stages(folder: Path) -> list[Stage]:
    """The stages in the order of a run, for the configuration `c.yaml` in `folder`."""
    run, config = folder / "run", str(folder / "c.yaml")
    plain = [Stage(name, (config,), run) for name in ("tile", "extract", "train", "score")]
    refine = Stage("refine", (str(run), "--model", "focus_mil"), run)
    rest = [Stage(name, (config,), run) for name in ("heatmap", "evaluate", "report")]
    out = folder / "predictions"
    model, slides = str(run / "models" / "focus_mil"), str(folder / "cohort" / "slides")
    return [
        *plain,
        refine,
        *rest,
        Stage("predict", (model, slides, "--out", str(out), "--workers", "2"), out),
    ]


def prepare(folder: Path) -> None:
    """Write a cohort of ten small slides and the configuration of a run with two workers."""
    write_cohort(folder / "cohort", COHORT, ExecutionSpec(workers=1))
    cohort = folder / "cohort"
    settings = {
        "seed": 1,
        "run": str(folder / "run"),
        "slides": {
            "folder": str(cohort / "slides"),
            "labels": str(cohort / "labels.csv"),
            "annotations": str(cohort / "annotations"),
        },
        "tiles": {"mpp": 1.0, "size_px": 64},
        "encoder": {"name": "texture", "batch_size": 32},
        "split": {"test_share": 0.4, "val_share": 0.3},
        "train": {"epochs": 40, "lr": 0.001},
        "models": {"focus_mil": {}, "abmil_gated": {"bags_per_batch": 1}},
        "evaluation": {"bootstrap": 200},
        "execution": {"workers": 2, "threads": 1},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(settings))


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file that two undisturbed runs write alike."""
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not any(part in name for part in HOLD_TIMES)
    }


def start(stage: Stage, messages: IO[str] | int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Start a stage in a session of its own, so that its processes can be found again."""
    return subprocess.Popen(
        [*PROGRAM, stage.name, *stage.arguments],
        stdout=subprocess.DEVNULL,
        stderr=messages,
        text=True,
        start_new_session=True,
    )


def finish(stage: Stage) -> tuple[float, str]:
    """Run a stage to its end. Returns the seconds for which it held the lock, and the reason if it failed."""
    with tempfile.TemporaryFile("w+") as messages:
        process = start(stage, messages)
        locked_at = _wait_for_lock(process, stage)
        process.wait()
        seconds = time.monotonic() - locked_at
        messages.seek(0)
        error = messages.read().strip()
    return seconds, "" if process.returncode == 0 else f"exit code {process.returncode}: {error}"


def kill_once(stage: Stage, after_s: float) -> tuple[bool, bool, int]:
    """Start a stage and kill its first process `after_s` after it has taken the lock.

    Returns whether it was still at work, whether a temporary file was left, and how many processes stayed.
    """
    process = start(stage)
    _wait_for_lock(process, stage)
    time.sleep(after_s)
    at_work = process.poll() is None
    process.kill()
    process.wait()
    deadline = time.monotonic() + ENDS_WITHIN_S
    while (left := list(_session(process.pid))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return at_work, any(stage.result.rglob("*.tmp")), len(left)


def _wait_for_lock(process: subprocess.Popen[str], stage: Stage) -> float:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and not (stage.result / ".lock").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{stage.name} has not begun within {STARTS_WITHIN_S:.0f} s")
        time.sleep(0.01)
    return time.monotonic()


def _session(leader: int) -> Iterator[int]:
    """Yield the processes of a session that are still running (Linux)."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it has ended since the folder was listed
        if int(session) == leader and state != "Z":
            yield int(status.parent.name)


def torment(stage: Stage, kills: int, seconds: float, rng: random.Random, before: Path) -> Row:
    """Kill a stage `kills` times, resume it after each kill, and finish it.

    before: a copy of `stage.result` from before the stage. Where a try ends before its kill, the stage begins
    again from this copy.
    """
    row = Row(stage.name)
    _restore(before, stage.result)
    while row.kills < kills:
        at_work, half_written, lost = kill_once(stage, rng.random() * seconds)
        row.lost += lost
        if at_work:
            row.kills += 1
            row.half_written += half_written
        else:
            seconds *= 0.8
            _restore(before, stage.result)
    _, row.problem = finish(stage)
    return row


def _restore(copy: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if copy.exists():
        shutil.copytree(copy, folder)


def run(folder: Path, kills: int, seed: int) -> list[Row]:
    """Return a row for each stage. `kills`: in all, spread evenly over the stages."""
    prepare(folder)
    rng, rows, order = random.Random(seed), [], stages(folder)
    for number, stage in enumerate(order):
        before = folder / "before"
        _restore(stage.result, before)
        seconds, problem = finish(stage)
        if problem:
            raise RuntimeError(f"{stage.name} fails without any kill: {problem}")
        undisturbed = contents(stage.result)
        share = kills * (number + 1) // len(order) - kills * number // len(order)
        row = torment(stage, share, seconds, rng, before)
        found = contents(stage.result)
        row.files = len(undisturbed)
        row.different = tuple(
            name for name in sorted({*undisturbed, *found}) if undisturbed.get(name) != found.get(name)
        )
        rows.append(row)
        print(_line(row), flush=True)
    return rows


def _line(row: Row) -> str:
    bad = "; ".join([*([row.problem] if row.problem else []), *row.different[:5]])
    return (
        f"| {row.stage} | {row.kills} | {row.half_written} | {row.files} | {len(row.different)} | "
        f"{row.lost} | {bad} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    print("| stage | kills | with half-written files | files compared | different | processes left | |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), chosen.kills, chosen.seed)
    return int(not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
