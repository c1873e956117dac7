"""Tasks: losses against other code and against hand-worked cases, and what a task survives (a pickle, a
file)."""

import pickle
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import wsi_mil.tasks.kinds as kinds
from wsi_mil.aggregators import AGGREGATORS, outputs_for
from wsi_mil.errors import ConfigError, ModelError, TrustError
from wsi_mil.tasks import (
    TASKS,
    Detection,
    Task,
    TaskLoss,
    TaskSpec,
    build_task,
    task_class,
    task_from_values,
    task_values,
)
from wsi_mil.tasks.losses import class_losses


def test_class_losses_equal_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    one, three = torch.randn(6, 1, generator=generator), torch.randn(6, 3, generator=generator)
    binary, classes = torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(
        class_losses(three, classes, "softmax").mean(), F.cross_entropy(three, classes)
    )
    expected = F.binary_cross_entropy_with_logits(one[:, 0], binary.float())
    for form in ("softmax", "one_vs_rest", "clamped"):
        loss = TaskLoss(Detection.of(2), form)  # type: ignore[arg-type]
        torch.testing.assert_close(loss(one, binary), expected)
        torch.testing.assert_close(loss.each(one, binary).mean(), expected)
    against = F.binary_cross_entropy_with_logits(three, F.one_hot(classes).float())
    torch.testing.assert_close(class_losses(three, classes, "one_vs_rest").mean(), against)


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_a_task_survives_a_pickle_and_a_file(kind: str) -> None:
    task: Task = Detection(("normal", "tumour"))
    if kind != "detection":
        task = TASKS.load(kind)(task.class_names)
    assert pickle.loads(pickle.dumps(task)) == task
    values = task_values(task)
    assert values["kind"] == kind
    assert task_from_values({**values, "class_names": ["normal", "tumour"]}) == task


def test_a_model_file_names_no_code() -> None:
    with pytest.raises(ModelError, match="no installed package offers"):
        task_from_values({"kind": "os"})
    with pytest.raises(TrustError, match="add --trust os:system"):
        task_from_values({"kind": "os:system"})


def test_every_method_supports_detection() -> None:
    for name in AGGREGATORS:
        assert outputs_for(name, Detection.of(2)) in (1, 2)


def test_a_task_that_a_method_does_not_support_is_refused_by_name() -> None:
    class Number(Detection):
        kind = "regression"

    with pytest.raises(ConfigError, match="'clam_sb' does not support the task regression"):
        outputs_for("clam_sb", Number.of(2))
    assert outputs_for("abmil", Number.of(2)) == 1


def test_a_new_task_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is put into the folder is found, built from a configuration, and survives a file."""
    base = "from wsi_mil.tasks.kinds.regression import Regression\n"
    text = f"{base}\n\nclass Squared(Regression):\n    pass\n\n\nTASK = Squared\n"
    (tmp_path / "squared.py").write_text(text)
    (tmp_path / "no_task.py").write_text("TASK = dict\n")
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    task = build_task(TaskSpec(kind="squared")).fitted([1.0, 3.0])
    assert type(task).__name__ == "Squared"
    assert task_values(task)["kind"] == "squared"
    assert task_from_values(task_values(task)) == task
    with pytest.raises(ConfigError, match="'no_task' is no task"):
        build_task(TaskSpec(kind="no_task"))
    with pytest.raises(ConfigError, match="No task named 'regresion'"):
        build_task(TaskSpec(kind="regresion"))


def test_two_subtypes_have_two_outputs_and_no_sigmoid() -> None:
    pair = task_class("classification")(("luad", "lusc"))
    assert pair.n_outputs(1, "auto") == pair.n_outputs(1, "softmax") == 2
    with pytest.raises(ConfigError, match="classification has one output per class"):
        pair.n_outputs(1, "sigmoid")
