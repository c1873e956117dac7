"""The plan of a run: a record, read from the folder, nothing written."""

from pathlib import Path
from typing import Any

from wsi_mil.cli.output import plan_text
from wsi_mil.config.loading import parse_config
from wsi_mil.run.plan import CohortPlan, SlidesPlan, plan_run


def test_a_cohort_that_would_be_made(tmp_path: Path) -> None:
    config = parse_config({"run": str(tmp_path / "r"), "synthetic": {"pairs": 4, "odd": ["flat"]}})
    plan = plan_run(config)
    assert plan.work == CohortPlan(9, tmp_path / "r" / "cohort")
    assert not plan.exists
    assert not (tmp_path / "r").exists()
    text = plan_text(plan)
    assert "9 synthetic slides" in text
    assert "report       would run" in text


def test_slides_that_exist(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "a.svs").touch()
    (folder / "b.tiff").touch()
    values: dict[str, Any] = {
        "run": str(tmp_path / "r"),
        "slides": {"folder": str(folder)},
        "models": {"mi_net": {}, "abmil": {}},
        "execution": {"backend": "dask", "cluster": {"kind": "slurm", "jobs": 3}},
    }
    (tmp_path / "r" / "models" / "abmil").mkdir(parents=True)
    plan = plan_run(parse_config(values))
    assert plan.work == SlidesPlan(folder, 2, 0, 0, ("abmil",))
    text = plan_text(plan)
    assert f"slides       2 below {folder}" in text
    assert "trained before: abmil" in text
    assert "cluster      3 slurm jobs of 4 cores" in text
    assert text.splitlines()[-1] == f"configuration digest {plan.config_digest}"
