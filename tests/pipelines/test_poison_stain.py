"""The poison study on a few synthetic slides: its tables, figures and files agree."""

import json
import math
import sys
from pathlib import Path

import pytest
import yaml

from pipelines import poison_stain
from pipelines.poison import cohorts
from pipelines.poison.tables import ablation_table, dose_table, method_table, patch_table
from wsi_mil.evaluation.intervals import Spread
from wsi_mil.experiments.poison_table import verdict_rows
from wsi_mil.robustness import PoisonSpec
from wsi_mil.robustness.poison.study import ConditionSpread, DirectionResult, PoisonedModel, PoisonStudy

ROOT = Path(__file__).parents[2]


def spread(mean: float, half: float = math.nan) -> Spread:
    return Spread(mean, half, mean - half, mean + half, 2)


def study(poisoned: float) -> PoisonStudy:
    half = spread(0.5)
    conditions = {
        "none": ConditionSpread(spread(0.95, 0.02), half, half, half, half),
        "poison": ConditionSpread(spread(poisoned, 0.03), half, half, half, half),
    }
    trained = {"none": spread(1.0, 0.0)}
    fooled = DirectionResult(spread(0.8), "fooled")
    model = PoisonedModel("m", "mi_net", "logit", conditions, trained, {"normal": fooled})
    return PoisonStudy(PoisonSpec(), 0.15, (model,))


def test_tables_say_what_the_study_holds() -> None:
    row = method_table({"c": study(0.1)}).splitlines()[2]
    assert row == "| c | m | 0.950 ± 0.020 | - | - | 0.100 ± 0.030 | fooled | - | - | - | - | - |"
    patches = patch_table({"c": study(0.1)}).splitlines()[2]
    assert patches == "| c | m | 0.500 | 0.500 | - | 0.500 | 0.500 | - | 0.500 | - | 0.500 | - |"
    assert "| c | m | 1.000 ± 0.000 | 0.950 ± 0.020 |" in ablation_table({"c": study(0.1)}, ("m", "absent"))
    doses = dose_table({"coverage": {0.05: study(0.9), 0.4: study(0.2)}, "strength": {}})
    assert doses.splitlines() == [
        "| method | coverage 0.05 | coverage 0.4 |",
        "|---|---|---|",
        "| m | 0.900 ± 0.030 | 0.200 ± 0.030 |",
    ]
    assert dose_table({"coverage": {}}) == ""
    printed = verdict_rows(study(0.1))
    assert "0.950 ± 0.020" in printed[2]
    assert printed[2].endswith("fooled")
    assert not any(line.startswith("mirrored") for line in printed), "that direction was not measured"


def test_the_configuration_holds_every_method_of_the_catalog() -> None:
    from wsi_mil.aggregators.names import METHODS, WRAPPERS

    models = yaml.safe_load((ROOT / "configs" / "poison_stain.yaml").read_text())["models"]
    used = {own.get("aggregator", name) for name, own in models.items()}
    assert set(METHODS) <= used
    assert {name.split("(")[0] for name in used if "(" in name} == set(WRAPPERS)
    assert set(poison_stain.DOSED) <= set(models)
    assert set(poison_stain.ABLATION) <= set(models)
    splits = [cohort["split"] for cohort in poison_stain.COHORTS.values()]
    assert all(split.get("folds", 1) * split.get("seeds", 1) >= 5 for split in splits)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = {
        "synthetic": {
            "pairs": 6,
            "centres": 2,
            "seed": 3,
            "width_px": [1500, 1600],
            "height_px": [1250, 1300],
            "itc_share": 0,
            "macro_share": 0,
        },
        "tiles": {"mpp": 1.0, "size_px": 64},
        "encoder": {"name": "texture"},
        "split": {"kind": "kfold", "folds": 2, "val_share": 0.3},
    }
    for module in (poison_stain, cohorts):
        monkeypatch.setattr(module, "COHORTS", {"synthetic": cohort})
    monkeypatch.setattr(poison_stain, "COVERAGES", (0.1, 0.3))
    monkeypatch.setattr(poison_stain, "STRENGTHS", (1.0,))
    monkeypatch.setattr(poison_stain, "DOSED", ("mi_net",))


def test_the_study_on_a_little(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load((ROOT / "configs" / "poison_stain.yaml").read_text())
    raw["models"] = {"mi_net": {}, "mean_pool": {}}
    raw["train"]["epochs"] = 1
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(raw, sort_keys=False))
    arguments = [
        "poison_stain.py",
        str(config),
        "--doses-on",
        "synthetic",
        f"run={tmp_path / 'run'}",
        "execution.workers=1",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    poison_stain.main()
    printed = capsys.readouterr().out
    assert "synthetic: 16 trainings" in printed  # two methods, four arms, two folds
    assert "from features on:" in printed
    assert printed.count("| synthetic | mi_net |") == 3  # of the methods, their patches, and of the ablation
    assert "| method | coverage 0.1 | coverage 0.3 | strength 1 |" in printed
    found = json.loads((tmp_path / "run" / "studies.json").read_text())
    assert [m["model"] for m in found["cohorts"]["synthetic"]["models"]] == ["mi_net", "mean_pool"]
    assert (
        found["doses"]["coverage"]["0.3"]["share_of_tiles"]
        > found["doses"]["coverage"]["0.1"]["share_of_tiles"]
    )
    for name in ("cohorts.png", "doses.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
