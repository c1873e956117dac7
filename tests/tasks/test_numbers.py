"""Regression, survival and ordinal: losses by hand and against lifelines, and trainings that learn them."""

import math
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index as lifelines_concordance

from wsi_mil.aggregators import build_aggregator, outputs_for
from wsi_mil.aggregators.catalog import supported_tasks
from wsi_mil.aggregators.names import METHODS
from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.labels import Target
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import Task
from wsi_mil.tasks.kinds.discrete_survival import DiscreteSurvival
from wsi_mil.tasks.kinds.ordinal import Ordinal
from wsi_mil.tasks.kinds.regression import Regression
from wsi_mil.tasks.kinds.survival import Survival
from wsi_mil.tasks.measures import concordance_index
from wsi_mil.training import TrainSpec, fit


@pytest.mark.parametrize("seed", range(8))
def test_concordance_equals_lifelines(seed: int) -> None:
    """With ties in time and in risk, and with censoring at the time of an event."""
    rng = np.random.default_rng(seed)
    times, events = rng.integers(1, 9, 40).astype(float), rng.integers(0, 2, 40)
    risks = rng.integers(0, 6, 40).astype(float)
    expected = lifelines_concordance(times, -risks, events)
    assert concordance_index(times.tolist(), events.tolist(), risks.tolist()) == pytest.approx(expected)


def test_concordance_without_a_known_pair_is_undefined() -> None:
    assert math.isnan(concordance_index([1, 2], [0, 0], [1, 2]))


def test_cox_by_hand() -> None:
    """Times 1, 2, 3; the second is censored: log(e^a + e^b + e^c) - a, and log(e^c) - c = 0."""
    a, b, c = 0.3, -0.7, 1.1
    targets = torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    found = Survival().losses(torch.tensor([[a], [b], [c]]), targets, "softmax")
    expected = [math.log(math.exp(a) + math.exp(b) + math.exp(c)) - a, 0.0, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_cox_equals_the_partial_likelihood_of_lifelines() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60)})
    frame["time"] = rng.exponential(np.exp(-frame["x"])) + 0.01
    frame["event"] = rng.integers(0, 2, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines calls pandas in a form that pandas 4 will refuse
        fitter = CoxPHFitter().fit(frame, "time", "event")
    risk = torch.tensor((frame["x"] * fitter.params_["x"]).to_numpy())[:, None]
    targets = torch.tensor(frame[["time", "event"]].to_numpy())
    found = float(Survival().losses(risk, targets, "softmax").sum())
    assert found == pytest.approx(-fitter.log_likelihood_, rel=1e-6)


def test_discrete_survival_by_hand() -> None:
    task = DiscreteSurvival(bins=3, limits=(10.0, 20.0))
    logits = torch.tensor([[0.2, -0.5, 0.9]]).expand(2, 3)
    h = [1 / (1 + math.exp(-v)) for v in (0.2, -0.5, 0.9)]
    found = task.losses(logits, torch.tensor([[15.0, 1.0], [15.0, 0.0]]), "softmax")
    event = -math.log(1 - h[0]) - math.log(h[1])
    censored = -math.log(1 - h[0]) - math.log(1 - h[1])
    torch.testing.assert_close(found, torch.tensor([event, censored]))
    s = np.cumprod([1 - v for v in h])
    assert float(task.predict(logits)[0]) == pytest.approx(-s.sum())


def test_ordinal_by_hand() -> None:
    task = Ordinal.of(3)
    logits = torch.tensor([[1.0, -2.0]])
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(2))
    expected = -(math.log(p) + math.log(1 - q)) / 2
    assert float(task.losses(logits, torch.tensor([1]), "softmax")) == pytest.approx(expected)
    torch.testing.assert_close(task.predict(logits), torch.tensor([[1 - p, p - q, q]]))
    crossed = task.predict(torch.tensor([[-2.0, 1.0]]))
    assert (crossed >= 0).all()
    assert float(crossed.sum()) == pytest.approx(1)


def test_cells_that_are_no_target_are_refused() -> None:
    assert Regression().encode({"value": "2.5"}) == 2.5
    assert Survival().encode({"time": "", "event": ""}) is None
    with pytest.raises(ValueError, match="expected a number, got 'x'"):
        Regression().encode({"value": "x"})
    for time, event in (("0", "1"), ("3", "2"), ("", "1"), ("3", "")):
        with pytest.raises(ValueError, match="expected a positive time and event 1 or 0"):
            Survival().encode({"time": time, "event": event})


QUICK = ("focus_mil", "abmil_gated")
TASKS_OF_NUMBERS: list[tuple[Task, float]] = [
    (Regression(), 0.5),
    (Survival(), 0.8),
    (DiscreteSurvival(), 0.8),
    (Ordinal.of(3), 0.5),
]


def bags(task: Task, count: int = 48) -> list[Bag]:
    """Bags whose first feature is shifted by a burden between 0 and 3, which decides the label."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for i in range(count):
        burden = float(3 * torch.rand((), generator=generator))
        x = torch.randn(8, 6, generator=generator)
        x[:, 0] += 2 * burden
        labels: dict[str, Target] = {
            "regression": 100 + 10 * burden,
            "ordinal": int(burden),
            "survival": (10 * math.exp(-burden), float(i % 4 > 0)),
        }
        found.append(Bag(f"s{i}", x, labels[task.kind]))
    return found


CASES = [
    pytest.param(
        name, *case, marks=() if name in QUICK else pytest.mark.slow, id=f"{name}-{type(case[0]).__name__}"
    )
    for name, case in product(METHODS, TASKS_OF_NUMBERS)
]


@pytest.mark.parametrize(("name", "task", "expected"), CASES)
def test_every_method_learns_every_task_that_it_supports(name: str, task: Task, expected: float) -> None:
    if task.kind not in supported_tasks(name):
        with pytest.raises(ConfigError, match=f"does not support the task {task.kind}"):
            outputs_for(name, task)
        return
    heavy = name == "transmil"  # ten times the time of the others: fewer bags and epochs
    small = {"hidden": 16, "heads": 2, "landmarks": 4} if heavy else {}
    model = build_aggregator(name, 6, outputs_for(name, task), 0, small, task)
    spec = TrainSpec(epochs=10 if heavy else 25, lr=3e-3, bags_per_batch=12)
    data = bags(task, 24 if heavy else 48)
    result = fit(model, data, data, spec, task=task)
    measure = max(
        row[next(key for key in row if key.startswith("val_") and key != "val_loss")]
        for row in result.history
    )
    assert measure > expected


@pytest.mark.parametrize("task", [Regression(), Survival()], ids=["regression", "survival"])
def test_two_passes_give_the_gradients_of_one(task: Task) -> None:
    spec = TrainSpec(epochs=2, lr=1e-3, bags_per_batch=8, chunk_rows=3)
    ends = []
    for two_pass in ("always", "never"):
        model = build_aggregator("mi_net", 6, 1, 0, {}, task)
        result = fit(
            model, bags(task, 16), bags(task, 16), spec.model_copy(update={"two_pass": two_pass}), task=task
        )
        ends.append(result.history[-1])
    assert ends[0] == pytest.approx(ends[1], rel=1e-4, nan_ok=True)  # val_unexplained of tasks not judged


def test_cox_needs_several_slides_a_step() -> None:
    with pytest.raises(ConfigError, match="compares the slides of a step"):
        fit(
            build_aggregator("mi_net", 6, 1, 0, {}),
            bags(Survival()),
            bags(Survival()),
            TrainSpec(bags_per_batch=1),
            task=Survival(),
        )
