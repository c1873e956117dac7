"""Slides that are cut off, replaced or removed while two worker processes read slides, or between two stages:
each fails by name, with its traceback, and the others are done. `test_slides_that_change.py` tests the
mechanism in one process."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from tests.reliability.harm import HARMS, content_of
from tests.reliability.small_lab import Lab
from tests.reliability.worker_harm import Harm, harm_in_workers
from tests.stages import handmade
from tests.stages.test_refine import refiner
from wsi_mil.contracts.scores import SlideScoresHeader
from wsi_mil.refine.refiner import Limits
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.scoring import write_slide_scores, write_tile_scores
from wsi_mil.scoring.model import fold_folder
from wsi_mil.slides.state import slide_state

pytestmark = pytest.mark.slow

GOOD = ("a", "z")
"""The first and the last slide: nothing happens to them."""


def harms_of(
    lab: Lab, names: Iterable[str], harms: Iterable[str], regions: Iterable[int | None]
) -> dict[str, Harm]:
    """Slide id -> what happens to it: to each slide another pair of `harms` and `regions`."""
    pairs = zip(names, product(harms, regions), strict=True)
    return {lab.id_of(name): Harm(lab.path(name), *pair) for name, pair in pairs}


def harmed_lab(folder: Path, regions: Sequence[int | None]) -> tuple[Lab, dict[str, Harm]]:
    """Return a lab with two workers, and what is to happen to its slides."""
    names = [f"h{number:02d}" for number in range(len(HARMS) * len(regions))]
    lab = Lab(folder, [GOOD[0], *names, GOOD[1]], workers=2)
    return lab, harms_of(lab, names, HARMS, regions)


def check_rows(run: Path, stage: str, failed: Mapping[str, Harm], done: Iterable[str]) -> None:
    """Every harmed slide has failed by name, with its traceback; the others are done."""
    rows = {row.slide_id: row for row in OutcomeTable(run / "outcomes.csv").rows(stage)}
    expected = dict.fromkeys(failed, "failed") | dict.fromkeys(done, "done")
    assert {key: row.status for key, row in rows.items()} == expected
    for slide_id, harm in failed.items():
        reason = rows[slide_id].reason
        assert slide_id in reason
        assert harm.explains(reason), (harm, reason)
        assert str(harm.path.parent) in reason
        text = RunFolder(run).error_file(slide_id).read_text(encoding="utf-8")
        section = text.partition(f"stage: {stage}\n")[2].partition("\nstage: ")[0]
        assert "Traceback (most recent call last)" in section
        assert "Error: slide " in section


def good(lab: Lab) -> list[str]:
    return [lab.id_of(name) for name in GOOD]


def check_after_put_back(lab: Lab, stage: str) -> None:
    lab.put_back()
    result = lab.call(stage, lab.config)
    assert result.exit_code == 0, result.output
    assert content_of(lab.run / "errors") == {}


def test_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before tissue is found, and before the preview is read."""
    lab, harms = harmed_lab(tmp_path, (0, 1))
    with monkeypatch.context() as patched:
        harm_in_workers(patched, "wsi_mil.stages.tile", "tile_one", harms)
        result = lab.call("tile", lab.config)
    assert result.exit_code == 3, result.output
    check_rows(lab.run, "tile", harms, good(lab))
    assert RunFolder(lab.run).stored_slides() == sorted(good(lab))
    check_after_put_back(lab, "tile")


def test_extract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tile and extract, and before the last of 24 tiles."""
    lab, harms = harmed_lab(tmp_path, (None, 23))
    assert lab.call("tile", lab.config).exit_code == 0
    with monkeypatch.context() as patched:
        harm_in_workers(patched, "wsi_mil.stages.extract", "extract_on", harms)
        result = lab.call("extract", lab.config)
    assert result.exit_code == 3, result.output
    check_rows(lab.run, "extract", harms, good(lab))
    run = RunFolder(lab.run)
    assert [s for s in run.stored_slides() if run.store(s).encoders()] == sorted(good(lab))
    check_after_put_back(lab, "extract")


def score_by_hand(lab: Lab, slide_ids: Iterable[str]) -> None:
    """Write tiles and scores of model m, as the stages before heatmap do."""
    run, rows = RunFolder(lab.run), []
    for slide_id in slide_ids:
        digest = slide_state(lab.path(slide_id.partition("/")[0]), slide_id).digest
        run.store(slide_id).write_tiles(handmade.table(slide_id), handmade.info(slide_id), "by hand", digest)
        scores = handmade.scores(np.linspace(0.1, 0.9, 24, dtype=np.float32), slide_id)
        write_tile_scores(run.tile_scores(handmade.MODEL, slide_id), scores)
        rows.append(handmade.score_row(slide_id))
    header = SlideScoresHeader(handmade.MODEL, "split digest", 1, "detection")
    write_slide_scores(run.slide_scores(handmade.MODEL), rows, header)


def heatmap(lab: Lab) -> Result:
    return lab.call("heatmap", lab.config, 'heatmaps.objects=["contours"]', "heatmaps.overlay_px=100")


def drawn(lab: Lab) -> list[str]:
    """The slides of which a picture was drawn."""
    return sorted(path.parent.name for path in (lab.run / "heatmaps").rglob("*.png"))


def test_heatmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between score and heatmap, and before the overview is read."""
    lab, harms = harmed_lab(tmp_path, (None, 0))
    score_by_hand(lab, [*harms, *good(lab)])
    with monkeypatch.context() as patched:
        harm_in_workers(patched, "wsi_mil.stages.heatmap", "heatmap_one", harms)
        result = heatmap(lab)
    assert result.exit_code == 3, result.output
    check_rows(lab.run, "heatmap m", harms, good(lab))
    assert drawn(lab) == sorted(GOOD)
    lab.put_back()
    assert heatmap(lab).exit_code == 0
    assert len(drawn(lab)) == len(harms) + len(GOOD)


def test_heatmap_of_slides_that_left_the_folder_before_the_command(tmp_path: Path) -> None:
    """Those that are drawn already are done; the pictures of the others fail by name."""
    lab = Lab(tmp_path, ["a", "drawn", "removed", "z"], workers=2)
    score_by_hand(lab, map(lab.id_of, ["a", "drawn", "removed", "z"]))
    assert heatmap(lab).exit_code == 0
    shutil.rmtree(lab.path("drawn").parent)
    shutil.rmtree(lab.path("removed").parent)
    RunFolder(lab.run).heatmap("m", lab.id_of("removed"), "png").unlink()
    result = heatmap(lab)
    assert result.exit_code == 3, result.output
    gone = {lab.id_of("removed"): Harm(lab.path("removed"), "removed", None)}
    check_rows(lab.run, "heatmap m", gone, map(lab.id_of, ["a", "drawn", "z"]))


IN_PREDICT = {
    "tile": ("wsi_mil.stages.tile", "tile_one", (0, 1)),
    "extract": ("wsi_mil.stages.extract", "extract_on", (None, 5)),
    "refine focus_mil": ("wsi_mil.stages.refine", "refine_one", (None, 0)),
    "heatmap focus_mil": ("wsi_mil.stages.heatmap", "heatmap_one", (None, 0)),
}


def refined_model(small_run: Path, folder: Path) -> Path:
    """A copy of the model with a refiner that refines every tile."""
    shutil.copytree(small_run / "models" / "focus_mil", folder / "focus_mil")
    refiner(fold_folder(folder / "focus_mil"), limits=Limits(sure=0.95, suspicious=0.0))
    return folder / "focus_mil"


def test_predict(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each stage that reads slides; a slide that fails in one is in no later one, but for heatmaps."""
    model = refined_model(small_run, tmp_path)
    each, out = ("cut off", "other pixels", "removed"), tmp_path / "out"
    names = {stage: [f"{stage[0]}{number}" for number in range(6)] for stage in IN_PREDICT}
    lab = Lab(tmp_path, [GOOD[0], *chain.from_iterable(names.values()), GOOD[1]])
    harms = {
        stage: harms_of(lab, names[stage], each, regions) for stage, (_, _, regions) in IN_PREDICT.items()
    }
    for stage, (module, function, _) in IN_PREDICT.items():
        harm_in_workers(monkeypatch, module, function, harms[stage])
    arguments = ["--out", out, "--device", "cpu", "--workers", 2]
    result = lab.call("predict", model, lab.slides, *arguments)
    assert result.exit_code == 3, result.output
    left = {lab.id_of(name) for name in (*GOOD, *chain.from_iterable(names.values()))}
    for stage in ("tile", "extract", "refine focus_mil"):
        left -= set(harms[stage])
        check_rows(out, stage, harms[stage], left)
        if stage == "extract":
            scored = left.copy()
    without_pictures = {key: replace(harm, regions=None) for key, harm in harms["refine focus_mil"].items()}
    failed = harms["heatmap focus_mil"] | without_pictures
    check_rows(out, "heatmap focus_mil", failed, left - set(failed))
    lines = (out / "predictions.csv").read_text().splitlines()[1:]
    assert {line.partition(",")[0] for line in lines} == scored


def test_predict_on_a_replaced_slide_makes_what_a_new_folder_gets(small_run: Path, tmp_path: Path) -> None:
    """Replaced between two calls: the tissue outline stays, so the tiles are the same; all else is new."""
    model, lab = refined_model(small_run, tmp_path), Lab(tmp_path, "ab")
    first, second = tmp_path / "first", tmp_path / "second"
    for out, happens in ((first, True), (second, False)):
        arguments = ["predict", model, lab.slides, "--out", out, "--device", "cpu", "--workers", 2]
        result = lab.call(*arguments)
        assert result.exit_code == 0, result.output
        if happens:
            before = made_by_predict(out)
            HARMS["other pixels"][0](lab.path("b"))
            assert lab.call(*arguments).exit_code == 0
            shutil.copytree(first / "tissue", second / "tissue")
    found = made_by_predict(first)
    assert found == made_by_predict(second)
    changed = {path.partition("/")[0] for path in found if "b/b" in path and found[path] != before.get(path)}
    assert changed == {"slides", "scores", "refined", "heatmaps"}
    assert all(found[path] == before[path] for path in found if "a/a" in path)


def made_by_predict(out: Path) -> dict[str, bytes]:
    """What is made of the slides themselves."""
    names = ("slides", "scores", "refined", "heatmaps")
    return {
        f"{name}/{path}": data
        for name in names
        for path, data in content_of(out / name).items()
        if not path.endswith("index.json")
    }
