"""The poison experiment's records: what trainings add up to, and poison.json as it was written."""

import math
from pathlib import Path

import pytest

from wsi_mil.errors import StoreError
from wsi_mil.io.json import read_json, write_json
from wsi_mil.robustness import PoisonSpec
from wsi_mil.robustness.poison.conditions import (
    CONDITIONS,
    TRAINING_ARMS,
    Arm,
    conditions_of,
    training_arms,
)
from wsi_mil.robustness.poison.study import (
    EarlierStudyError,
    Measured,
    PoisonStudy,
    PoisonTrainingResult,
    read_poison_study,
    summarise_poison,
)

AUCS = {
    "none": 0.9,
    "test_only": 0.8,
    "train_only": 0.85,
    "poison": 0.2,
    "mirrored_test_only": 0.81,
    "mirrored_train_only": 0.86,
    "mirrored": 0.87,
    "alike": 0.88,
}


def training(model: str, arm: Arm, fold: int, shift: float) -> PoisonTrainingResult:
    conditions = {
        name: Measured(AUCS[name] + shift, 0.7, math.nan, 0.25, 0.5, "logit")
        for name, (train_arm, _) in CONDITIONS.items()
        if train_arm == arm
    }
    return PoisonTrainingResult("i", model, "mi_net", arm, fold, 3, 0.99, 0.9, math.nan, conditions)


def trainings(arms: tuple[Arm, ...] = TRAINING_ARMS) -> list[PoisonTrainingResult]:
    """Two models, two folds; the AUC of fold 1 is 0.1 higher than that of fold 0."""
    return [training(model, arm, fold, fold / 10) for model in ("b", "a") for arm in arms for fold in (1, 0)]


def study(arms: tuple[Arm, ...] = TRAINING_ARMS) -> PoisonStudy:
    return summarise_poison(PoisonSpec(coverage=0.2), ["a", "b"], trainings(arms), 0.19)


def test_what_trainings_add_up_to() -> None:
    found = study()
    assert [model.model for model in found.models] == ["a", "b"]
    model = found.models[0]
    assert set(model.conditions) == set(CONDITIONS)
    auc = model.metric("poison", "slide_auc")
    assert auc is not None
    assert (auc.mean, auc.count) == (pytest.approx(0.25), 2)
    assert auc.std == pytest.approx(0.1 / math.sqrt(2))
    loss = model.directions["normal"].loss
    assert loss.mean == pytest.approx(0.7)
    assert loss.std == pytest.approx(0.0, abs=1e-12)  # the same training, clean and poisoned
    assert model.directions["tumour"].loss.mean == pytest.approx(0.03)
    assert (model.verdict("normal"), model.verdict("tumour")) == ("fooled", "resists")
    assert (model.score_kind, model.aggregator) == ("logit", "mi_net")
    assert set(model.train_auc) == set(TRAINING_ARMS)


def test_the_trainings_of_a_direction_and_what_they_are_measured_in() -> None:
    assert set(conditions_of("none")) == {"none", "test_only", "mirrored_test_only"}
    assert training_arms(("tumour",), control=False) == ("none", "tumour")


@pytest.mark.parametrize(
    ("arms", "verdicts"), [(("none",), ("-", "-")), (("none", "tumour"), ("-", "resists"))]
)
def test_without_its_poisoned_arm_a_direction_has_no_verdict(
    arms: tuple[Arm, ...], verdicts: tuple[str, str]
) -> None:
    model = study(arms).models[0]
    assert (model.verdict("normal"), model.verdict("tumour")) == verdicts
    assert model.metric("poison", "slide_auc") is None
    assert {"none", "test_only"} <= set(model.conditions)


def test_a_study_of_an_earlier_format_is_not_misread(tmp_path: Path) -> None:
    """Format 1 had one verdict, of one direction."""
    raw = {**study().as_json(), "format_version": 1}
    write_json(tmp_path / "poison.json", raw)
    with pytest.raises(EarlierStudyError, match=r"format 1, .*run `wsi-mil poison` again"):
        read_poison_study(tmp_path / "poison.json")


@pytest.mark.parametrize("arms", [TRAINING_ARMS, ("none",)])
def test_a_study_is_read_as_it_was_written(arms: tuple[Arm, ...], tmp_path: Path) -> None:
    path = tmp_path / "poison.json"
    written = study(arms)
    write_json(path, written.as_json())
    assert read_poison_study(path).as_json() == written.as_json()
    raw = read_json(path)
    assert (raw["kind"], raw["format_version"], raw["title"]) == ("poison study", 2, "noise_c20_s100")
    assert raw["models"][0]["conditions"]["none"]["froc"]["mean"] is None


def test_a_training_is_read_as_it_was_written() -> None:
    row = training("a", "normal", 1, 0.0)
    found = PoisonTrainingResult.from_json(row.as_json())
    assert found.as_json() == row.as_json()
    assert math.isnan(found.last_val_auc)
    assert found.conditions["poison"].slide_auc == 0.2


def test_a_study_of_a_kind_that_is_not_installed(tmp_path: Path) -> None:
    raw = study().as_json()
    raw["poison"]["kind"] = "glitter"
    write_json(tmp_path / "poison.json", raw)
    with pytest.raises(StoreError, match=r"No kind of poison named 'glitter'.*install the package"):
        read_poison_study(tmp_path / "poison.json")
