"""The mean of several trainings, and their disagreement, against numpy."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.test_scoring import features, model
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import ModelError
from wsi_mil.scoring import score_features
from wsi_mil.scoring.calibration import Calibration
from wsi_mil.scoring.ensemble import agreement, fold_folders, mean_model, mean_scores
from wsi_mil.scoring.thresholds import Threshold


def trained(value: float, calibration: Calibration | None = None):  # type: ignore[no-untyped-def]
    return replace(
        model(), threshold=Threshold(value, "youden", "val", "d"), digest=f"{value}", calibration=calibration
    )


def test_scores_and_thresholds_are_averaged() -> None:
    models = [trained(0.2), trained(0.6)]
    whole = mean_model(models)
    assert whole.threshold is not None
    assert whole.threshold.value == pytest.approx(0.4)
    assert whole.digest not in {one.digest for one in models}
    first = score_features(models[0], features(unreadable=2))
    second = replace(
        first, probability=0.9, tile_scores=first.tile_scores + 1, class_probabilities=(0.1, 0.9)
    )
    found = mean_scores([first, second], whole)
    assert found.probability == pytest.approx((first.probability + 0.9) / 2)
    np.testing.assert_allclose(found.tile_scores, first.tile_scores + 0.5, rtol=1e-6)
    assert np.isnan(found.tile_scores[:2]).all()
    assert found.class_probabilities[1] == pytest.approx((first.class_probabilities[1] + 0.9) / 2)
    assert found.model_digest == whole.digest


def test_disagreement_is_counted() -> None:
    calibration = Calibration(2.0, tuple(n / 100 for n in range(1, 40)), "val", "d")
    models = [trained(0.2, calibration), trained(0.6, calibration), trained(0.5, calibration)]
    values = [0.3, 0.55, 0.95]
    found = agreement(models, values, error=0.1)
    assert (found.models, found.called, found.lowest, found.highest) == (3, 2, 0.3, 0.95)
    assert found.std == pytest.approx(np.std(values, ddof=1))
    expected = np.mean([1 / (1 + ((1 - p) / p) ** 0.5) for p in values])
    assert found.calibrated == pytest.approx(expected)
    p_positive = np.mean([1 / 40, 1 / 40, 36 / 40])  # 0.05 against 0.05 .. 0.39: 35 fit no better
    p_negative = np.mean([11 / 40, 1 / 40, 1 / 40])  # 0.3 against 0.3 .. 0.39: 10
    assert (p_positive > 0.1, p_negative > 0.1) == (True, True)
    assert found.conformal == "undecided"
    assert agreement(models, values, error=0.2).conformal == "positive"


def test_without_calibration_there_is_no_decision() -> None:
    found = agreement([trained(0.5)], [0.7], error=0.1)
    assert (found.calibrated, found.conformal, found.called) == (None, None, 1)
    assert math.isnan(found.std)


def test_trainings_that_do_not_belong_together_are_refused() -> None:
    other = replace(trained(0.5), tiles=TileSpec(mpp=1.0, size_px=100))
    with pytest.raises(ModelError, match="differ in tiles"):
        mean_model([trained(0.5), other])


def test_folders_of_trainings_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        trained(0.5).save(tmp_path / f"fold{number}", "x")
    assert [folder.name for folder in fold_folders(tmp_path)] == ["fold0", "fold2", "fold10"]
    assert fold_folders(tmp_path / "fold2") == [tmp_path / "fold2"]
    assert fold_folders(tmp_path / "none") == [tmp_path / "none"]
