"""Class losses and probabilities: the mean form, the clamp, and both shapes of logits, worked by hand."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from wsi_mil.tasks.base import ClassLoss
from wsi_mil.tasks.losses import class_losses, class_probabilities

BINARY = torch.tensor([1, 0, 1])
CLASSES = torch.tensor([2, 0, 1, 1])


def logits(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("form", get_args(ClassLoss))
@pytest.mark.parametrize("columns", [1, 3])
def test_one_loss_for_each_row_whose_mean_is_the_mean_form(form: ClassLoss, columns: int) -> None:
    labels = BINARY if columns == 1 else CLASSES
    rows = class_losses(logits(len(labels), columns), labels, form)
    assert rows.shape == labels.shape
    mean = class_losses(logits(len(labels), columns), labels, form, "mean")
    assert mean.shape == ()
    torch.testing.assert_close(mean, rows.mean())


@pytest.mark.parametrize("columns", [1, 3])
def test_one_class_against_the_rest_is_averaged_over_the_classes_of_each_row(columns: int) -> None:
    labels = BINARY if columns == 1 else CLASSES
    found = class_losses(logits(len(labels), columns), labels, "one_vs_rest")
    for row, label, loss in zip(logits(len(labels), columns).tolist(), labels.tolist(), found, strict=True):
        truth = [label] if columns == 1 else [int(label == k) for k in range(columns)]
        terms = [math.log1p(math.exp(-v if t else v)) for v, t in zip(row, truth, strict=True)]
        assert float(loss) == pytest.approx(sum(terms) / columns)


@pytest.mark.parametrize(("logit", "label", "expected"), [(40.0, 0, 1e-5), (-40.0, 1, 1e-5)])
def test_the_clamp_bounds_a_confident_mistake(logit: float, label: int, expected: float) -> None:
    found = class_losses(torch.tensor([[logit]], dtype=torch.float64), torch.tensor([label]), "clamped")
    assert float(found) == pytest.approx(-math.log(expected), rel=1e-6)


@pytest.mark.parametrize("logit", [40.0, -40.0])
def test_outside_the_clamp_there_is_no_gradient(logit: float) -> None:
    row = torch.tensor([[logit]], requires_grad=True)
    loss = class_losses(row, torch.tensor([int(logit > 0)]), "clamped", "mean")
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e-5, rel=0.01)
    assert row.grad is not None
    assert float(row.grad) == 0


def test_half_precision_does_not_lose_the_clamp() -> None:
    found = class_losses(torch.tensor([[12.0]], dtype=torch.float16), torch.tensor([0]), "clamped")
    assert math.isfinite(float(found))
    assert float(found) == pytest.approx(-math.log(1e-5), rel=0.01)


def test_probabilities_of_one_logit_are_those_of_both_classes() -> None:
    found = class_probabilities(torch.tensor([[math.log(3)], [0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75], [0.5, 0.5]]))


def test_probabilities_of_several_logits_are_their_softmax() -> None:
    found = class_probabilities(torch.tensor([[0.0, math.log(2), math.log(5)]]))
    torch.testing.assert_close(found, torch.tensor([[1, 2, 5]]) / 8)
