"""The suite of every task. Subclass `TaskSuite`, say what is independent of the code, and pytest runs it.

Testing a task takes four statements: rows of a label table, the loss in other words, and logits that are
right.
"""

import math
import pickle
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.contracts.labels import Target, TaskKind
from wsi_mil.io.json import json_line, parse_json
from wsi_mil.tasks import Task, TaskLoss, TaskSpec, build_task, task_from_values, task_values
from wsi_mil.tasks.base import Cells, ClassLoss
from wsi_mil.tasks.names import TASKS, task_name

STEP = 1e-5
"""Half the distance of the two points of a numerical derivative, in float64."""


class TaskSuite:
    """What a task must do.

    name: under which it is registered. cells: rows of a label table, all with a label, at least eight.
    class_names, params: the settings, where the task needs any. form: the loss that a method asks for.
    """

    name: ClassVar[str]
    cells: ClassVar[Sequence[Cells]]
    class_names: ClassVar[tuple[str, ...] | None] = None
    params: ClassVar[dict[str, object]] = {}
    form: ClassVar[ClassLoss] = "softmax"

    @abstractmethod
    def expected_losses(
        self, task: Task, logits: NDArray[np.float64], targets: Sequence[Target]
    ) -> NDArray[np.float64]:
        """Return the loss (B,) of logits (B, C) by a formula or a library that the task does not use."""

    @abstractmethod
    def right_logits(self, task: Task, targets: Sequence[Target]) -> NDArray[np.float64]:
        """Return logits (B, C) whose predictions are as good as they can be."""

    def task(self) -> Task:
        """Return the task of the table, fitted to all its rows."""
        spec = TaskSpec(kind=self.name, params=dict(self.params))
        task = build_task(spec, list(self.cells), self.class_names)
        return task.fitted([self.encoded(task, row) for row in self.cells])

    @staticmethod
    def encoded(task: Task, row: Cells) -> Target:
        target = task.encode(row)
        assert target is not None, f"{row} has a label"
        return target

    def targets(self, task: Task) -> list[Target]:
        return [self.encoded(task, row) for row in self.cells]

    def logits(self, task: Task, scale: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        outputs = task.n_outputs(1, "auto")
        return scale * torch.randn(len(self.cells), outputs, generator=generator, dtype=torch.float64)

    def test_it_is_registered(self) -> None:
        task = self.task()
        assert self.name in TASKS
        assert task_name(task) == self.name
        assert task.kind in get_args(TaskKind)
        assert task.reading in ("probability", "value", "risk")

    def test_labels_are_encoded_and_read_back(self) -> None:
        task = self.task()
        assert not task.problems(list(self.cells))
        for row in self.cells:
            target, written = self.encoded(task, row), [row[name] for name in task.columns]
            found = target if isinstance(target, tuple) else (target,)
            assert len(found) == len(written)
            for number, text in zip(found, written, strict=True):
                shown = task.text(number)
                assert shown == text or float(shown) == float(text)

    def test_empty_cells_are_no_label(self) -> None:
        task = self.task()
        assert task.encode(dict.fromkeys(task.columns, "")) is None

    def test_the_loss_equals_an_independent_formula(self) -> None:
        task = self.task()
        targets, logits = self.targets(task), self.logits(task, 2.0)
        expected = torch.from_numpy(self.expected_losses(task, logits.numpy(), targets))
        found = task.losses(logits, torch.tensor(targets), self.form)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
        mean = TaskLoss(task, self.form)(logits, torch.tensor(targets))
        torch.testing.assert_close(mean, expected.mean(), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(TaskLoss(task, self.form).each(logits, torch.tensor(targets)), found)

    def test_the_gradient_equals_that_of_the_formula(self) -> None:
        """The derivative of the independent formula, taken numerically, in every entry of the logits."""
        task = self.task()
        targets, logits = self.targets(task), self.logits(task).requires_grad_()
        task.loss(logits, torch.tensor(targets), self.form).backward()
        plain = logits.detach().numpy()
        expected = np.empty_like(plain)
        for place in np.ndindex(*plain.shape):
            sides = []
            for step in (STEP, -STEP):
                moved = plain.copy()
                moved[place] += step
                sides.append(self.expected_losses(task, moved, targets).mean())
            expected[place] = (sides[0] - sides[1]) / (2 * STEP)
        assert logits.grad is not None
        torch.testing.assert_close(logits.grad, torch.from_numpy(expected), rtol=1e-4, atol=1e-7)

    def test_gradients_of_extreme_logits_are_finite(self) -> None:
        task = self.task()
        for scale in (0.0, 100.0):
            logits = self.logits(task, scale).float().requires_grad_()
            loss = task.loss(logits, torch.tensor(self.targets(task)), self.form)
            loss.backward()
            assert torch.isfinite(loss)
            assert logits.grad is not None
            assert torch.isfinite(logits.grad).all()

    def test_predictions_have_the_shape_that_the_reading_says(self) -> None:
        task = self.task()
        found = task.predict(self.logits(task))
        if task.reading == "probability":
            assert found.shape == (len(self.cells), len(task.class_names))
            assert (found >= 0).all()
            torch.testing.assert_close(found.sum(1), torch.ones(len(found), dtype=found.dtype))
        else:
            assert found.shape == (len(self.cells), 1)
            assert torch.isfinite(found).all()

    def test_the_merit_is_largest_for_right_predictions(self) -> None:
        task = self.task()
        targets = self.targets(task)
        right = torch.from_numpy(self.right_logits(task, targets))
        merits = []
        for logits in (right, self.logits(task), -right):
            found = task.measures(task.predict(logits), targets)
            assert next(iter(found)) == task.merit
            merits.append(found[task.merit])
        assert merits[0] > merits[1] > merits[2]
        losses = [float(task.loss(logits, torch.tensor(targets), self.form)) for logits in (right, -right)]
        assert losses[0] < losses[1]

    def test_strata_belong_to_slides_and_not_to_their_order(self) -> None:
        task = self.task()
        targets = self.targets(task)
        strata = task.strata(targets)
        assert len(strata) == len(targets)
        assert len(set(strata)) > 1
        assert task.strata(targets[::-1]) == strata[::-1]

    def test_targets_that_teach_nothing_are_named(self) -> None:
        task = self.task()
        targets = self.targets(task)
        assert task.lacking(targets) == ""
        same: Target = (3.0, 0.0) if isinstance(targets[0], tuple) else targets[0]
        assert task.lacking([same] * 4)

    def test_it_survives_a_pickle_and_a_file(self) -> None:
        task = self.task()
        assert pickle.loads(pickle.dumps(task)) == task
        again = task_from_values(parse_json(json_line(task_values(task))))
        assert again == task
        assert all(getattr(again, f.name) == getattr(task, f.name) for f in fields(task))
        assert not math.isnan(hash(task))
