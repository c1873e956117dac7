"""Slides that a refiner cannot learn from: how many may be missing, and when it is trained again."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stages import handmade
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import DataError, MachineError
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.execution import ExecutionSpec
from wsi_mil.features import SlideStore
from wsi_mil.refine.network import NORMAL, TUMOUR, TileNetwork
from wsi_mil.refine.refiner import Limits, save_refiner
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.refine.tiles import SlideTiles, TileJob, join_tiles, read_tiles
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages.refiner_training import LabelledSource, RefinerJob, _check_left_out, _states, has_refiner

SPEC = RefineSpec(mpp=2.0, map_mpp=4.0)


def job(folder: Path, slides: tuple[SlideSource, ...] = (), without_file: tuple[str, ...] = ()) -> RefinerJob:
    members = tuple(LabelledSource(slide, TUMOUR, None) for slide in slides)
    return RefinerJob(
        folder / "run",
        "m",
        0,
        members,
        without_file,
        SPEC,
        "auto",
        AnnotationRules(),
        "model digest",
        "made from",
        ExecutionSpec(workers=1),
        "cpu",
    )


def part(label: int = TUMOUR, unreadable: int = 0) -> SlideTiles:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    return SlideTiles(pixels, np.full(2, label), np.zeros((2, 8, 8), np.bool_), False, unreadable)


def lost(slide_id: str, cause: str = "slide") -> Outcome:
    return Outcome(slide_id, "refine m, fold 0", "failed", "cut off", cause=cause)  # type: ignore[arg-type]


def test_at_least_half_of_the_slides_must_be_readable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _check_left_out(job(tmp_path), {"a": part(), "b": part()}, {"c": lost("c"), "d": lost("d")})
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        f"refine m, fold 0: slide {name} is left out of the training: cut off" for name in ("c", "d")
    ]
    with pytest.raises(DataError, match=r"2 of the 3 slides .* the first, c: cut off"):
        _check_left_out(job(tmp_path), {"a": part()}, {"c": lost("c"), "d": lost("d")})
    with pytest.raises(MachineError, match="because of this machine"):
        _check_left_out(job(tmp_path), {"a": part()}, {"c": lost("c", "memory")})


def test_it_is_trained_again_once_a_slide_that_was_left_out_has_another_file(tmp_path: Path) -> None:
    slide = handmade.source(tmp_path / "slides", "a")
    assert slide.path is not None
    os.truncate(slide.path, 3000)
    damaged, gone = job(tmp_path, (slide,)), job(tmp_path, without_file=("a",))
    torch.manual_seed(0)
    network = TileNetwork(SPEC, torch.full((3,), 0.7), torch.full((3,), 0.2)).eval()

    def train(state: dict[str, str]) -> None:
        save_refiner(damaged.folder, network, SPEC, Limits(0.9, 0.5), "made from", {}, state)

    assert not has_refiner(damaged)
    train(_states(damaged, ["a"]))
    assert has_refiner(damaged)
    assert not has_refiner(gone)
    train(_states(gone, ["a"]))
    assert has_refiner(gone)
    assert not has_refiner(damaged)
    train(_states(damaged, ["a"]))
    handmade.source(tmp_path / "slides", "a")
    assert not has_refiner(damaged)
    train({})
    assert has_refiner(damaged)
    assert has_refiner(gone)  # it learned from a slide that is gone now


def test_tiles_are_those_of_the_slide_and_unreadable_ones_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path / "run")
    handmade.store_tiles(run, "a")
    store, source = run.store("a"), handmade.source(tmp_path / "slides", "a")
    found = read_tiles(TileJob("a", source, store, "auto", SPEC, (0, 7), (TUMOUR, NORMAL), None))
    x, y = handmade.table("a").coords[7]
    expected = handmade.pixels()[y : y + 64, x : x + 64].reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert found.pixels.shape == (2, 32, 32, 3)
    assert np.abs(found.pixels[1] - expected).max() <= 1
    assert (found.labels.tolist(), found.has_mask, found.unreadable) == ([TUMOUR, NORMAL], False, 0)
    joined = join_tiles([found])
    assert joined.labels.tolist() == [TUMOUR, NORMAL]
    assert "could not be read" not in caplog.text
    join_tiles([part(TUMOUR, 3), part(NORMAL)])
    assert "3 of 7 training tiles could not be read" in caplog.text


def test_a_slide_that_is_not_the_one_that_was_tiled_is_refused(tmp_path: Path) -> None:
    store = SlideStore(tmp_path / "a.zarr", "a")
    store.write_tiles(handmade.table("a"), handmade.info("a"), "by hand", source="another")
    source = handmade.source(tmp_path / "slides", "a")
    with pytest.raises(DataError, match="not the one that was tiled"):
        read_tiles(TileJob("a", source, store, "auto", SPEC, (0,), (TUMOUR,), None))
