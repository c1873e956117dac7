"""Flipped bytes are never used in silence: a few in scores here, many in a whole run in the tier slow."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reliability import flips
from tests.reliability.flips import WRONG, Flip, all_flips, digests, files_of, flip_scores, table
from wsi_mil.config.loading import parse_config
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.scoring import write_slide_scores, write_tile_scores
from wsi_mil.scoring.files import read_tile_scores, tile_scores_header
from wsi_mil.stages import run_pipeline

EXCEPTIONS = {
    "checkpoint.safetensors": "serves an unfinished training only; making it again would cost a training",
    "provenance.json": "names the folder as a run: without it, it is no run folder",
    "tensorboard": "holds times",
    "run.log": "a log",
    "outcomes.csv": "holds seconds",
}
"""Files of a run that are not back byte for byte after they were deleted, and why."""


def scores_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    coords = np.stack([np.arange(200, dtype=np.int32) * 64, np.zeros(200, np.int32)], 1)
    for number in range(3):
        scores = SlideScores(
            slide_id=f"s{number}",
            probability=0.25,
            class_probabilities=(0.75, 0.25),
            tile_scores=rng.normal(size=200).astype(np.float32),
            score_kind="logit",
            coords=coords,
            tiles_digest="t",
            features_digest="f",
            model_digest="m",
        )
        write_tile_scores(folder / "m" / "tiles" / f"s{number}.parquet", scores)
    rows = [
        SlideScoreRow(f"s{n}", f"p{n}", 0, "test", n % 2, 0.25 * n, 0.4, n > 1, 200, "t", "f", "m")
        for n in range(3)
    ]
    write_slide_scores(folder / "m" / "slides.parquet", rows, SlideScoresHeader("m", "d", 1))
    return folder


def test_flips_in_scores_are_noticed_or_change_nothing(tmp_path: Path) -> None:
    folder, copy = scores_folder(tmp_path / "scores"), tmp_path / "copy"
    copy.mkdir()
    found = [flip_scores(folder, copy, flips.SEED + number) for number in range(flips.SCORE_FLIPS)]
    assert [flip.line() for flip in found if flip.outcome in WRONG] == []
    assert sum(flip.outcome == "refused by name" for flip in found) > 0.5 * len(found)


def test_damaged_scores_are_not_current(tmp_path: Path) -> None:
    path = scores_folder(tmp_path) / "m" / "tiles" / "s0.parquet"
    assert tile_scores_header(path) is not None
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    assert tile_scores_header(path) is None
    with pytest.raises(DamagedFileError, match=r"s0\.parquet is damaged.*remove it and run `wsi-mil score`"):
        read_tile_scores(path)


def test_the_table_counts_what_must_not_be() -> None:
    text = table([Flip(1, "a", "made again"), Flip(2, "b", "silently used")])
    assert "| made again | 1 |" in text
    assert "| silently used | 1 |" in text
    assert "| unnamed error | 0 |" in text


@pytest.mark.slow
def test_flips_in_a_whole_run(small_run: Path, tmp_path: Path, quick_config: dict[str, Any]) -> None:
    run = tmp_path / "demo"
    shutil.copytree(small_run, run)
    found = list(all_flips(run, min(flips.FLIPS, 45), 0, flips.SEED))
    for flip in found:
        print(flip.line())
    assert [flip.line() for flip in found if flip.outcome in WRONG] == []
    assert sum(flip.outcome != "equal result" for flip in found) > 0.5 * len(found)


@pytest.mark.slow
def test_every_product_is_back_after_it_was_deleted(
    small_run: Path, tmp_path: Path, quick_config: dict[str, Any]
) -> None:
    """One file of each kind (folder depth, model and ending) is deleted, one after the other."""
    run = tmp_path / "demo"
    shutil.copytree(small_run, run)
    config = parse_config({**quick_config, "run": str(run), "models": {"focus_mil": {}}})
    run_pipeline(config)
    before = digests(run)
    kinds: dict[tuple[str, str], list[str]] = {}
    for name in files_of(run):
        if ".zarr/" not in name and not any(part in name for part in EXCEPTIONS):
            first, _, last = name.rpartition("/")
            ending = last if "slide" not in last else "." + last.partition(".")[2]
            kinds.setdefault((first, ending), []).append(name)
    assert len(kinds) > 15
    rng = random.Random(1)
    for names in kinds.values():
        name = rng.choice(names)
        (run / name).unlink()
        run_pipeline(config)
        after = digests(run)
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == set(), (
            name
        )
    shutil.rmtree(next((run / "slides").glob("*.zarr")))
    run_pipeline(config)
    assert digests(run) == before
