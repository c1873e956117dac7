"""Two models compared on hand-made score tables: values against scikit-learn, what the file holds, and what
is refused."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from tests.stages import handmade
from wsi_mil.config import RunConfig
from wsi_mil.contracts.scores import SlideScoresHeader
from wsi_mil.errors import DataError, StoreError
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import write_slide_scores
from wsi_mil.stages.compare import run_compare

LABELS = [0, 1, 0, 1, 0, 1, 0, 1]
FIRST = [0.1, 0.8, 0.4, 0.9, 0.3, 0.35, 0.2, 0.7]
SECOND = [0.5, 0.4, 0.2, 0.9, 0.6, 0.3, 0.1, 0.7]
IDS = tuple(f"s{n}" for n in range(len(LABELS)))


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run with two scored models; `second` has not scored the last slide, and `other` nothing in common."""
    found = handmade.config(
        tmp_path, models={name: {"aggregator": "mi_net"} for name in ("first", "second", "other")}
    )
    write(found, "first", IDS, FIRST)
    write(found, "second", IDS[:-1], SECOND[:-1])
    return found


def write(config: RunConfig, name: str, ids: Sequence[str], values: Sequence[float]) -> None:
    run, split = RunFolder(config.run), handmade.split(IDS)
    split.save(run.split)
    rows = [
        handmade.score_row(slide_id, value, LABELS[IDS.index(slide_id)])
        for slide_id, value in zip(ids, values, strict=True)
    ]
    write_slide_scores(run.slide_scores(name), rows, SlideScoresHeader(name, split.digest(), 1))


def test_both_models_are_measured_on_the_slides_that_both_scored(config: RunConfig) -> None:
    found = run_compare(config, "first", "second")
    auc = found.slide.differences["auc"]
    assert found.slides == 7
    assert auc.first == pytest.approx(roc_auc_score(LABELS[:-1], FIRST[:-1]))
    assert auc.second == pytest.approx(roc_auc_score(LABELS[:-1], SECOND[:-1]))
    assert auc.difference == pytest.approx(auc.first - auc.second)
    assert found.slide.delong is not None
    assert found.slide.delong.difference == pytest.approx(auc.difference)
    assert found.annotated is None


def test_the_other_way_round_the_difference_changes_its_sign(config: RunConfig) -> None:
    one = run_compare(config, "first", "second").slide.differences["auc"]
    other = run_compare(config, "second", "first").slide.differences["auc"]
    assert other.difference == pytest.approx(-one.difference)


def test_the_file_holds_the_record_without_nan(config: RunConfig) -> None:
    found = run_compare(config, "first", "second")
    path = config.run / "evaluation" / "first_against_second.json"
    written = read_json(path)
    assert written == json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert (written["kind"], written["format_version"], written["slides"]) == ("comparison", 3, 7)
    assert written["split_digest"] == handmade.split(IDS).digest()
    assert written["slide"]["auc"]["difference"] == found.slide.differences["auc"].difference
    assert written["slide"]["delong"]["p_two_sided"] == pytest.approx(found.slide.delong.p_two_sided)  # type: ignore[union-attr]
    p_values = [one.p_two_sided for one in found.slide.differences.values()]
    smallest = min(found.slide.differences, key=lambda name: found.slide.differences[name].p_two_sided)
    expected = min(min(p_values) * len(p_values), 1)
    assert written["slide"][smallest]["p_holm"] == pytest.approx(expected)
    assert "patch" not in written


def test_one_class_only_is_undefined_with_a_reason(config: RunConfig) -> None:
    for name in ("first", "second"):
        write(config, name, ("s0", "s2", "s4"), (0.1, 0.2, 0.3))
    found = run_compare(config, "first", "second")
    assert math.isnan(found.slide.differences["auc"].difference)
    written = found.as_json()
    assert written["slide"]["auc"]["difference"] is None
    assert written["slide"]["reasons"]["auc"]
    assert written["slide"]["reasons"]["delong"] == found.slide.delong_reason != ""


def test_what_cannot_be_compared_is_refused(config: RunConfig) -> None:
    with pytest.raises(DataError, match="no model 'nobody' in this run: it has first, second, other"):
        run_compare(config, "first", "nobody")
    with pytest.raises(DataError, match="two different models, got 'first' twice"):
        run_compare(config, "first", "first")
    write(config, "other", IDS[-1:], FIRST[-1:])
    with pytest.raises(DataError, match="second and other have no test slide in common"):
        run_compare(config, "second", "other")
    RunFolder(config.run).split.unlink()
    with pytest.raises(StoreError, match="run `wsi-mil train` first"):
        run_compare(config, "first", "second")
