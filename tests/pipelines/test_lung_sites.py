"""The study of laboratories in small: its cohorts, and its table from a finished run."""

from pathlib import Path

import numpy as np
import pytest

from pipelines import lung_sites
from wsi_mil.config import load_config
from wsi_mil.experiments.site_audit import run_site_audit
from wsi_mil.io.tables import read_csv
from wsi_mil.stages import run_stage

ROWS = [
    {"slide": f"s{n}{c}{y}", "label": y, "centre": f"centre_{c}"}
    for n in range(6)
    for c in range(4)
    for y in "01"
]


@pytest.mark.parametrize(("cohort", "tumour_share"), [("none", 1 / 2), ("half", 3 / 4), ("full", 1.0)])
def test_a_cohort_has_the_tie_of_its_name(cohort: str, tumour_share: float) -> None:
    chosen = lung_sites.tied(ROWS, cohort, np.random.default_rng(0))
    of_two = [row["label"] == "1" for row in chosen if row["centre"] in lung_sites.TUMOUR_LABORATORIES]
    others = [row["label"] == "0" for row in chosen if row["centre"] not in lung_sites.TUMOUR_LABORATORIES]
    assert np.mean(of_two + others) == pytest.approx(tumour_share)
    assert len(chosen) == {"none": 48, "half": 32, "full": 24}[cohort]


def test_a_cohort_is_trained_and_audited(small_run: Path, cohort: Path, tmp_path: Path) -> None:
    source = load_config(small_run)
    rows = [{**row, "split": "train"} for row in read_csv(cohort / "labels.csv")]
    config = lung_sites.make_run(source, tmp_path / "half", rows, "half", 2)
    for stage in ("train", "score"):
        run_stage(config, stage)
    audit = run_site_audit(config)
    table = lung_sites.table_rows("half", audit)
    assert {len(row) for row in table} == {len(lung_sites.COLUMNS)}
    assert [model.model for model in audit.models] == list(lung_sites.MODELS)
    (alone,) = [row[4] for row in table if row[1] == "AUC of the centre alone"]
    assert alone == f"{audit.tie.auc:.3f}"
    tested = [row for row in table if row[1] == "slide AUC, mean_pool" and row[2] == "all"]
    assert tested[0][3] == "18"  # three folds test every slide
