"""Random flips of bytes in a finished run, and what the program makes of each (docs/reliability.md).

    python -m tests.reliability.flips RUN

RUN: the folder of a finished run, which is left as it is found. WSI_MIL_FLIPS and WSI_MIL_SCORE_FLIPS: how
many flips in all files and in scores; WSI_MIL_FLIP_SEED: the seed of the first; each prints its own.
"""

import logging
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import RunConfig, load_config
from wsi_mil.errors import WsiMilError
from wsi_mil.io.files import digest_file
from wsi_mil.logs import logger
from wsi_mil.run.file_checks import check_files
from wsi_mil.run.integrity import check_store, stores_of
from wsi_mil.scoring import read_slide_scores, read_tile_scores
from wsi_mil.stages import run_pipeline, score, training_set

FLIPS = int(os.environ.get("WSI_MIL_FLIPS", "45"))
SCORE_FLIPS = int(os.environ.get("WSI_MIL_SCORE_FLIPS", "240"))
SEED = int(os.environ.get("WSI_MIL_FLIP_SEED", "20"))
WRONG = ("silently used", "unnamed error")
NO_PRODUCT = ("cohort/", "run.log", ".lock")
"""What a user gave, a log and a lock: these are not flipped and not compared."""
OF_TIME = ("outcomes.csv", "tensorboard")
"""Files that hold times: they are flipped, and not compared."""


@dataclass(frozen=True)
class Flip:
    """One flip, and what became of it. file: relative to the run."""

    seed: int
    file: str
    outcome: str
    message: str = ""

    def line(self) -> str:
        """Return the flip as one line of text."""
        return f"seed {self.seed:>6}  {self.outcome:<28} {self.file}  {self.message[:160]}"


class Heard(logging.Handler):
    """Collects the warnings of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def files_of(run: Path) -> list[str]:
    """Return the files of a run that it made, relative to it."""
    names = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return [name for name in names if not name.startswith(NO_PRODUCT)]


def digests(run: Path) -> dict[str, str]:
    """Return the digest of every file that holds no time."""
    names = [name for name in files_of(run) if not any(part in name for part in OF_TIME)]
    return {name: digest_file(run / name) for name in names}


def flip_byte(path: Path, rng: random.Random) -> None:
    """Change one byte of a file, which becomes a file of its own where it was linked."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.unlink()
    path.write_bytes(bytes(data))


def restored(run: Path, whole: Path) -> None:
    """Put a linked copy of `whole` at `run`."""
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run, copy_function=os.link)


def names_it(text: str, file: str) -> bool:
    """Return whether a message names a file, or the slide whose store holds it."""
    parts = file.split("/")
    store = next((part.removesuffix(".zarr") for part in parts if part.endswith(".zarr")), None)
    return parts[-1] in text or (store is not None and store in text)


def named_by_check(run: Path, file: str) -> str:
    """Return what `wsi-mil check RUN --deep` says of a file; "" if nothing."""
    lines = [f"{row.slide_id}: {row.problem}" for row in (check_store(s, True) for s in stores_of(run))]
    lines = [line for line in lines if not line.endswith(": ")] + list(check_files(run).problems)
    return next((line for line in lines if names_it(line, file)), "")


def flip_and_run(run: Path, whole: Path, before: dict[str, str], config: RunConfig, seed: int) -> Flip:
    """Flip one byte of one file of the run; check it, run it again, and compare all products."""
    restored(run, whole)
    rng = random.Random(seed)
    file = rng.choice([name for name in files_of(run) if (run / name).stat().st_size])
    flip_byte(run / file, rng)
    training_set._mapped.cache_clear()
    score._loaded.cache_clear()
    heard = Heard()
    logger().addHandler(heard)
    try:
        checked = named_by_check(run, file)
        summary = run_pipeline(config)
    except WsiMilError as error:
        text = str(error)
        return Flip(seed, file, "refused by name" if names_it(text, file) else "unnamed error", text)
    except Exception as error:
        return Flip(seed, file, "unnamed error", f"{type(error).__name__}: {error}")
    finally:
        logger().removeHandler(heard)
    said = next((line for line in heard.lines if names_it(line, file)), "")
    for row in summary.failed:
        if names_it(f"{row.slide_id} {row.reason}", file):
            return Flip(seed, file, "refused by name", row.reason)
    after = digests(run)
    others = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not others:
        outcome = "made again" if said or file in before else "warned" if checked else "equal result"
        return Flip(seed, file, outcome, said or checked)
    if others == {file}:
        found = "named by check --deep" if checked else "warned" if said else "read by no stage"
        return Flip(seed, file, found, checked or said)
    return Flip(seed, file, "warned" if said else "silently used", said or f"changed: {sorted(others)[:3]}")


def flip_scores(folder: Path, copy: Path, seed: int) -> Flip:
    """Flip one byte of a copy of one Parquet file below `folder`, and read it."""
    rng = random.Random(seed)
    path = rng.choice(sorted(folder.rglob("*.parquet")))
    shutil.copy(path, copy / path.name)
    flip_byte(copy / path.name, rng)
    name = path.relative_to(folder).as_posix()
    try:
        if path.name == "slides.parquet":
            equal = read_slide_scores(copy / path.name) == read_slide_scores(path)
        else:
            equal = read_tile_scores(copy / path.name).equals(read_tile_scores(path))
    except WsiMilError as error:
        return Flip(seed, name, "refused by name" if path.name in str(error) else "unnamed error", str(error))
    except Exception as error:
        return Flip(seed, name, "unnamed error", f"{type(error).__name__}: {error}")
    return Flip(seed, name, "equal result" if equal else "silently used")


def all_flips(run: Path, flips: int, score_flips: int, seed: int) -> Iterator[Flip]:
    """Yield the outcome of each flip. The run is as before in the end."""
    config, whole = load_config(run), run.with_name(f"{run.name}.whole")
    run_pipeline(config)  # files that say how the run was called last are then equal
    run.rename(whole)
    before = digests(whole)
    try:
        for number in range(flips):
            yield flip_and_run(run, whole, before, config, seed + number)
        copies = run.with_name(f"{run.name}.scores")
        copies.mkdir(exist_ok=True)
        for number in range(score_flips):
            yield flip_scores(whole / "scores", copies, seed + 1000 + number)
        shutil.rmtree(copies)
    finally:
        shutil.rmtree(run, ignore_errors=True)
        whole.rename(run)


def table(found: Sequence[Flip]) -> str:
    """Return how many flips had each outcome, as Markdown."""
    counts = Counter(flip.outcome for flip in found)
    rows = [f"| {outcome} | {counts[outcome]} |" for outcome in (*sorted(counts.keys() - {*WRONG}), *WRONG)]
    return "\n".join(["| outcome | flips |", "|---|---|", *rows])


def main() -> int:
    found = []
    for flip in all_flips(Path(sys.argv[1]), FLIPS, SCORE_FLIPS, SEED):
        print(flip.line(), flush=True)
        found.append(flip)
    for part in (found[:FLIPS], found[FLIPS:]):
        print(f"\n{len(part)} flips\n{table(part)}")
    return int(any(flip.outcome in WRONG for flip in found))


if __name__ == "__main__":
    sys.exit(main())
