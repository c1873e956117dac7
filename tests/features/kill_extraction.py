"""Run by test_kills.py in its own process: extraction in child processes that are killed at random moments.

Children are forked before torch starts threads, so that an attempt takes milliseconds and needs no import.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.features import SlideStore
from wsi_mil.stages.extract import ExtractJob, extract_many


def jobs(slides: Path, stores: Path) -> list[ExtractJob]:
    spec = EncoderSpec(name="texture", batch_size=4)
    return [
        ExtractJob(
            path.stem,
            SlideSource(path.stem, path, None),
            "auto",
            stores / f"{path.stem}.zarr",
            spec,
            "cpu",
            2,
        )
        for path in sorted(slides.glob("*.tiff"))
    ]


def attempt(slides: Path, stores: Path) -> int:
    """Start a child process that extracts, and return its process id."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        failed = [outcome for outcome in extract_many(jobs(slides, stores)) if outcome.status != "done"]
        os._exit(len(failed))
    return child


def main(slides: Path, stores: Path, kills: int) -> None:
    rng = random.Random(0)
    started = time.monotonic()
    _, status = os.waitpid(attempt(slides, stores), 0)
    assert status == 0
    usual = time.monotonic() - started
    complete = {job.slide_id: SlideStore(job.store, job.slide_id) for job in jobs(slides, stores)}
    done = 0
    partial = 0
    while done < kills:
        if all(store.encoders() for store in complete.values()):  # all features are complete: start again
            for store in complete.values():
                for path in sorted((store.path / "features").rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
        child = attempt(slides, stores)
        time.sleep(rng.uniform(0, 1.1) * usual)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        done += os.WIFSIGNALED(status)
        partial += any(list(store.path.rglob("*.tmp")) for store in complete.values())
        for store in complete.values():
            if store.encoders():
                store.read_features("texture")  # raises unless every table that is there is complete
    _, status = os.waitpid(attempt(slides, stores), 0)
    assert status == 0
    print(json.dumps({"kills": done, "with_half_written": partial, "usual_s": usual}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
