"""The suite of tasks for every task of the package, each with its loss in other words; wrong tasks must fail
it."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from scipy.stats import norm

from wsi_mil.contracts.labels import Target
from wsi_mil.tasks import TASKS, Task
from wsi_mil.tasks.kinds.discrete_survival import DiscreteSurvival
from wsi_mil.tasks.kinds.regression import Regression
from wsi_mil.testing.tasks import TaskSuite

Array = NDArray[np.float64]
LABELS = ("b", "a", "b", "c", "a", "c", "c", "b", "a")
MONTHS = ("3", "8", "1", "12.5", "5", "7", "20", "2", "9")
DIED = ("1", "0", "1", "1", "1", "0", "1", "1", "1")


def one_hot(targets: Sequence[Target], classes: int) -> Array:
    return np.eye(classes)[[int(t) for t in targets]]  # type: ignore[arg-type]


def pairs(targets: Sequence[Target]) -> Array:
    return np.array(targets, float)


class TestClassification(TaskSuite):
    name = "classification"
    cells: ClassVar[Any] = [{"label": label} for label in LABELS]

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        return -(log_softmax(logits, 1) * one_hot(targets, 3)).sum(1)

    def right_logits(self, task: Task, targets: Sequence[Target]) -> Array:
        return 5 * one_hot(targets, len(task.class_names))


class TestDetection(TestClassification):
    name = "detection"
    class_names = ("b", "a", "c")


class TestDetectionOfTwo(TaskSuite):
    name = "detection"
    cells: ClassVar[Any] = [{"label": label} for label in "010011011"]

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        positive = expit(logits[:, 0])
        truth = pairs(targets)
        return -np.log(np.where(truth > 0, positive, 1 - positive))

    def right_logits(self, task: Task, targets: Sequence[Target]) -> Array:
        return (2 * pairs(targets) - 1)[:, None]


class TestDetectionOfTwoClamped(TestDetectionOfTwo):
    form = "clamped"


class TestDetectionOneAgainstTheRest(TestDetection):
    form = "one_vs_rest"

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        p, truth = expit(logits), one_hot(targets, 3)
        return -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean(1)


class TestOrdinal(TaskSuite):
    name = "ordinal"
    class_names = ("a", "b", "c")
    cells: ClassVar[Any] = [{"label": label} for label in LABELS]

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        losses = []
        for row, target in zip(logits, pairs(targets), strict=True):
            terms = [math.log1p(math.exp(-v if target > k else v)) for k, v in enumerate(row)]
            losses.append(sum(terms) / len(terms))
        return np.array(losses)

    def right_logits(self, task: Task, targets: Sequence[Target]) -> Array:
        return np.array([[4.0 if target > k else -4.0 for k in range(2)] for target in pairs(targets)])


class TestRegression(TaskSuite):
    name = "regression"
    cells: ClassVar[Any] = [
        {"value": value} for value in ("3", "-1.5", "8", "2", "4.25", "0", "7", "11", "5")
    ]

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        """Up to constants, the negative logarithm of a normal density with the standard deviation of the
        targets."""
        truth = pairs(targets)
        density = norm(logits[:, 0] * truth.std() + truth.mean(), truth.std())
        return -2 * (density.logpdf(truth) - norm(0, truth.std()).logpdf(0))

    def right_logits(self, task: Task, targets: Sequence[Target]) -> Array:
        truth = pairs(targets)
        return ((truth - truth.mean()) / truth.std())[:, None]


class TestSurvival(TaskSuite):
    name = "survival"
    cells: ClassVar[Any] = [{"time": time, "event": event} for time, event in zip(MONTHS, DIED, strict=True)]

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        times, events = pairs(targets).T
        losses = []
        for i, (time, event) in enumerate(zip(times, events, strict=True)):
            at_risk = sum(math.exp(logits[j, 0]) for j, other in enumerate(times) if other >= time)
            losses.append(event * (math.log(at_risk) - logits[i, 0]))
        return np.array(losses)

    def right_logits(self, task: Task, targets: Sequence[Target]) -> Array:
        return -pairs(targets)[:, :1]


class TestDiscreteSurvival(TestSurvival):
    name = "discrete_survival"
    params: ClassVar[Any] = {"bins": 3}

    def expected_losses(self, task: Task, logits: Array, targets: Sequence[Target]) -> Array:
        assert isinstance(task, DiscreteSurvival)
        losses = []
        for row, (time, event) in zip(logits, pairs(targets), strict=True):
            hazards = [1 / (1 + math.exp(-v)) for v in row]
            interval = sum(time >= limit for limit in task.limits)
            survived = math.prod(1 - h for h in hazards[:interval])
            likelihood = survived * (hazards[interval] if event else 1 - hazards[interval])
            losses.append(-math.log(likelihood))
        return np.array(losses)

    def right_logits(self, task: Task, targets: Sequence[Target]) -> Array:
        """The hazard of every interval falls with the time."""
        return np.repeat(10 / pairs(targets)[:, :1] - 2, 3, axis=1)


SUITES = {suite.name for suite in TaskSuite.__subclasses__()} | {"detection", "discrete_survival"}


def test_every_task_has_a_suite() -> None:
    assert set(TASKS.own) == SUITES


def broken(**changes: Any) -> TaskSuite:
    """Return the suite of a regression whose task differs in these methods."""
    task = type("Broken", (Regression,), changes)

    class Suite(TestRegression):
        def task(self) -> Task:
            good = super().task()
            assert isinstance(good, Regression)
            return task(mean=good.mean, std=good.std)

    return Suite()


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (
            "test_the_loss_equals_an_independent_formula",
            {"losses": lambda self, logits, targets, form: (logits[:, 0] - targets).square()},
        ),
        (
            "test_the_gradient_equals_that_of_the_formula",
            {
                "loss": lambda self, logits, targets, form: (
                    self.losses(logits.detach(), targets, form).mean() + logits.sum()
                )
            },
        ),
        (
            "test_gradients_of_extreme_logits_are_finite",
            {"losses": lambda self, logits, targets, form: logits[:, 0].abs().sqrt()},
        ),
        (
            "test_the_merit_is_largest_for_right_predictions",
            {
                "measures": lambda self, predictions, targets: {
                    "r2": -Regression().measures(predictions, targets)["r2"]
                }
            },
        ),
        (
            "test_strata_belong_to_slides_and_not_to_their_order",
            {"strata": lambda self, t: list(range(len(t)))},
        ),
        ("test_targets_that_teach_nothing_are_named", {"lacking": lambda self, targets: ""}),
        ("test_it_is_registered", {}),
        (
            "test_predictions_have_the_shape_that_the_reading_says",
            {"predict": lambda self, logits: logits[:, 0]},
        ),
        ("test_labels_are_encoded_and_read_back", {"encode": lambda self, cells: 1 + float(cells["value"])}),
        ("test_empty_cells_are_no_label", {"encode": lambda self, cells: float(cells["value"] or 0)}),
    ],
)
def test_the_suite_refuses_a_wrong_task(check: str, changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        getattr(broken(**changes), check)()
