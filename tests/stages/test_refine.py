"""One slide through the refine stage, with a refiner made by hand: which tiles, which values, when it is not
done again."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stages import handmade
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import ConfigError, DataError, ModelError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.execution.dask_backend import needs_gpu
from wsi_mil.heatmaps.refined import read_refined
from wsi_mil.refine.network import TileNetwork, tumour_maps
from wsi_mil.refine.refiner import Limits, Refiner, save_refiner
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.run.current import current_refined
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_tile_scores
from wsi_mil.stages.refine import RefineJob, refine_one, refine_slides, refuse_before_saving

SPEC = RefineSpec(mpp=2.0, map_mpp=4.0, margin_um=16, batch=2)
LIMITS = Limits(sure=0.95, suspicious=0.5)
VALUES = np.full(24, 0.1, np.float32)
VALUES[0] = 0.9


def refiner(folder: Path, seed: int = 0, limits: Limits = LIMITS) -> Refiner:
    """An untrained network, saved as a refiner."""
    torch.manual_seed(seed)
    network = TileNetwork(SPEC, torch.full((3,), 0.7), torch.full((3,), 0.2)).eval()
    return save_refiner(folder, network, SPEC, limits, "by hand", {})


def job(folder: Path, made: Refiner) -> RefineJob:
    run = RunFolder(folder / "run")
    handmade.store_tiles(run)
    write_tile_scores(run.tile_scores("m", "s0"), handmade.scores(VALUES))
    source = handmade.source(folder / "slides")
    model = run.model("m", 0)
    found = RefineJob("s0", run.path, "m", source, "auto", model, "model digest", made.digest, "cpu")
    assert pickle.loads(pickle.dumps(found)) == found
    return found


@pytest.fixture
def made(tmp_path: Path) -> Refiner:
    return refiner(RunFolder(tmp_path / "run").model("m", 0))


def test_suspicious_tiles_and_their_neighbours_get_the_maps_of_the_network(
    tmp_path: Path, made: Refiner
) -> None:
    work = job(tmp_path, made)
    found = refine_one(work)
    assert (found.stage, found.status, found.reused) == ("refine m", "done", False)
    maps = read_refined(RunFolder(work.run).refined("m", "s0"))
    assert maps.rows.tolist() == [0, 1, 6, 7]  # the first tile of 6 columns, and those that touch it
    assert found.counts == {"refined": 4, "unreadable": 0}
    assert (maps.model_digest, maps.refiner_digest) == ("model digest", made.digest)
    # tile 7 and its margin of 16 µm, read by hand at 2 µm per pixel
    x, y = handmade.table().coords[7]
    window = handmade.pixels()[y - 16 : y + 80, x - 16 : x + 80].reshape(48, 2, 48, 2, 3).mean((1, 3))
    expected = tumour_maps(made.network, np.rint(window)[None].astype(np.uint8), 16, 4)[0] * 255
    assert maps.maps.shape == (4, 16, 16)
    assert np.abs(maps.maps[3].astype(float) - expected).mean() < 2


@pytest.mark.parametrize(("threshold", "rows"), [(0.5, [0, 1, 6, 7]), (0.95, [])])
def test_of_attention_only_called_tiles_are_suspicious(
    tmp_path: Path, threshold: float, rows: list[int]
) -> None:
    """The limit of normal slides is near 0: all 24 tiles exceed it, one has more than an equal weight."""
    made = refiner(RunFolder(tmp_path / "run").model("m", 0), limits=Limits(1e-5, 1e-6, threshold))
    work = job(tmp_path, made)
    weights = np.full(24, 0.1 / 23, np.float32)
    weights[0] = 0.9
    scores = handmade.scores(weights, kind="attention")
    assert (scores.tile_scores01() > made.limits.sure).all()
    write_tile_scores(RunFolder(work.run).tile_scores("m", "s0"), scores)
    assert refine_one(work).counts == {"refined": len(rows), "unreadable": 0}
    assert read_refined(RunFolder(work.run).refined("m", "s0")).rows.tolist() == rows


def test_a_second_time_nothing_is_written(tmp_path: Path, made: Refiner) -> None:
    work = job(tmp_path, made)
    first = refine_one(work)
    again = refine_one(work)
    assert again.reused
    assert again.digest == first.digest


def test_another_model_or_refiner_means_new_maps(tmp_path: Path, made: Refiner) -> None:
    work = job(tmp_path, made)
    first = refine_one(work)
    other = refine_one(replace(work, model_digest="another"))
    assert not other.reused
    trained_again = refiner(work.folder, seed=1)
    newer = refine_one(replace(work, refiner_digest=trained_again.digest))
    assert not newer.reused
    assert len({first.digest, other.digest, newer.digest}) == 3


def test_features_of_another_file_mean_new_maps(tmp_path: Path, made: Refiner) -> None:
    """A slide that was replaced may have the same tiles. The maps of before are not drawn."""
    work, row = job(tmp_path, made), handmade.score_row()
    run = RunFolder(work.run)
    refine_one(work)
    assert current_refined(run, "m", row) == made.digest
    newer = replace(row, features_digest="of another file")
    assert current_refined(run, "m", newer) is None
    scores = replace(handmade.scores(VALUES), features_digest="of another file")
    write_tile_scores(run.tile_scores("m", "s0"), scores)
    assert not refine_one(work).reused
    assert current_refined(run, "m", newer) == made.digest


def test_without_suspicious_tiles_there_are_no_maps(tmp_path: Path, made: Refiner) -> None:
    work = job(tmp_path, made)
    write_tile_scores(RunFolder(work.run).tile_scores("m", "s0"), handmade.scores(np.full(24, 0.2)))
    assert refine_one(work).counts == {"refined": 0, "unreadable": 0}


def test_scores_of_other_tiles_are_refused(tmp_path: Path, made: Refiner) -> None:
    work = job(tmp_path, made)
    write_tile_scores(
        RunFolder(work.run).tile_scores("m", "s0"), replace(handmade.scores(VALUES), tiles_digest="another")
    )
    with pytest.raises(ModelError, match="wsi-mil score"):
        refine_one(work)


def test_a_folder_without_refiner_names_the_next_step(tmp_path: Path, made: Refiner) -> None:
    with pytest.raises(ModelError, match=r"no refiner in .*: run `wsi-mil refine` first"):
        refine_one(replace(job(tmp_path, made), folder=tmp_path))


def test_a_job_says_whether_it_needs_a_gpu(tmp_path: Path, made: Refiner) -> None:
    work = job(tmp_path, made)
    assert not needs_gpu(work)
    assert needs_gpu(replace(work, needs_gpu=True))


def test_what_cannot_work_is_refused_before_it_is_saved(tmp_path: Path) -> None:
    refuse_before_saving(SPEC)
    with pytest.raises(DataError, match=r"refine\.polygons: no folder"):
        refuse_before_saving(SPEC.model_copy(update={"polygons": tmp_path / "none"}))
    with pytest.raises(ConfigError, match="resnet19"):
        refuse_before_saving(SPEC.model_copy(update={"backbone": "timm:resnet19"}))


@pytest.mark.slow
def test_two_workers_write_what_one_writes(tmp_path: Path, made: Refiner) -> None:
    run, folder = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run").model("m", 0)
    sources = []
    for number in range(4):
        slide_id = f"s{number}"
        handmade.store_tiles(run, slide_id)
        write_tile_scores(run.tile_scores("m", slide_id), handmade.scores(VALUES, slide_id))
        sources.append(handmade.source(tmp_path / "slides", slide_id, handmade.pixels(number)))
    written = []
    for workers in (1, 2):
        spec = ExecutionSpec(workers=workers, threads=2, device="cpu")
        place = ("m", folder, "model digest", sources, "auto", spec)
        assert refine_slides(run, *place) == 4
        files = [run.refined("m", source.slide_id) for source in sources]
        written.append([path.read_bytes() for path in files])
        for path in files:
            path.unlink()
    assert written[0] == written[1]
    assert len(set(written[0])) == 4


def test_the_workers_of_the_run_refine(
    tmp_path: Path, made: Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is used by one process; the cores are shared."""
    asked: list[tuple[int, list[int]]] = []

    def ask(function: object, jobs: list[RefineJob], *, stage: str, spec: ExecutionSpec) -> Iterator[Outcome]:
        asked.append((spec.workers, [job.threads for job in jobs]))
        yield from (Outcome(job.slide_id, stage, "done") for job in jobs)

    monkeypatch.setattr("wsi_mil.stages.refine.map_slides", ask)
    monkeypatch.setattr("wsi_mil.stages.refine.pick_device", torch.device)
    work = job(tmp_path, made)
    for device in ("cpu", "cuda"):
        spec = ExecutionSpec(workers=2, threads=6, device=device)
        place = ("m", work.folder, "model digest", [work.source], "auto", spec)
        refine_slides(RunFolder(work.run), *place)
    assert asked == [(2, [3]), (1, [6])]


def test_on_dask_the_workers_pick_their_device(
    tmp_path: Path, made: Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine has no GPU: jobs carry the device as the settings say it, and ask for a GPU worker."""
    asked: list[tuple[ExecutionSpec, RefineJob]] = []

    def ask(function: object, jobs: list[RefineJob], *, stage: str, spec: ExecutionSpec) -> Iterator[Outcome]:
        asked.extend((spec, job) for job in jobs)
        yield from (Outcome(job.slide_id, stage, "done") for job in jobs)

    def no_device(name: str) -> torch.device:
        raise AssertionError(name)

    work = job(tmp_path, made)
    monkeypatch.setattr("wsi_mil.stages.refine.map_slides", ask)
    monkeypatch.setattr("wsi_mil.stages.refine.pick_device", no_device)
    spec = ExecutionSpec(backend="dask", scheduler="tcp://127.0.0.1:9", device="cuda")
    refine_slides(RunFolder(work.run), "m", work.folder, "model digest", [work.source], "auto", spec)
    [(used, found)] = asked
    assert used == spec
    assert (found.device, found.threads, needs_gpu(found)) == ("cuda", 0, True)
