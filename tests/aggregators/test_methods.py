"""What single methods promise beyond the suite and the reference files."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsi_mil.aggregators import AGGREGATORS, build_aggregator, outputs_for
from wsi_mil.aggregators.catalog import parameters_of
from wsi_mil.aggregators.clam import smooth_svm
from wsi_mil.aggregators.methods.clam_sb import CLAMSB
from wsi_mil.aggregators.methods.dtfd import DTFD
from wsi_mil.aggregators.methods.loss_attention import LossAttention
from wsi_mil.aggregators.methods.transmil import TransMIL, tile_scores
from wsi_mil.aggregators.wrappers.counterfactual import Counterfactual
from wsi_mil.aggregators.wrappers.guided import Guided
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.errors import ConfigError, DataError, ModelError
from wsi_mil.testing.aggregators import DIM, detection_loss, make_bags
from wsi_mil.training import TrainSpec, fit


def loss_attention(**params: Any) -> LossAttention:
    model = build_aggregator("loss_attention", DIM, 2, 0, {"hidden": (8,), **params})
    assert isinstance(model, LossAttention)
    return model


def test_loss_attention_pools_logits_as_it_pools_embeddings() -> None:
    """Bag level and instance level are one: the weights sum to 1 and the classifier is linear."""
    packed = PackedBags.pack(make_bags((5, 1, 9)))
    output = loss_attention().eval()(packed)
    logits, weights = output.extras["instance_logits"], output.instance_scores[:, None]
    for bag, (a, b) in enumerate([(0, 5), (5, 6), (6, 15)]):
        torch.testing.assert_close((weights[a:b] * logits[a:b]).sum(0), output.bag_logits[bag])


def test_one_logit_loss_attention_is_two_logits_with_the_first_at_zero() -> None:
    one = LossAttention(DIM, 1, (8,))
    two = LossAttention(DIM, 2, (8,))
    state = {
        **one.state_dict(),
        "classifier.weight": torch.cat([torch.zeros(1, 8), one.classifier.weight.detach()]),
        "classifier.bias": torch.cat([torch.zeros(1), one.classifier.bias.detach()]),
    }
    two.load_state_dict(state)
    packed = PackedBags.pack(make_bags((5, 3)))
    a, b = one(packed), two(packed)
    torch.testing.assert_close(a.instance_scores, b.instance_scores)
    for name, term in one.loss(a, packed.labels, detection_loss(one)).items():
        torch.testing.assert_close(term, two.loss(b, packed.labels, detection_loss(two))[name])


def test_consistency_follows_the_moving_mean_by_hand() -> None:
    """ema 0.6 with bias correction, one update per epoch, omega ramped; a first epoch has no past."""
    model = loss_attention(omega=400.0, ramp_epochs=10, ema=0.6).train()
    packed = PackedBags.pack(make_bags((4, 6)))
    labels, moving = packed.labels, [torch.zeros(4), torch.zeros(6)]
    for epoch in range(4):
        model.start_epoch(epoch)
        with torch.no_grad():
            model.classifier.bias.add_(torch.tensor([0.3, -0.2]))  # the weights move from epoch to epoch
            model.classifier.weight.mul_(1.3)
        output = model(packed)
        found = float(model.loss(output, labels, detection_loss(model))["consistency"].detach())
        weights = output.instance_scores.detach().split(packed.lengths)
        expected = 0.0
        if epoch > 0:
            targets = [m / (1 - 0.6**epoch) for m in moving]
            drift = sum(float((w - t).square().sum()) for w, t in zip(weights, targets, strict=True)) / 2
            expected = 400 * math.exp(-5 * (1 - epoch / 10) ** 2) * drift
        assert found == pytest.approx(expected, rel=1e-4)
        assert epoch == 0 or found > 0
        moving = [0.6 * m + 0.4 * w for m, w in zip(moving, weights, strict=True)]
    assert "consistency" not in model.eval().loss(model(packed), labels, detection_loss(model))


def test_consistency_survives_an_interruption(tmp_path: Path) -> None:
    """The moving means are part of the checkpoint: a resumed training gives the very numbers."""
    bags = make_bags((6, 9, 4, 7))
    spec = TrainSpec(epochs=8, lr=0.01, checkpoint_every=3, bags_per_batch=2)
    params = {"omega": 50.0, "ramp_epochs": 4}
    whole = fit(loss_attention(**params), bags, bags, spec)
    fit(loss_attention(**params), bags, bags, spec, folder=tmp_path, identity="x", stop_after=5)
    resumed = fit(loss_attention(**params), bags, bags, spec, folder=tmp_path, identity="x")
    assert resumed.history == whole.history
    assert any(row["train_consistency"] > 0 for row in whole.history[1:])
    without = fit(loss_attention(**{**params, "omega": 0.0}), bags, bags, spec)
    assert without.history[-1]["train_bag"] != whole.history[-1]["train_bag"]


@pytest.mark.parametrize("kind", ["random", "uniform", "reversed", "shuffled"])
def test_counterfactual_weights(kind: str) -> None:
    model = build_aggregator("counterfactual(abmil)", DIM, 1, 0, {"hidden": (8,), "kind": kind})
    assert isinstance(model, Counterfactual)
    model.train()
    model.generator = torch.Generator().manual_seed(0)
    real = torch.tensor([[0.5], [0.3], [0.2]])
    found = model.replaced(real)
    assert float(found.sum()) == pytest.approx(1)
    if kind == "uniform":
        torch.testing.assert_close(found, torch.full((3, 1), 1 / 3))
    if kind == "reversed":
        torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 0.2, 0.3]) / 0.5)
    if kind == "shuffled":
        assert sorted(found[:, 0].tolist()) == sorted(real[:, 0].tolist())
    if kind == "random":
        many = torch.cat([model.replaced(real) for _ in range(2000)], 1)
        torch.testing.assert_close(many.mean(1), torch.full((3,), 1 / 3), atol=0.01, rtol=0)
        assert float(many.std(1).min()) > 0.1
    torch.testing.assert_close(model.eval().replaced(real), torch.full((3, 1), 1 / 3))
    torch.testing.assert_close(
        model.train().replaced(torch.ones(1, 2)), torch.ones(1, 2)
    )  # nothing else is possible


def test_the_effect_is_what_the_weights_change() -> None:
    """In evaluation: logits of the method minus the logits of its mean-pooled embedding; and that trains the
    method."""
    model = build_aggregator(
        "counterfactual(abmil)", DIM, 1, 0, {"hidden": (8,), "effect_weight": 0.5}
    ).eval()
    packed = PackedBags.pack(make_bags((5, 7)))
    output = model(packed)
    base = model.get_submodule("base")
    h = output.extras["h"]
    mean = torch.stack([h[:5].mean(0), h[5:].mean(0)])
    torch.testing.assert_close(output.extras["effect"], output.bag_logits - base.classifier(mean))  # type: ignore[operator]
    torch.testing.assert_close(output.bag_logits, base(packed).bag_logits)
    terms = model.loss(output, packed.labels, detection_loss(model))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        output.extras["effect"][:, 0], packed.labels.float()
    )
    torch.testing.assert_close(terms["effect"], 0.5 * expected)
    own = torch.nn.functional.binary_cross_entropy_with_logits(output.bag_logits[:, 0], packed.labels.float())
    torch.testing.assert_close(terms["bag"], own / 3)  # 1/3 : 1 in the code of the paper


def guided(**params: Any) -> Guided:
    model = build_aggregator("guided(abmil)", DIM, 1, 0, {"hidden": (8,), **params})
    assert isinstance(model, Guided)
    return model


def test_mining_by_hand() -> None:
    """The rest is the bag without what is attended to; only positive bags of several instances are mined."""
    model = guided(mining_weight=2.0).eval()
    bags = make_bags((6, 1, 4))  # labels 0, 1, 0
    packed = PackedBags.pack([Bag("p", bags[0].features, 1), Bag("alone", bags[1].features, 1), bags[2]])
    output = model(packed)
    weights = output.instance_scores[:6].detach()
    stretched = (weights - weights.min()) / (weights.max() - weights.min())
    kept = weights * (1 - torch.sigmoid(10 * (stretched - 0.5)))
    rest = (kept / kept.sum()) @ output.extras["h"][:6]
    classifier = model.base.get_submodule("classifier")
    torch.testing.assert_close(output.extras["rest_logits"][0], classifier(rest))
    expected = 2.0 * float(classifier(rest).sigmoid().detach()) / 3
    assert float(
        model.loss(output, packed.labels, detection_loss(model))["mining"].detach()
    ) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_one_annotated_bag_turns_the_attention(place: int) -> None:
    """Two instances tell the label equally well; the outlines of one bag say which of them the attention is
    to be on."""
    generator = torch.Generator().manual_seed(0)
    bags = []
    for i in range(20):
        x = 0.5 * torch.randn(12, DIM, generator=generator)
        if i % 2:
            x[0, 0] += 6
            x[1, 1] += 6
        marks = torch.zeros(12, dtype=torch.long)
        marks[place] = 1
        bags.append(Bag(f"s{i}", x, i % 2, instance_labels=marks if i == 1 else None))
    model = guided()
    fit(model, bags, bags, TrainSpec(epochs=40, lr=0.01, bags_per_batch=4, select_by="last"))
    others = PackedBags.pack([bag for bag in bags if bag.label and bag.instance_labels is None])
    scores = model(others).instance_scores.detach().view(9, 12)
    assert float((scores[:, place] / (scores[:, 0] + scores[:, 1])).mean()) > 0.9


def test_instance_labels_travel_with_their_instances() -> None:
    one = Bag("a", torch.zeros(3, 2), 1, instance_labels=torch.tensor([1, 0, -1]))
    packed = PackedBags.pack([Bag("b", torch.zeros(2, 2), 0), one])
    assert packed.instance_labels is not None
    assert packed.instance_labels.tolist() == [-1, -1, 1, 0, -1]
    with pytest.raises(DataError, match=r"instance_labels must be \(3,\) int64"):
        Bag("a", torch.zeros(3, 2), 1, instance_labels=torch.tensor([1]))


def test_smooth_svm_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.5, -1.0]])
    expected = math.log(math.exp(2) + math.exp(1.5) + math.exp(0)) - 2
    assert float(smooth_svm(scores, torch.tensor([0]))) == pytest.approx(expected)


def test_clam_takes_what_a_small_bag_has() -> None:
    """The published code stops at fewer than k_sample instances."""
    model = CLAMSB(DIM, 2, 8, 4, k_sample=8, dropout=0)
    packed = PackedBags.pack(make_bags((3, 1)))
    assert torch.isfinite(model.clustering_loss(model(packed), packed.labels))


def test_dtfd_deals_every_instance_once_and_draws_anew_in_training() -> None:
    model = DTFD(DIM, 2, 8, 4)
    assert sorted(model.draw_order(50).tolist()) == list(range(50))
    packed = PackedBags.pack(make_bags((30,)))
    model.eval()
    assert torch.equal(model(packed).bag_logits, model(packed).bag_logits)
    model.train()
    model.generator = torch.Generator().manual_seed(0)
    assert not torch.equal(model(packed).bag_logits, model(packed).bag_logits)


def test_dtfd_tier_two_leaves_tier_one_alone_unless_asked() -> None:
    packed = PackedBags.pack(make_bags((30,)))
    for detach in (True, False):
        model = DTFD(DIM, 2, 8, 4, detach=detach).eval()
        model.loss(model(packed), packed.labels, detection_loss(model))["bag"].backward()
        assert (model.embed.weight.grad is None) == detach
        assert model.classifier2.weight.grad is not None


def test_transmil_scores_are_shares_of_the_class_tokens_attention() -> None:
    """Three tiles in a square of four: the repeated first tile has both copies' sum; negatives become 0."""
    attention = torch.tensor([[9.0, 0.2, -0.1, 0.3, 0.4], [9.0, 0.2, -0.3, 0.1, 0.2]])
    torch.testing.assert_close(tile_scores(attention, 3), torch.tensor([0.5, 0.0, 0.2]) / 0.7)
    model = TransMIL(DIM, 2, 16, 4, 4, dropout=0).eval()
    assert float(model(PackedBags.pack(make_bags((7,)))).instance_scores.sum()) == pytest.approx(1, abs=1e-5)


def test_heads_are_those_of_the_papers_unless_asked() -> None:
    assert outputs_for("abmil", 2) == outputs_for("dsmil", 2) == 1
    assert outputs_for("clam_sb", 2) == outputs_for("counterfactual(acmil)", 2) == 2
    assert outputs_for("abmil", 2, "softmax") == 2
    assert outputs_for("loss_attention", 2) == 2
    assert outputs_for("loss_attention", 2, "sigmoid") == 1
    assert outputs_for("abmil", 5) == outputs_for("mi_net", 5) == 5
    with pytest.raises(ConfigError, match="softmax head only"):
        outputs_for("transmil", 2, "sigmoid")
    with pytest.raises(ModelError, match="n_outputs >= 2"):
        build_aggregator("clam_mb", DIM, 1, 0, {})


def test_parameters_of_a_wrapped_method_are_those_of_both() -> None:
    assert {"hidden", "attention", "kind", "effect_weight"} <= set(parameters_of("counterfactual(abmil)"))
    with pytest.raises(ConfigError, match="'kind'"):
        build_aggregator("counterfactual(abmil)", DIM, 1, 0, {"kinds": "random"})
    with pytest.raises(ConfigError, match="must be random"):
        build_aggregator("counterfactual(abmil)", DIM, 1, 0, {"kind": "odd"})
    with pytest.raises(ConfigError, match="No aggregator named"):
        _ = AGGREGATORS["counterfactual(mean_pool)"]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mi_net_embedding", {"pooling": "median"}),
        ("mi_net_embedding", {"variant": "residual", "hidden": (8, 4)}),
        ("clam_sb", {"bag_loss": "hinge"}),
        ("dsmil", {"value": "other"}),
        ("dtfd", {"distill": "best"}),
        ("loss_attention", {"l2": "median"}),
        ("transmil", {"hidden": 30, "heads": 8}),
    ],
)
def test_settings_that_do_not_exist_are_told(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=next(iter(params)) if name != "mi_net_embedding" else "mi_net_embedding"
    ):
        build_aggregator(name, DIM, 2, 0, params)


def test_causal_mil_names_the_deciding_rows_of_a_batch() -> None:
    """Each bag's row lies in its own bag: the published code takes the first bag's rows for all."""
    model = build_aggregator("causal_mil", DIM, 1, 0, {}).eval()
    packed = PackedBags.pack(make_bags((4, 6, 5)))
    top = model(packed).extras["top"][:, 0].tolist()
    offsets = packed.offsets.tolist()
    assert all(low <= row < high for row, low, high in zip(top, offsets[:-1], offsets[1:], strict=True))
    scores = model(packed).instance_scores
    assert top == [low + int(scores[low:high].argmax()) for low, high in pairwise(offsets)]
    assert np.isfinite(scores.detach().numpy()).all()
