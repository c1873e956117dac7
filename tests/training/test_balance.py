"""Class weights and orders against scikit-learn and torch, and what the training loop makes of them."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from wsi_mil.aggregators import build_aggregator
from wsi_mil.contracts.bags import Bag
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import Detection, TaskLoss
from wsi_mil.tasks.kinds.regression import Regression
from wsi_mil.training import TrainSpec, fit
from wsi_mil.training.balance import balanced_order, class_weights, loss_weights

LABELS = [0] * 9 + [1] * 3 + [2] * 2


def bags(labels: list[int]) -> list[Bag]:
    rng = np.random.default_rng(0)
    return [
        Bag(f"s{number}", torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32)), label)
        for number, label in enumerate(labels)
    ]


def test_the_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(LABELS))
    assert class_weights(LABELS, 3) == pytest.approx(expected)
    assert class_weights([0, 0, 2], 3) == pytest.approx((0.75, 0.0, 1.5))


@pytest.mark.parametrize("form", ["softmax", "one_vs_rest"])
def test_weights_multiply_the_loss_of_each_slide(form: str) -> None:
    logits, targets = torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 0, 0])
    weights = torch.tensor([0.75, 1.5])
    loss = TaskLoss(Detection.of(2), form, tuple(weights.tolist()))  # type: ignore[arg-type]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, 0], targets.float(), weight=weights[targets]
    )
    torch.testing.assert_close(loss(logits, targets), expected)


def test_classes_take_turns() -> None:
    for seed in range(5):
        order = balanced_order(LABELS, torch.Generator().manual_seed(seed))
        assert len(order) == len(LABELS)
        for start in range(0, 12, 3):
            assert sorted(LABELS[i] for i in order[start : start + 3]) == [0, 1, 2]
        counts = Counter(i for i in order if LABELS[i] == 2)
        assert max(counts.values()) - min(counts.values()) <= 1  # a class is used up before it begins again
        assert max(Counter(i for i in order if LABELS[i] == 0).values()) == 1


def test_the_loop_trains_on_the_weighted_loss_and_validates_without() -> None:
    train, val = bags([0, 0, 0, 0, 0, 1]), bags([0, 1])
    task = Detection.of(2)
    losses = {}
    for balance in ("none", "balanced"):
        model = build_aggregator("mean_pool", 4, 1, 0, {}, task)
        spec = TrainSpec(
            aggregator="mean_pool", epochs=1, lr=1e-12, weight_decay=0, class_weight=balance, precision="fp32"
        )
        losses[balance] = fit(model, train, val, spec, task=task).history[0]
    with torch.inference_mode():
        logits = torch.stack([model(_packed(bag)).bag_logits[0, 0] for bag in train])
    labels = torch.tensor([0.0] * 5 + [1.0])
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    weights = torch.tensor([0.6] * 5 + [3.0])
    assert losses["none"]["train_loss"] == pytest.approx(float(each.mean()), abs=1e-5)
    assert losses["balanced"]["train_loss"] == pytest.approx(float((weights * each).mean()), abs=1e-5)
    assert losses["balanced"]["val_loss"] == pytest.approx(losses["none"]["val_loss"], abs=1e-6)


def _packed(bag: Bag):  # type: ignore[no-untyped-def]
    from wsi_mil.contracts.bags import PackedBags

    return PackedBags.pack([bag])


def test_a_task_without_classes_has_nothing_to_balance() -> None:
    for key in ("class_weight", "sampler"):
        spec = TrainSpec.model_validate({key: "balanced"})
        with pytest.raises(ConfigError, match=rf"train\.{key}=balanced: the task regression has no classes"):
            loss_weights(spec, Regression(mean=0.0, std=1.0), [1.0, 2.0])
