"""The warm-up of methods that take the maximum over instance logits, and whether a training has learned."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from wsi_mil.aggregators import build_aggregator
from wsi_mil.aggregators.instance_maximum import (
    SmoothMaximum,
    TopMean,
    pooling_in_use,
    set_pooling,
    takes_maximum,
)
from wsi_mil.aggregators.max_pooling import NOISE_ROWS, MaxPooling
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.errors import ConfigError
from wsi_mil.tasks import Task, TaskLoss, task_class
from wsi_mil.testing.aggregators import detection_loss
from wsi_mil.training import TrainSpec, fit
from wsi_mil.training.learning import (
    UNEXPLAINED,
    has_learned,
    learning_measures,
    unexplained_limit,
    unexplained_share,
)
from wsi_mil.training.two_pass import backward_in_two_passes
from wsi_mil.training.warm_up import pooling_of, warm_up_epochs

DIM = 20
LENGTHS = (700, 1, 9000)
METHODS: list[tuple[str, dict[str, Any], int]] = [
    ("mi_net", {"hidden": (16, 8)}, 1),
    ("mi_net", {"hidden": (16,)}, 3),
    ("focus_mil", {"kl_over": "selected"}, 1),
    ("focus_mil", {"kl_over": "all"}, 1),
    ("focus_mil", {"kl_over": "all"}, 3),
    ("focus_mil", {"variational": False}, 1),
]
POOLINGS = [SmoothMaximum(1.0), SmoothMaximum(8.0), TopMean(0.5), TopMean(1.0)]


def bags_of(lengths: tuple[int, ...] = LENGTHS) -> list[Bag]:
    generator = torch.Generator().manual_seed(0)
    return [Bag(f"s{i}", torch.randn(n, DIM, generator=generator), i % 2) for i, n in enumerate(lengths)]


def test_poolings_are_their_formulas() -> None:
    logits = torch.randn(12, 2, generator=torch.Generator().manual_seed(1)).double()
    parts = [logits[:5].numpy(), logits[5:6].numpy(), logits[6:].numpy()]
    for sharpness in (0.5, 1.0, 30.0):
        expected = [logsumexp(sharpness * part, axis=0, b=1 / len(part)) / sharpness for part in parts]
        np.testing.assert_allclose(SmoothMaximum(sharpness)(logits, [5, 1, 6]), np.stack(expected))
    for exponent, counts in ((1.0, (5, 1, 6)), (0.5, (2, 1, 2)), (0.0, (1, 1, 1))):
        expected = [np.sort(part, axis=0)[-k:].mean(0) for part, k in zip(parts, counts, strict=True)]
        np.testing.assert_allclose(TopMean(exponent)(logits, [5, 1, 6]), np.stack(expected))


@pytest.mark.parametrize(("name", "params", "outputs"), METHODS)
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("chunk_rows", [64, NOISE_ROWS, 100_000])
def test_two_passes_give_the_gradients_of_one(
    name: str, params: dict[str, Any], outputs: int, pooling: Any, chunk_rows: int
) -> None:
    bags = bags_of()
    models = []
    for _ in range(2):
        model = build_aggregator(name, DIM, outputs, 0, params)
        model.generator = torch.Generator().manual_seed(3)
        set_pooling(model, pooling)
        models.append(model)
    one, two = models
    assert isinstance(two, MaxPooling)
    packed = PackedBags.pack(bags)
    output = one(packed)
    torch.testing.assert_close(output.bag_logits, pooling(output.extras["instance_logits"], LENGTHS))
    terms = one.loss(output, packed.labels, detection_loss(one))
    torch.stack(list(terms.values())).sum().backward()
    found = backward_in_two_passes(two, bags, detection_loss(two), chunk_rows=chunk_rows)
    assert found.keys() == terms.keys()
    for key, term in terms.items():
        torch.testing.assert_close(found[key], term.detach(), rtol=1e-5, atol=1e-6)
    for (key, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        if a.grad is None:
            assert b.grad is None, key
        else:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
    assert one.generator is not None
    assert two.generator is not None
    assert torch.equal(one.generator.get_state(), two.generator.get_state())


@pytest.mark.parametrize("name", ["focus_mil", "mi_net", "causal_mil"])
def test_every_instance_has_gradient_in_the_warm_up_and_evaluation_takes_the_maximum(name: str) -> None:
    packed = PackedBags.pack(bags_of((30, 40)))
    for pooling, reached in ((SmoothMaximum(1.0), 70), (None, 2)):
        model = build_aggregator(name, DIM, 1, 0)
        set_pooling(model, pooling)
        output = model(packed)
        logits = output.extras["instance_logits"]
        logits.retain_grad()
        output.bag_logits.sum().backward()
        assert int((logits.grad != 0).sum()) == reached
        output = model.eval()(packed)
        expected = [part.max() for part in output.extras["instance_logits"].split([30, 40])]
        torch.testing.assert_close(output.bag_logits[:, 0], torch.stack(expected))


def spec(**values: Any) -> TrainSpec:
    return TrainSpec.model_validate({"epochs": 6, "lr": 1e-3, "two_pass": "never", **values})


def test_the_schedule() -> None:
    model = build_aggregator("mi_net", DIM, 1, 0)
    assert warm_up_epochs(spec(warm_up="smooth_max"), model) == 3
    assert warm_up_epochs(spec(warm_up="top_k", warm_up_share=0.9), model) == 5
    assert warm_up_epochs(spec(warm_up="none"), model) == 0
    assert [pooling_of(spec(warm_up="smooth_max"), e, 3) for e in range(4)] == [SmoothMaximum(1.0)] * 3 + [
        None
    ]
    annealed = [pooling_of(spec(warm_up="annealed_max"), e, 3) for e in range(3)]
    assert [p.sharpness for p in annealed if isinstance(p, SmoothMaximum)] == pytest.approx([1, 32**0.5, 32])
    assert [pooling_of(spec(warm_up="top_k"), e, 3) for e in range(3)] == [
        TopMean(1),
        TopMean(0.5),
        TopMean(0),
    ]


@pytest.mark.parametrize("select_by", ["val_auc", "val_loss", "last"])
@pytest.mark.parametrize("name", ["focus_mil", "mi_net", "causal_mil"])
def test_no_epoch_of_the_warm_up_is_kept(name: str, select_by: str) -> None:
    bags = bags_of((30, 40, 20, 25))
    model = build_aggregator(name, DIM, 1, 0)
    result = fit(model, bags, bags, spec(warm_up="smooth_max", warm_up_share=0.7, select_by=select_by))
    assert result.epoch in (5, 6)
    assert len(result.history) == 6
    assert pooling_in_use(model.train()) is None
    stopped = fit(build_aggregator(name, DIM, 1, 0), bags, bags, spec(warm_up="smooth_max"), stop_after=2)
    assert stopped.epoch == len(stopped.history) == 2


def test_patience_counts_after_the_warm_up() -> None:
    """Features without information: the first epoch stays the best."""
    bags = [Bag(f"s{i}", torch.ones(4, DIM), i % 2) for i in range(4)]
    values: dict[str, Any] = {"epochs": 20, "patience": 2, "select_by": "val_auc"}
    plain = fit(build_aggregator("mi_net", DIM, 1, 0), bags, bags, spec(warm_up="none", **values))
    warm = fit(build_aggregator("mi_net", DIM, 1, 0), bags, bags, spec(warm_up="smooth_max", **values))
    assert len(warm.history) >= 12 > len(plain.history)


def test_a_warm_up_is_refused_for_methods_without_such_a_maximum() -> None:
    bags = bags_of((3, 4))
    for name in ("abmil", "max_pool"):
        model = build_aggregator(name, DIM, 1, 0)
        assert not takes_maximum(model)
        with pytest.raises(ConfigError, match=r"train\.warm_up=top_k: \w+ takes no maximum"):
            fit(model, bags, bags, spec(warm_up="top_k"))
        assert warm_up_epochs(spec(warm_up="auto"), model) == 0


@pytest.mark.parametrize("name", ["focus_mil", "mi_net"])
def test_a_resumed_warm_up_ends_as_one_without_interruption(name: str, tmp_path: Any) -> None:
    bags, values = bags_of((30, 40, 20, 25)), spec(warm_up="annealed_max", checkpoint_every=1)
    whole = fit(build_aggregator(name, DIM, 1, 0), bags, bags, values)
    fit(build_aggregator(name, DIM, 1, 0), bags, bags, values, folder=tmp_path, identity="a", stop_after=2)
    resumed = fit(build_aggregator(name, DIM, 1, 0), bags, bags, values, folder=tmp_path, identity="a")
    assert resumed.history == whole.history
    assert resumed.epoch == whole.epoch


def loss_of(kind: str, form: Any = "softmax", classes: int = 2) -> TaskLoss:
    task: Task = (
        task_class(kind)(tuple("abcdef"[:classes])) if kind == "classification" else task_class(kind)()
    )
    return TaskLoss(task, form)


def entropy(*counts: int) -> float:
    p = np.array(counts) / sum(counts)
    return float(-(p * np.log(p)).sum())


def test_the_share_is_that_of_a_fitted_logistic_regression() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(size=40) * 7 + 30
    targets = (rng.random(40) < 1 / (1 + np.exp(-(logits - 30) / 5))).astype(int)
    model = LogisticRegression(C=np.inf).fit(logits[:, None], targets)
    expected = log_loss(targets, model.predict_proba(logits[:, None])) / entropy(*np.bincount(targets))
    for form in ("softmax", "one_vs_rest"):
        found = unexplained_share(
            loss_of("detection", form), torch.from_numpy(logits[:, None]), targets.tolist()
        )
        assert found == pytest.approx(expected, abs=1e-5)
        worse = unexplained_share(loss_of("detection"), torch.from_numpy(-logits[:, None]), targets.tolist())
        assert worse == 1.0


def test_the_share_of_several_classes() -> None:
    three = [0, 1, 2] * 10
    for form in ("softmax", "one_vs_rest"):
        loss = loss_of("classification", form, 3)
        assert unexplained_share(loss, torch.eye(3)[three] * 5, three) < 0.01
        assert unexplained_share(loss, torch.zeros(30, 3), three) == pytest.approx(1)


def test_tasks_whose_labels_are_noisy_are_not_judged() -> None:
    values, times = [0.5, 1.5, 2.5], [(1.0, 1.0), (2.0, 0.0), (3.0, 1.0)]
    assert math.isnan(unexplained_share(loss_of("regression"), torch.zeros(3, 1), values))
    assert math.isnan(unexplained_share(loss_of("survival"), torch.zeros(3, 1), times))


def test_what_is_not_known_is_not_judged() -> None:
    assert math.isnan(unexplained_share(loss_of("detection"), torch.zeros(2, 1), [1, 1]))
    assert [has_learned({UNEXPLAINED: share}) for share in (0.74, 0.75, math.nan)] == [True, False, None]
    assert has_learned({}) is None


def fraction_learned(slides: int, draws: int, shift: float) -> float:
    """Return how often random outputs, `shift` larger for tumour slides, count as learned."""
    rng = torch.Generator().manual_seed(slides)
    targets = [0, 1] * (slides // 2)
    moved = shift * torch.tensor(targets)[:, None]
    found = []
    for _ in range(draws):
        outputs = torch.randn(slides, 1, generator=rng) + moved
        found.append(has_learned(learning_measures(loss_of("detection"), outputs, targets)))
    return found.count(True) / draws


def test_the_limit_rises_with_the_number_of_slides() -> None:
    """By chance 2 of 1,000 reach it; a weak signal (AUC .71) is seen if there are enough slides."""
    assert unexplained_limit([0, 1] * 4) == unexplained_limit([0, 1] * 12) == pytest.approx(0.75)
    of_ten_in_hundred = 1 - 8.318 / (2 * 100 * 0.3251)
    assert unexplained_limit([0] * 90 + [1] * 10) == pytest.approx(of_ten_in_hundred, abs=1e-3)
    assert math.isnan(unexplained_limit([1, 1]))
    for slides in (24, 200):
        assert fraction_learned(slides, 300, shift=0.0) <= 0.01
    assert fraction_learned(24, 60, shift=0.8) < 0.5
    assert fraction_learned(200, 60, shift=0.8) > 0.95


def test_what_learns_and_what_cannot_learn() -> None:
    rng = torch.Generator().manual_seed(5)
    noise = [Bag(f"s{i}", torch.randn(20, 4, generator=rng), i % 2) for i in range(60)]
    signal = [Bag(b.slide_id, b.features + 4.0 * b.label, b.label) for b in noise]
    for bags, learned in ((noise, False), (signal, True)):
        values = spec(epochs=15, lr=3e-3, select_by="val_loss", warm_up="none")
        result = fit(build_aggregator("mi_net", 4, 1, 0), bags[:30], bags[30:], values)
        assert result.learned is learned
