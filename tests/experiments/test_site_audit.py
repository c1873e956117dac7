"""`wsi-mil audit RUN --sites` on a small run of three centres: files, exit codes, bad input."""

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from click.testing import CliRunner, Result
from sklearn.metrics import roc_auc_score

from wsi_mil.cli.main import cli
from wsi_mil.errors import ConfigError, DataError, StoreError
from wsi_mil.evaluation import read_annotations
from wsi_mil.robustness.sites.results import read_site_audit
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=True)


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the small run that a test may change."""
    shutil.copytree(small_run, tmp_path / "copy")
    return tmp_path / "copy"


def rows_of(cohort: Path) -> list[dict[str, str]]:
    with (cohort / "labels.csv").open() as handle:
        return list(csv.DictReader(handle))


def write_labels(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return f"slides.labels={path}"


def tumour_tiles(run: Path, cohort: Path, slide: str) -> int:
    """How many tiles lie on a lesion with at least half of their area."""
    path = cohort / "annotations" / f"{slide}.xml"
    table = RunFolder(run).store(slide).read_tiles()
    area = shapely.union_all([lesion.geometry for lesion in read_annotations(path, slide)])
    x, y = table.coords.T.astype(float)
    boxes = shapely.box(x, y, x + table.plan.tile_width0_px, y + table.plan.tile_height0_px)
    return int((shapely.area(shapely.intersection(boxes, area)) >= 0.5 * shapely.area(boxes)).sum())


def test_the_audit_writes_what_the_run_holds(run: Path, cohort: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    result = call("audit", run, "--sites")
    assert result.exit_code == 0, result.output
    found = json.loads((run / "sites" / "sites.json").read_text())
    rows = {row["slide"]: row for row in rows_of(cohort)}
    names = sorted({row["centre"] for row in rows.values()})
    for row in found["tie"]["centres"]:
        own = [r for r in rows.values() if r["centre"] == row["centre"]]
        assert row["slides"] == len(own)
        assert row["patients"] == len({r["patient"] for r in own})
    assert [row["centre"] for row in found["tie"]["centres"]] == names
    assert found["tie"]["auc"] < 0.65  # each centre has as many tumour slides as normal ones
    assert [probe["n"] for probe in found["probes"]][:2] == [18, 9]
    tiles = [int(RunFolder(run).store(slide).read_readable("texture").sum()) for slide in rows]
    assert found["sampling"]["tiles"] == found["probes"][2]["n"] == sum(min(n, 50) for n in tiles)
    slides, of_tiles = found["robustness_index"]
    assert slides["pairs"] == of_tiles["pairs"] == 3  # of three centres
    sizes = {
        (label, name): sum(
            min(tumour_tiles(run, cohort, slide) if label == "1" else count, 50)
            for slide, count in zip(rows, tiles, strict=True)
            if rows[slide]["centre"] == name and rows[slide]["label"] == label
        )
        for label in "01"
        for name in names
    }
    pairs = itertools.combinations(names, 2)
    least = [min(250, *(sizes[label, name] for label in "01" for name in pair)) for pair in pairs]
    assert of_tiles["n"] == 4 * sum(least)
    (model,) = found["models"]
    scores = [r for r in read_slide_scores(run / "scores/focus_mil/slides.parquet")[0] if r.part == "test"]
    assert sum(row["slides"] for row in model["centres"]) == len(scores)
    expected = roc_auc_score([r.positive for r in scores], [r.probability for r in scores])
    assert model["all_slides"]["value"] == pytest.approx(expected)
    page = (run / "sites" / "sites.html").read_text()
    assert found["verdict"] in result.output
    for text in (*names, "robustness index", found["checks"][0]["why"]):
        assert text in page or text.capitalize() in page
    assert (run / "config.yaml").read_bytes() == before


def test_it_is_the_same_twice_and_is_read_back(run: Path) -> None:
    assert call("audit", run, "--sites").exit_code == 0
    path = run / "sites" / "sites.json"
    first = path.read_bytes()
    assert call("audit", run, "--sites", "--model", "focus_mil").exit_code == 0
    assert path.read_bytes() == first
    read = read_site_audit(path)
    written = json.loads(first)
    assert read.verdict == written["verdict"]
    assert {key: value for key, value in written.items() if key != "content_digest"} == read.as_json()
    path.write_text(first.decode().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(StoreError):
        read_site_audit(path)


def test_a_tied_cohort_fails_and_require_sets_the_exit_code(run: Path, cohort: Path, tmp_path: Path) -> None:
    """Tumour slides of centre `one`, normal slides of `two`: texture features of three scanners differ."""
    rows = rows_of(cohort)
    tumour = {row["slide"] for row in rows if row["label"] not in ("0", "normal")}
    assert 0 < len(tumour) < len(rows)
    tied = [{**row, "centre": "one" if row["slide"] in tumour else "two"} for row in rows]
    labels = write_labels(tmp_path / "tied.csv", tied)
    out = tmp_path / "audits"
    result = call("audit", run, "--sites", "--out", out, labels, "--require", "pass")
    found = json.loads((out / "audit.json").read_text())
    assert found["tie"]["auc"] == 1.0
    assert found["tie"]["cramers_v"] == pytest.approx(1.0)
    assert found["robustness_index"][0]["value"] is None
    assert found["probes"][1]["reason"] == "1 of 1 centres have 2 patients or more"
    assert found["models"][0]["within"]["value"] is None
    assert (result.exit_code, found["verdict"]) == (4, "fail")
    assert "centre alone has an AUC of 1.000" in result.output
    assert not (run / "sites").exists()
    assert (out / "audit.html").is_file()


def bad(rows: list[dict[str, str]], what: str) -> list[dict[str, str]]:
    """Return the labels without a centre column, or with one centre."""
    if what == "no column":
        return [{key: value for key, value in row.items() if key != "centre"} for row in rows]
    return [{**row, "centre": "Utrecht"} for row in rows]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no column", "says no centre of any slide: add a column `centre`, or name yours with"),
        ("one centre", "all 18 slides are of centre 'Utrecht', an audit of sites needs at least two"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    run: Path, cohort: Path, tmp_path: Path, what: str, message: str
) -> None:
    labels = write_labels(tmp_path / "bad.csv", bad(rows_of(cohort), what))
    result = call("audit", run, "--sites", labels)
    assert isinstance(result.exception, DataError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_centre_of_one_patient_and_slides_without_centre(run: Path, cohort: Path, tmp_path: Path) -> None:
    rows = rows_of(cohort)
    rows[0]["centre"], rows[1]["centre"] = "lonely", ""
    labels = write_labels(tmp_path / "labels.csv", rows)
    result = call("audit", run, "--sites", labels)
    assert result.exit_code == 0, result.output
    found = json.loads((run / "sites" / "sites.json").read_text())
    assert found["probes"][0]["left_out"] == ["lonely"]
    assert found["without_centre"] == 1
    assert found["probes"][0]["n"] == 16
    assert "centre lonely has one patient" in result.output
    assert np.isfinite(found["probes"][0]["accuracy"])


def test_unknown_models_and_wrong_options_are_refused(run: Path) -> None:
    result = call("audit", run, "--sites", "--model", "focusmil")
    assert isinstance(result.exception, ConfigError)
    result = call("audit", "--aggregator", "mi_net", "--sites")
    assert result.exit_code == 2
    assert "--sites audits a run" in result.output
