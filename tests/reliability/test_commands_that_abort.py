"""A slide, its outlines or its features that end the process which reads them in `import`, `export` and the
later stages of `predict`: the slide fails by name, at once in the next run, and the others are done."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.reliability.small_lab import Lab
from tests.reliability.worker_aborts import FEATURES, OPENING, OUTLINES, READING, Aborts
from tests.stages import handmade
from tests.stages.test_refine import refiner
from wsi_mil.refine.refiner import Limits
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.scoring.model import fold_folder

pytestmark = pytest.mark.slow

KILLED = "killed by signal 6 (SIGABRT) while "


def check_twice(
    lab: Lab,
    arguments: list[object],
    run: Path,
    aborts: Aborts,
    failed: Mapping[str, Mapping[str, str]],
    good: int,
) -> None:
    """The first call fails the slides that abort, with a reason that starts so (failed: by stage and slide),
    and does `good` others in each stage; the second one starts no process that aborts, and says the same."""
    first = lab.call(*arguments)
    assert first.exit_code == 3, first.output
    for stage, reasons in failed.items():
        rows = OutcomeTable(run / "outcomes.csv").rows(stage)
        found = {row.slide_id: row.reason for row in rows if row.status == "failed"}
        assert found.keys() == reasons.keys()
        assert all(found[slide_id].startswith(KILLED + doing) for slide_id, doing in reasons.items()), found
        assert len([row for row in rows if row.status == "done"]) == good
    count, problems = aborts.count(), OutcomeTable(run / "outcomes.csv").problems()
    assert count > 0
    second = lab.call(*arguments)
    assert second.exit_code == 3, second.output
    assert aborts.count() == count
    assert OutcomeTable(run / "outcomes.csv").problems() == problems
    for reasons in failed.values():
        assert all(f"{slide_id} " in second.output for slide_id in reasons)
    assert KILLED in second.output


def test_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While tissue is found: the slide can be opened."""
    lab = Lab(tmp_path, "abcd", workers=2)
    aborts = Aborts({READING: lab.id_of("b")}, tmp_path / "marks")
    aborts.in_workers(monkeypatch, "wsi_mil.stages.tile", "tile_one")
    failed = {"tile": {lab.id_of("b"): "finding tissue"}}
    check_twice(lab, ["tile", lab.config], lab.run, aborts, failed, good=3)
    assert not (lab.run / "tissue" / "b").exists()


def test_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored: each call opens every slide."""
    lab = Lab(tmp_path, "abcd")
    aborts = Aborts({READING: lab.id_of("b")}, tmp_path / "marks")
    aborts.in_workers(monkeypatch, "wsi_mil.stages.check", "_checked")
    for calls in (1, 2):
        found = lab.call("check", lab.slides, "--tile-mpp", 1.0, "--tile-px", 64, "--workers", 2)
        assert found.exit_code == 3, found.output
        assert "3 of 4 slides can be used" in found.output
        [line] = [line for line in found.output.splitlines() if line.startswith(lab.id_of("b"))]
        assert f"{KILLED}finding tissue" in line
        assert aborts.count() == calls


def write_features(path: Path, value: float = 1.0) -> None:
    """As TRIDENT writes features of the slides that are made by hand; all of them have one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = handmade.table()
    with h5py.File(path, "w") as file:
        file["features"] = np.full((len(table), 6), value, np.float32)
        file["coords"] = table.coords
        file["features"].attrs["encoder"] = "uni_v1"
        file["coords"].attrs.update(
            {
                "patch_size": handmade.SIZE,
                "patch_size_level0": handmade.SIZE,
                "overlap": 0,
                "level0_width": handmade.WIDTH,
                "level0_height": handmade.HEIGHT,
            }
        )


@pytest.mark.parametrize("where", [FEATURES, OPENING])
def test_import(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file of features, which states what the others must have, is read in a worker, too."""
    lab = Lab(tmp_path, "abcd")
    bad = lab.id_of("a")
    for name in "abcd":
        write_features(tmp_path / "features" / f"{lab.id_of(name)}.h5")
    aborts = Aborts({where: bad}, tmp_path / "marks")
    for function in ("_read_first", "import_one"):
        aborts.in_workers(monkeypatch, "wsi_mil.interop.imports", function)
    options = ["--layout", "trident", "--tile-mpp", 1.0, "--slides", lab.slides]
    doing = "reading the files to import" if where == FEATURES else "opening"
    arguments = ["import", lab.run, tmp_path / "features", *options]
    check_twice(lab, arguments, lab.run, aborts, {"import": {bad: doing}}, good=3)
    before = aborts.count()
    write_features(tmp_path / "features" / f"{bad}.h5", value=2.0)
    assert lab.call(*arguments).exit_code == 3
    assert aborts.count() == before + 1  # another file is tried


def test_export(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a slide whose outlines end the process."""
    shutil.copytree(small_run, tmp_path / "demo")
    bad = sorted(path.stem for path in (small_run / "evaluation" / "focus_mil" / "detections").iterdir())[0]
    aborts = Aborts({OUTLINES: bad}, tmp_path / "marks")
    aborts.in_workers(monkeypatch, "wsi_mil.interop.exports", "export_one")
    out, lab = tmp_path / "out", Lab(tmp_path, "a")
    arguments = ["export", tmp_path / "demo", out, "--layout", "trident"]
    check_twice(lab, arguments, out, aborts, {"export": {bad: "reading its outlines"}}, good=17)
    assert len(list(out.rglob("*.h5"))) == 17
    assert bad in (out / "labels.csv").read_text()


def test_predict(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slides that were tiled and encoded abort when refine or heatmap opens or reads them."""
    model = tmp_path / "focus_mil"
    shutil.copytree(small_run / "models" / "focus_mil", model)
    refiner(fold_folder(model), limits=Limits(sure=0.95, suspicious=0.0))
    lab, out = Lab(tmp_path, "abcdef"), tmp_path / "out"
    a, b, c, d = map(lab.id_of, "abcd")
    in_refine = Aborts({OPENING: a, READING: b}, tmp_path / "marks")
    in_heatmap = Aborts({OPENING: c, READING: d}, tmp_path / "marks")
    in_refine.in_workers(monkeypatch, "wsi_mil.stages.refine", "refine_one")
    in_heatmap.in_workers(monkeypatch, "wsi_mil.stages.heatmap", "heatmap_one")
    failed = {
        "refine focus_mil": {a: "opening", b: "reading tiles"},
        "heatmap focus_mil": {c: "opening", d: "reading the overview"},
    }
    arguments = ["predict", model, lab.slides, "--out", out, "--device", "cpu", "--workers", 2]
    check_twice(lab, arguments, out, in_refine, failed, good=4)
    assert len((out / "predictions.csv").read_text().splitlines()) == 7
