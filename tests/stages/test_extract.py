"""One slide through the extract stage: whose pixels, when it is not done again, and what one bad slide does
to others."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stages import handmade
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders import build_encoder
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError, StoreError
from wsi_mil.features import SlideStore
from wsi_mil.io.files import fingerprint
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages.extract import ExtractJob, extract_many, extract_one

SPEC = EncoderSpec()


def job(folder: Path, slide_id: str = "s0", seed: int = 0) -> ExtractJob:
    """The job of a slide whose store holds the hand-made tile table."""
    run, source = RunFolder(folder / "run"), handmade.source(folder, slide_id, handmade.pixels(seed))
    store = run.store(slide_id)
    store.write_tiles(handmade.table(slide_id), handmade.info(slide_id), "by hand", fingerprint(source.file))
    found = ExtractJob(slide_id, source, "auto", store.path, SPEC, "cpu", 1)
    assert pickle.loads(pickle.dumps(found)) == found
    return found


def store_of(work: ExtractJob) -> SlideStore:
    return SlideStore(work.store, work.slide_id)


def test_row_i_is_the_encoding_of_tile_i(tmp_path: Path) -> None:
    work = job(tmp_path)
    found = extract_one(work)
    assert (found.stage, found.status, found.reused) == ("extract", "done", False)
    assert found.counts == {"tiles": 24, "unreadable": 0}
    image = handmade.pixels()
    tiles = np.stack([image[y : y + 64, x : x + 64] for x, y in handmade.table().coords])
    expected = build_encoder(SPEC).encode(torch.from_numpy(tiles)).numpy()
    features = store_of(work).read_features(handmade.ENCODER)
    np.testing.assert_allclose(features.features.astype(np.float32), expected, rtol=2e-3, atol=2e-3)
    assert features.digest == found.digest


def test_a_second_time_the_store_is_left_alone(tmp_path: Path) -> None:
    work = job(tmp_path)
    first = extract_one(work)
    again = extract_one(work)
    assert again.reused
    assert (again.counts, again.digest) == (first.counts, first.digest)


def test_a_slide_without_tiles_is_empty(tmp_path: Path) -> None:
    work, table = job(tmp_path), handmade.table()
    none = TileTable(
        "s0", table.spec, table.plan, table.coords[:0], table.tissue[:0], table.slide_size_px, table.mpp_xy
    )
    store_of(work).write_tiles(none, handmade.info(), "by hand")
    found = extract_one(work)
    assert (found.status, found.reason) == ("empty", "no tiles")


def test_a_file_that_was_replaced_after_tiling_is_refused(tmp_path: Path) -> None:
    work = job(tmp_path)
    assert isinstance(work.source.path, Path)
    handmade.write_slide(work.source.path, handmade.pixels(seed=5))
    with pytest.raises(DataError, match=r"is not the one that was tiled.*wsi-mil tile"):
        extract_one(work)


def test_a_slide_that_was_not_tiled_names_the_next_step(tmp_path: Path) -> None:
    work = replace(job(tmp_path), store=tmp_path / "run" / "slides" / "none.zarr")
    with pytest.raises(StoreError, match="run `wsi-mil tile`"):
        extract_one(work)


def test_one_bad_slide_leaves_the_others_alone(tmp_path: Path) -> None:
    """Batches go across slides; the outcomes and features are those of single slides."""
    jobs = [job(tmp_path, f"s{n}", seed=n) for n in range(3)]
    bad = replace(jobs[1], slide_id="bad", store=tmp_path / "nowhere.zarr")
    found = {outcome.slide_id: outcome for outcome in extract_many([jobs[0], bad, *jobs[1:]])}
    assert {name: outcome.status for name, outcome in found.items()} == {
        "s0": "done",
        "bad": "failed",
        "s1": "done",
        "s2": "done",
    }
    assert "wsi-mil tile" in found["bad"].reason
    alone = job(tmp_path / "alone", "s2", seed=2)
    assert extract_one(alone).digest == found["s2"].digest


def test_a_view_is_a_stage_of_its_own(tmp_path: Path) -> None:
    work = job(tmp_path)
    [view] = SPEC.model_copy(update={"views": 1}).augmented
    found = extract_one(replace(work, encoder=view))
    assert found.stage == "extract view 1"
    assert store_of(work).encoders() == [view.key]
