"""Measures of predictions, worked by hand, and where each is undefined."""

import math

import pytest
import torch

from wsi_mil.errors import ConfigError
from wsi_mil.tasks import TASKS, Detection
from wsi_mil.tasks.classes import macro_auc
from wsi_mil.tasks.kinds.discrete_survival import DiscreteSurvival
from wsi_mil.tasks.kinds.regression import Regression
from wsi_mil.tasks.kinds.survival import Survival
from wsi_mil.tasks.measures import mean_absolute_error, quadratic_kappa, r_squared


def test_the_auc_of_two_classes_is_that_of_the_second() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    assert macro_auc(scores, [0, 0, 1, 1]) == pytest.approx(3 / 4)  # 3 of the 4 pairs are in order


def test_the_auc_of_three_classes_is_the_mean_over_classes_that_some_slides_have() -> None:
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4], [0.2, 0.3, 0.5]])
    first = 3 / 4  # slides 0 and 3 against 1 and 2: 0.7 > 0.1, 0.7 > 0.5, 0.2 > 0.1, but 0.2 < 0.5
    second = 2 / 4  # slides 1 and 2 against 0 and 3: 0.8 > 0.2, 0.8 > 0.3, but 0.1 < 0.2, 0.1 < 0.3
    assert macro_auc(scores, [0, 1, 1, 0]) == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]], ids=["no positive", "no negative"])
def test_the_auc_of_one_class_is_undefined(labels: list[int]) -> None:
    assert math.isnan(macro_auc(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), labels))


def test_measures_of_classes() -> None:
    predictions = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    found = Detection.of(2).measures(predictions, [0, 1, 0, 1])
    assert found == {"auc": 1.0, "accuracy": 0.75}


def test_measures_of_a_value() -> None:
    task = Regression(mean=10.0, std=2.0)
    predictions = task.predict(torch.tensor([[0.0], [1.0], [-1.0]]))
    assert predictions[:, 0].tolist() == [10, 12, 8]
    # residuals 0, 1, -1 against a variance of 1 + 1: the sums are 2 and 2, the mean of the truth is 10
    assert task.measures(predictions, [10.0, 11.0, 9.0]) == pytest.approx({"r2": 0.0, "mae": 2 / 3})


def test_a_value_is_standardised_by_what_was_fitted() -> None:
    assert Regression().fitted([1.0, 5.0, 3.0, 3.0]) == Regression(mean=3.0, std=pytest.approx(math.sqrt(2)))
    assert Regression().fitted([7.0, 7.0]) == Regression(mean=7.0, std=1.0)


def test_r_squared_of_equal_truths_and_kappa_of_one_class_are_undefined() -> None:
    assert math.isnan(r_squared([2, 2], [1, 3]))
    assert math.isnan(quadratic_kappa([1, 1], [1, 1]))
    assert quadratic_kappa([0, 1, 0, 1], [0, 1, 1, 1]) == pytest.approx(0.5)  # (3/4 - 1/2) / (1 - 1/2)
    assert mean_absolute_error([1, -1], [2, -4]) == 2


def test_what_teaches_nothing_is_named() -> None:
    assert Detection.of(2).lacking([1, 1]) == "lacks a class"
    assert Detection.of(2).lacking([1, 0]) == ""
    assert Regression().lacking([2.0, 2.0]) == "has one value only"
    assert Regression().lacking([2.0, 2.5]) == ""


def test_a_value_is_split_at_the_median() -> None:
    assert Regression().strata([5.0, 1.0, 9.0, 2.0]) == [1, 0, 1, 0]
    assert Detection.of(3).strata([2, 0, 1]) == [2, 0, 1]


@pytest.mark.parametrize("kind", [name for name in sorted(TASKS) if name != "detection"])
def test_a_task_without_a_normal_class_finds_something_in_every_slide(kind: str) -> None:
    found = TASKS.load(kind)(("a", "b")).finding(torch.tensor([0, 1, 0]))
    assert found.dtype == torch.bool
    assert found.tolist() == [True, True, True]


def test_detection_finds_something_in_every_class_except_the_normal_one() -> None:
    assert Detection.of(3).finding(torch.tensor([0, 1, 2])).tolist() == [False, True, True]


@pytest.mark.parametrize("kind", sorted(set(TASKS) - {"discrete_survival"}))
def test_a_setting_that_a_task_does_not_have_is_named(kind: str) -> None:
    expected = rf"^task\.params: {kind} has no settings, got \['depth', 'size'\]$"
    with pytest.raises(ConfigError, match=expected):
        TASKS.load(kind).for_table([], None, size=1, depth=2)


def test_the_number_of_intervals_of_discrete_survival() -> None:
    assert DiscreteSurvival.for_table([], None).bins == 4
    assert DiscreteSurvival.for_table([], None, bins=6).bins == 6
    for wrong in ({"bins": "4"}, {"size": 3}):
        with pytest.raises(ConfigError, match=r"^task\.params: expected bins, a whole number, got "):
            DiscreteSurvival.for_table([], None, **wrong)


def test_a_target_of_another_task_is_named() -> None:
    with pytest.raises(TypeError, match=r"^expected a class index, got 2\.5$"):
        Detection.of(2).strata([2.5])
    with pytest.raises(TypeError, match=r"^expected \(time, event\), got 1$"):
        Survival().strata([1])
