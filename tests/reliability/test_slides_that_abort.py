"""Good slides and one that ends the process that reads it, or its outlines: the good ones are done, one fails
or is left out by name, in every subcommand that opens slides."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.reliability.aborting import KILLED, Lab
from wsi_mil.run.outcomes import OutcomeTable

pytestmark = pytest.mark.slow


def config(lab: Lab, quick_config: dict[str, Any], workers: int) -> Path:
    path = lab.folder / "c.yaml"
    execution = {"workers": workers, "threads": 1}
    values = {"run": str(lab.folder / "r"), "slides": {"folder": str(lab.slides)}, "execution": execution}
    path.write_text(
        yaml.safe_dump({"tiles": quick_config["tiles"], "encoder": {"name": "texture"}, **values})
    )
    return path


def statuses(run: Path, stage: str) -> dict[str, list[str]]:
    """Status -> slides of a stage."""
    found: dict[str, list[str]] = {}
    for row in OutcomeTable(run / "outcomes.csv").rows(stage):
        found.setdefault(row.status, []).append(row.slide_id)
    return found


def check_twice(lab: Lab, run: Path, stage: str, arguments: list[object], when: str) -> None:
    """The first call does ten and fails one; the second changes no row, and opens no slide that aborts."""
    first = lab.call(*arguments, when=when)
    assert first.returncode == 3, first.stderr
    assert "Traceback" not in first.stderr
    found = statuses(run, stage)
    assert (len(found["done"]), found["failed"], len(found)) == (10, ["aborts"], 2)
    [row] = [row for row in OutcomeTable(run / "outcomes.csv").rows(stage) if row.status == "failed"]
    assert row.reason.startswith(KILLED)
    assert f"{stage}: aborts failed: {KILLED}" in first.stderr
    aborts, table = lab.aborts(), (run / "outcomes.csv").read_bytes()
    assert aborts > 0
    second = lab.call(*arguments, when=when)
    assert second.returncode == 3, second.stderr
    assert lab.aborts() == aborts
    assert (run / "outcomes.csv").read_bytes() == table
    assert KILLED in second.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_check(lab: Lab, workers: int) -> None:
    for calls in (1, 2):  # there is no run folder that could remember: each call opens every slide
        found = lab.call("check", lab.slides, "--tile-mpp", 1.0, "--tile-px", 64, "--workers", workers)
        assert found.returncode == 3, found.stderr
        assert "10 of 11 slides can be used" in found.stdout
        [line] = [line for line in found.stdout.splitlines() if line.startswith("aborts")]
        assert f"{KILLED} while opening" in line
        assert lab.aborts() == calls


@pytest.mark.parametrize("workers", [1, 2])
def test_tile(lab: Lab, quick_config: dict[str, Any], workers: int) -> None:
    check_twice(lab, lab.folder / "r", "tile", ["tile", config(lab, quick_config, workers)], "opening")
    [row] = [r for r in OutcomeTable(lab.folder / "r" / "outcomes.csv").rows("tile") if r.status == "failed"]
    assert row.reason == f"{KILLED} while opening"


@pytest.mark.parametrize("workers", [1, 2])
def test_extract_of_a_slide_whose_tiles_abort(lab: Lab, quick_config: dict[str, Any], workers: int) -> None:
    path = config(lab, quick_config, workers)
    assert lab.call("tile", path, when="never").returncode == 0
    check_twice(lab, lab.folder / "r", "extract", ["extract", path], "reading")


@pytest.mark.parametrize("workers", [1, 2])
def test_predict(lab: Lab, small_run: Path, workers: int) -> None:
    out = lab.folder / "predicted"
    arguments = ["predict", small_run / "models" / "focus_mil", lab.slides, "--out", out, "--device", "cpu"]
    check_twice(lab, out, "tile", [*arguments, "--workers", workers], "opening")
    slides = [line.split(",")[0] for line in (out / "predictions.csv").read_text().splitlines()[1:]]
    assert len(slides) == 10
    assert "aborts" not in slides


CORNER = (
    '<ASAP_Annotations><Annotation Type="Polygon" PartOfGroup="Tumor"><Coordinates><Coordinate X="0" Y="0"/>'
    '<Coordinate X="60" Y="0"/><Coordinate X="60" Y="60"/></Coordinates></Annotation></ASAP_Annotations>'
)


def test_evaluate_and_report(lab: Lab, small_run: Path) -> None:
    """Outlines lie where no tumour is, so that every lesion that the model finds is a false positive."""
    run, outlines = lab.folder / "r", lab.folder / "outlines"
    shutil.copytree(small_run, run)
    shutil.rmtree(run / "evaluation")
    (run / "report.html").unlink()
    positive = [path.stem for path in (small_run / "evaluation" / "focus_mil" / "detections").iterdir()]
    outlines.mkdir()
    for slide_id in positive:
        (outlines / f"{slide_id}.xml").write_text(CORNER)
    settings = [
        run / "config.yaml",
        f"run={run}",
        f"slides.annotations={outlines}",
        "execution.workers=2",
    ]
    whole = lab.call("evaluate", *settings, when="never")
    assert whole.returncode == 0, whole.stderr
    found = false_positives(run)
    first, other = list(dict.fromkeys(found))[:2]

    drawn = lab.call("report", *settings, when="opening", slide=other)
    assert drawn.returncode == 0, drawn.stderr
    assert f"no pictures of false positives on slide {other}: {KILLED} while opening" in drawn.stderr
    page = (run / "report.html").read_text(encoding="utf-8")
    assert [f"tissue around a false positive of {s}" in page for s in (first, other)] == [True, False]

    shutil.rmtree(run / "evaluation")
    measured = lab.call("evaluate", *settings, when="outlines", slide=first)
    assert measured.returncode == 0, measured.stderr
    said = f"slide {first} is left out of patch metrics and FROC: {KILLED} while reading its outlines"
    assert said in measured.stderr
    assert false_positives(run) == [slide_id for slide_id in found if slide_id != first]


def false_positives(run: Path) -> list[str]:
    """The slide of every row of false_positives.csv."""
    lines = (run / "evaluation" / "focus_mil" / "false_positives.csv").read_text().splitlines()
    return [line.split(",")[0] for line in lines[1:]]
