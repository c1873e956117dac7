"""A slide, or its outlines, that ends the process which reads it, in audit, poison, train and refine: it is
left out by name, and the others give what they give without it."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.aborting import KILLED, Lab
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.scoring import read_slide_scores

pytestmark = pytest.mark.slow
MODEL = "focus_mil"


def copied(small_run: Path, folder: Path, workers: int = 1) -> list[str]:
    """The arguments of a command on a copy of the small run, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(small_run, folder)
    return [str(folder / "config.yaml"), f"run={folder}", f"execution.workers={workers}"]


def called_tumour(run: Path) -> list[str]:
    """The test slides with tumour that the model calls rightly."""
    rows, _ = read_slide_scores(RunFolder(run).slide_scores(MODEL))
    return [r.slide_id for r in rows if r.part == "test" and r.positive and r.probability >= r.threshold]


def audit_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "audit" / MODEL / "audit.json").read_text())
    return found


def points(found: dict[str, Any], check: str) -> list[int]:
    return [point["n"] for point in found["checks"][check]["points"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_audit_of_a_slide_whose_tiles_abort(lab: Lab, small_run: Path, workers: int) -> None:
    run, slide = lab.folder / "r", called_tumour(small_run)[0]
    arguments = copied(small_run, run, workers)
    assert lab.call("audit", *arguments, "--slides", 2, when="never").returncode == 0
    whole = audit_of(run)
    assert whole["skipped"] == {}
    found = lab.call("audit", *arguments, "--slides", 2, when="reading", slide=slide)
    assert found.returncode == 0, found.stderr
    reason = f"{KILLED} while painting tiles and reading tiles"
    assert f"audit: pixels of slide {slide} are not changed: {reason}" in found.stderr
    assert f"pixels of slide {slide} were not changed: {reason}" in found.stdout
    audit = audit_of(run)
    assert audit["skipped"] == {slide: reason}
    for check in ("stain_normal", "restain"):
        assert points(audit, check) == [n - 1 for n in points(whole, check)]
    changed = ("checks", "skipped", "verdict", "failed", "content_digest")
    assert [audit[key] for key in audit if key not in changed] == [
        whole[key] for key in whole if key not in changed
    ]
    assert audit["checks"]["remove_tumour"] == whole["checks"]["remove_tumour"]


@pytest.mark.parametrize("workers", [1, 2])
def test_audit_of_a_slide_whose_outlines_abort(lab: Lab, small_run: Path, workers: int) -> None:
    run, slide = lab.folder / "r", called_tumour(small_run)[0]
    arguments = copied(small_run, run, workers)
    assert lab.call("audit", *arguments, "--slides", 1, when="never").returncode == 0
    whole = audit_of(run)
    found = lab.call("audit", *arguments, "--slides", 1, when="outlines", slide=slide)
    assert found.returncode == 0, found.stderr
    said = f"slide {slide} is left out of the truth of audit: {KILLED} while reading its outlines"
    assert found.stderr.count(said) == 1
    audit = audit_of(run)
    assert audit["agreement"]["n"] == whole["agreement"]["n"] - 1
    assert points(audit, "keep_top") == points(whole, "keep_top")
    assert points(audit, "stain_normal") == points(whole, "stain_normal")
    assert audit["skipped"] == {}


POISON = ("--aggregator", "mi_net", "--no-control", "train.epochs=1", "split.kind=kfold", "split.folds=2")


def poison_row(run: Path, slide_id: str) -> Outcome:
    found = OutcomeTable(run / "outcomes.csv").get(slide_id, "poison")
    assert found is not None
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_poison_of_a_slide_whose_tiles_abort(lab: Lab, small_run: Path, workers: int) -> None:
    run, slide = lab.folder / "r", called_tumour(small_run)[0]
    arguments = copied(small_run, run, workers)
    first = lab.call("poison", *arguments, *POISON, when="reading", slide=slide)
    assert first.returncode == 3, first.stderr
    assert f"poison: {slide} failed: {KILLED} while" in first.stderr
    assert "Traceback" not in first.stderr
    rows = OutcomeTable(run / "outcomes.csv").rows("poison")
    assert [row.slide_id for row in rows if row.status != "done"] == [slide]
    assert len(rows) == 18
    aborts, row = lab.aborts(), poison_row(run, slide)
    assert aborts == 1
    second = lab.call("poison", *arguments, *POISON, when="reading", slide=slide)
    assert second.returncode == 3, second.stderr
    assert lab.aborts() == aborts
    assert poison_row(run, slide) == row
    assert "nothing to do" in second.stdout


def test_poison_of_a_slide_whose_outlines_abort(lab: Lab, small_run: Path, cohort: Path) -> None:
    run, slide = lab.folder / "r", called_tumour(small_run)[0]
    shutil.copytree(cohort / "annotations", lab.folder / "outlines")
    arguments = [*copied(small_run, run), f"slides.annotations={lab.folder / 'outlines'}", *POISON]
    found = lab.call("poison", *arguments, "--placement", "anywhere", when="outlines", slide=slide)
    assert found.returncode == 0, found.stderr
    killed = f"{KILLED} while reading its outlines"
    assert found.stderr.count(f"poison: slide {slide} is left out of the metrics of poison: {killed}") == 1
    for calls in (2, 2):  # where poison must not touch the lesions, the slide fails, and is not tried again
        found = lab.call("poison", *arguments, when="outlines", slide=slide)
        assert found.returncode == 3, found.stderr
        assert re.search(rf"{slide} +poison +failed +{re.escape(killed)}", found.stderr), found.stderr
        assert lab.aborts() == calls
    for path in (lab.folder / "outlines").glob(f"{slide}.*"):
        path.write_bytes(path.read_bytes() + b"\n")  # another file: it is tried
    assert lab.call("poison", *arguments, when="never").returncode == 0


def test_a_damaged_store_of_poison_says_poison(lab: Lab, small_run: Path) -> None:
    run = lab.folder / "r"
    arguments = [*copied(small_run, run), *POISON]
    assert lab.call("poison", *arguments, when="never").returncode == 0
    (folder,) = (run / "poison").iterdir()
    store = sorted((folder / "slides").glob("*.zarr"))[0]
    values = store / "features" / "texture" / "features" / "c" / "0" / "0"
    before, study = values.read_bytes(), (folder / "poison.json").read_bytes()
    values.write_bytes(before[:-40] + bytes(40))
    shutil.rmtree(folder / "trainings")
    found = lab.call("poison", *arguments, when="never")
    assert found.returncode == 1
    assert str(store) in found.stderr
    assert "run `wsi-mil poison` again" in found.stderr
    assert "extract" not in found.stderr
    assert lab.call("poison", *arguments, when="never").returncode == 0
    assert values.read_bytes() == before
    assert (folder / "poison.json").read_bytes() == study


REFINE = ("--model", MODEL, "refine.epochs=1", "refine.tiles_per_class=64", "refine.suspicious_above=0.9")


def refiner_card(run: Path) -> dict[str, Any]:
    return read_json(RunFolder(run).model(MODEL, 0) / "refiner.json")


def trained_tumour(run: Path) -> str:
    """The first training slide with tumour."""
    rows, _ = read_slide_scores(RunFolder(run).slide_scores(MODEL))
    return next(row.slide_id for row in rows if row.part == "train" and row.positive)


@pytest.mark.parametrize("workers", [1, 2])
def test_refiner_training_with_a_slide_whose_tiles_abort(lab: Lab, small_run: Path, workers: int) -> None:
    run, slide = lab.folder / "r", trained_tumour(small_run)
    assert lab.call("refine", *copied(small_run, run, workers), *REFINE, when="never").returncode == 0
    whole = refiner_card(run)
    assert "left_out" not in whole
    arguments = copied(small_run, run, workers)
    first = lab.call("refine", *arguments, *REFINE, when="reading", slide=slide)
    assert first.returncode == 0, first.stderr
    reason = f"{KILLED} while reading tiles to learn from"
    assert f"fold 0: slide {slide} is left out of the training: {reason}" in first.stderr
    card = refiner_card(run)
    assert list(card["left_out"]) == [slide]
    assert 0 < card["tiles"]["tumour"] < whole["tiles"]["tumour"]
    assert card["limits"] == whole["limits"]
    assert lab.call("refine", *arguments, *REFINE, when="reading", slide=slide).returncode == 0
    assert lab.aborts() == 1  # nothing is trained again
    assert refiner_card(run) == card


def test_refiner_training_with_slides_cut_off_removed_and_put_back(
    lab: Lab, small_run: Path, cohort: Path
) -> None:
    run, slides = lab.folder / "r", lab.folder / "all"
    shutil.copytree(cohort / "slides", slides)
    arguments = [*copied(small_run, run), f"slides.folder={slides}", *REFINE]
    assert lab.call("refine", *arguments, when="never").returncode == 0
    whole = refiner_card(run)
    cut = slides / f"{trained_tumour(small_run)}.tiff"
    rows, _ = read_slide_scores(RunFolder(small_run).slide_scores(MODEL))
    gone = slides / f"{next(r.slide_id for r in rows if r.part == 'train' and not r.positive)}.tiff"
    arguments = [*copied(small_run, run), f"slides.folder={slides}", *REFINE]
    os.truncate(cut, cut.stat().st_size // 2)
    gone.unlink()
    found = lab.call("refine", *arguments, when="never")
    assert found.returncode == 3, found.stderr  # a label without slide
    assert f"fold 0: slide {cut.stem} is left out of the training: " in found.stderr
    assert f"fold 0: slide {gone.stem} is left out of the training: its file is gone" in found.stderr
    assert sorted(refiner_card(run)["left_out"]) == sorted([cut.stem, gone.stem])
    for path in (cut, gone):
        shutil.copy2(cohort / "slides" / path.name, path)
    assert lab.call("refine", *arguments, when="never").returncode == 0
    assert refiner_card(run) == whole


def test_refiner_training_with_outlines_that_abort(lab: Lab, small_run: Path, cohort: Path) -> None:
    run, slide = lab.folder / "r", trained_tumour(small_run)
    arguments = [*copied(small_run, run), "--polygons", cohort / "annotations", *REFINE]
    found = lab.call("refine", *arguments, when="outlines", slide=slide)
    assert found.returncode == 0, found.stderr
    reason = f"{KILLED} while reading its outlines"
    assert f"slide {slide} is left out of the outlines that refine learns from: {reason}" in found.stderr
    assert refiner_card(run)["tiles"]["outlined"] > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_train_with_outlines_that_abort(lab: Lab, small_run: Path, workers: int) -> None:
    """A model that may see outlines is trained without those of one slide."""
    run, name = lab.folder / "r", "guided(abmil)"
    model = (f'models={{"{name}": {{annotated_share: 0.25}}}}', "train.epochs=1")
    assert lab.call("train", *copied(small_run, run, workers), *model, when="never").returncode == 0
    first, second = read_json(RunFolder(run).model(name, 0) / "model.json")["training"]["annotated_slides"]
    arguments = copied(small_run, run, workers)
    found = lab.call("train", *arguments, *model, when="outlines", slide=first)
    assert found.returncode == 0, found.stderr
    reason = f"{KILLED} while reading its outlines"
    assert f"train: slide {first} is left out of the outlines that models may see: {reason}" in found.stderr
    card = read_json(RunFolder(run).model(name, 0) / "model.json")
    assert card["training"]["annotated_slides"] == [second]
    again = lab.call("train", *arguments, *model, when="outlines", slide=first)
    assert again.returncode == 0
    assert lab.aborts() == 1
