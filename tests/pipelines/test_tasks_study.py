"""The study of tasks: bags whose burden is the truth, and a small run from end to end."""

import numpy as np
import pytest

from pipelines import tasks_study
from wsi_mil.tasks import task_class


def test_labels_follow_from_the_burden_alone() -> None:
    bags, burdens = tasks_study.draw("survival", "test", 0)
    times, events = np.array([bag.label for bag in bags]).T
    assert 0.5 < events.mean() < 0.8
    low, high = np.array(burdens) < 0.15, np.array(burdens) > 0.35
    assert np.median(times[high]) < np.median(times[low])
    shifted = [float((bag.features[:, :2].mean(1) > 1).float().mean()) for bag in bags]
    assert np.corrcoef(shifted, burdens)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("name", "metric", "least"), [("regression", "r2", 0.85), ("survival", "concordance", 0.7)]
)
def test_the_burden_is_the_best_prediction(
    name: str, metric: str, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_study, "SIZES", {"train": 40, "val": 20, "test": 60})
    monkeypatch.setattr(tasks_study, "SPEC", tasks_study.SPEC.model_copy(update={"epochs": 4}))
    best = tasks_study.truth(task_class(name)(), 0)[metric]
    found = tasks_study.train_and_measure("mean_pool", task_class(name)(), 0)
    assert best > least
    assert found[metric] < best
    (*_, last) = tasks_study.rows((name,), ("max_pool",), 1)
    assert (last["task"], last["method"]) == (name, "max_pool")
