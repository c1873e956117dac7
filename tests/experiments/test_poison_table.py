"""Tables of the poison experiment, from results made by hand."""

import math

from wsi_mil.evaluation.intervals import Spread
from wsi_mil.experiments.poison_table import COLUMNS, spread_text, trainings_csv, verdict_rows
from wsi_mil.robustness import PoisonSpec
from wsi_mil.robustness.poison.spec import Direction
from wsi_mil.robustness.poison.study import (
    ConditionSpread,
    DirectionResult,
    Measured,
    PoisonedModel,
    PoisonStudy,
    PoisonTrainingResult,
)


def spread(mean: float, half: float = math.nan) -> Spread:
    return Spread(mean, half, mean - half, mean + half, 2)


def test_a_spread_is_shown_with_half_of_its_interval() -> None:
    assert spread_text(spread(0.25, 0.125)) == "0.250 ± 0.125"
    assert spread_text(spread(0.25)) == "0.250"  # a single training has no interval
    assert spread_text(spread(math.nan)) == "-"
    assert spread_text(None) == "-"


def test_the_table_in_the_terminal() -> None:
    half = spread(0.5)
    conditions = {
        "none": ConditionSpread(spread(0.95, 0.02), spread(0.9), half, half, half),
        "poison": ConditionSpread(spread(0.1, 0.03), spread(0.3), half, spread(0.8), half),
        "mirrored": ConditionSpread(spread(0.92, 0.01), spread(0.7), half, spread(0.2), half),
    }
    directions: dict[Direction, DirectionResult] = {
        "normal": DirectionResult(spread(0.85), "fooled"),
        "tumour": DirectionResult(spread(0.03), "resists"),
    }
    model = PoisonedModel("my_model", "mi_net", "logit", conditions, {}, directions)
    title, head, row, mirrored, _, other, holds, note = verdict_rows(
        PoisonStudy(PoisonSpec(), 0.15, (model,))
    )
    assert title.startswith("normal slides poisoned in training")
    assert mirrored.startswith("mirrored: tumour slides poisoned in training")
    assert " ".join(other.split()) == "my_model 0.950 ± 0.020 0.920 ± 0.010 0.900 0.700 0.200 resists"
    assert holds == "a verdict holds for its own direction only"
    assert head.split() == [
        "slide",
        "AUC:",
        "clean",
        "poisoned",
        "patch",
        "poisoned",
        "on",
        "poison",
        "verdict",
    ]
    assert row.split() == [
        "my_model",
        "0.950",
        "±",
        "0.020",
        "0.100",
        "±",
        "0.030",
        "0.900",
        "0.300",
        "0.800",
        "fooled",
    ]
    assert head.index("verdict") == row.index("fooled")
    assert note.startswith("poison touches 15.0% of the tiles")


def test_trainings_csv_has_a_row_per_condition_and_empty_cells_for_undefined_values() -> None:
    measured = Measured(0.75, math.nan, 0.5, 0.25, 1.0, "logit")
    result = PoisonTrainingResult(
        inputs_digest="d",
        model="m",
        aggregator="mi_net",
        arm="normal",
        fold=3,
        kept_epoch=7,
        train_auc=1.0,
        val_auc=0.5,
        last_val_auc=math.nan,
        conditions={"poison": measured, "train_only": measured},
    )
    lines = trainings_csv([result]).splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 3
    first = dict(zip(COLUMNS, lines[1].split(","), strict=True))
    assert (first["model"], first["arm"], first["condition"], first["fold"]) == ("m", "normal", "poison", "3")
    assert (first["slide_auc"], first["patch_auc"], first["kept_epoch"]) == ("0.75", "", "7")
    assert (first["train_auc"], first["last_val_auc"]) == ("1.0", "")
