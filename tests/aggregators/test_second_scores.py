"""The second instance score of each method, against a computation by hand from the weights of its modules."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor, nn

from wsi_mil.aggregators import AGGREGATORS, Aggregator, build_aggregator
from wsi_mil.aggregators.catalog import outputs_for, small_parameters
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.testing.aggregators import DIM, make_bags

BAGS = PackedBags.pack(make_bags((5, 1, 9)))
X = BAGS.features.double().numpy()
ENDS = [(0, 5), (5, 6), (6, 15)]
TWO = {"loss_attention", "clam_sb", "clam_mb", "dsmil", "dtfd"}
"""The methods of which the papers define attention and a classifier of instances."""


def model_of(name: str, n_outputs: int, **params: Any) -> Aggregator:
    return build_aggregator(name, DIM, n_outputs, 0, {**small_parameters(name), **params}).eval()


def output_of(model: Aggregator) -> AggregatorOutput:
    with torch.inference_mode():
        return model(BAGS)  # type: ignore[no-any-return]


def second_of(model: Aggregator) -> NDArray[np.float64]:
    found = output_of(model).second_scores
    assert found is not None
    return found.double().numpy()


def numbers(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


def linear(layer: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float64]:
    assert isinstance(layer, nn.Linear)
    bias = 0.0 if layer.bias is None else numbers(layer.bias)
    return x @ numbers(layer.weight).T + bias


def relu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(x, 0)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_methods_with_two_scores_are_those_whose_papers_have_both(name: str) -> None:
    """A wrapped method has the scores of the method that it wraps."""
    model = model_of(name, outputs_for(name, classes=2))
    output = output_of(model)
    inner = name.partition("(")[2].rstrip(")") or name
    assert (output.second_scores is not None) == (inner in TWO)
    assert output.second_kind == model.second_kind
    assert ("attention" in (output.score_kind, output.second_kind)) or not output.second_kind


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_loss_attention_classifies_each_instance_alone(n_outputs: int) -> None:
    """The sigmoid of the score is the softmax probability of all classes but the normal one."""
    model: Any = model_of("loss_attention", n_outputs)
    logits = linear(model.classifier, relu(linear(model.embed[0], X)))
    expected = expit(logits[:, 0]) if n_outputs == 1 else 1 - softmax(logits, axis=1)[:, 0]
    np.testing.assert_allclose(expit(second_of(model)), expected, rtol=1e-4)


def test_without_a_normal_class_the_score_is_that_of_the_likeliest_class() -> None:
    model: Any = model_of("loss_attention", 3)
    model.negative_classes = 0
    logits = linear(model.classifier, relu(linear(model.embed[0], X)))
    np.testing.assert_allclose(expit(second_of(model)), softmax(logits, axis=1).max(1), rtol=1e-4)


@pytest.mark.parametrize("name", ["clam_sb", "clam_mb"])
@pytest.mark.parametrize("n_outputs", [2, 3])
def test_clam_asks_the_instance_classifiers_of_the_positive_classes(name: str, n_outputs: int) -> None:
    """Each has two outputs, [not in the cluster, in the cluster]; of several positive classes the largest."""
    model: Any = model_of(name, n_outputs)
    h = relu(linear(model.embed, X))
    each = [softmax(linear(layer, h), axis=1)[:, 1] for layer in model.instance_classifiers]
    expected = np.max(each[1:], axis=0)
    np.testing.assert_allclose(expit(second_of(model)), expected, rtol=1e-4)
    assert np.abs(expected - each[0]).max() > 1e-3, "the classifier of the normal class is another one"


def test_clams_score_rises_where_its_instance_loss_is_lower() -> None:
    """For a positive bag the target of the most attended instance is 1: a step of the loss raises its
    score."""
    model: Any = model_of("clam_sb", 2, k_sample=1, bag_weight=0.0)
    bag = PackedBags.pack(make_bags((5, 7))[1:])  # label 1
    before = model(bag)
    top = int(before.instance_scores.argmax())
    model.clustering_loss(before, bag.labels).backward()
    with torch.no_grad():
        for parameter in model.instance_classifiers.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    after = model(bag)
    assert after.second_scores[top] > before.second_scores[top]


@pytest.mark.parametrize(("n_outputs", "positive"), [(1, [0]), (3, [1, 2])])
def test_dsmil_gives_the_logits_of_its_first_stream(n_outputs: int, positive: list[int]) -> None:
    model: Any = model_of("dsmil", n_outputs)
    expected = linear(model.instance_classifier, X)[:, positive].max(1)
    np.testing.assert_allclose(second_of(model), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distill", ["afs", "max", "max_min"])
def test_dtfds_attention_is_the_product_of_both_tiers(distill: str) -> None:
    model: Any = model_of("dtfd", 2, distill=distill, groups=2)
    h = relu(linear(model.embed, X))

    def raw(net: Any, of: NDArray[np.float64]) -> NDArray[np.float64]:
        return linear(net.w, np.tanh(linear(net.V, of)) * expit(linear(net.U, of)))[:, 0]

    expected = np.zeros(len(X))
    for start, stop in ENDS:
        rows = start + model.draw_order(stop - start).numpy()
        parts, kept = np.array_split(rows, min(2, len(rows))), []
        for part in parts:
            weights = softmax(raw(model.attention, h[part]))
            expected[part] = weights
            activation = softmax((weights[:, None] * h[part]) @ numbers(model.classifier.weight).T, axis=1)
            best = np.argsort(-activation[:, 1])
            chosen = {"max": best[:1], "max_min": best[[0, -1]], "afs": None}[distill]
            kept.append((weights @ h[part])[None] if chosen is None else h[part][chosen])
        second = softmax(raw(model.attention2, np.concatenate(kept)))
        shares = np.split(second, np.cumsum([len(one) for one in kept])[:-1])
        for part, share in zip(parts, shares, strict=True):
            expected[part] *= share.sum()
    found = second_of(model)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert [found[a:b].sum() for a, b in ENDS] == pytest.approx([1, 1, 1], rel=1e-5)


def test_with_afs_dtfds_attention_is_the_weight_of_each_instance_in_the_bag() -> None:
    model: Any = model_of("dtfd", 2, distill="afs")
    h, weights = relu(linear(model.embed, X)), second_of(model)
    features = np.stack([weights[a:b] @ h[a:b] for a, b in ENDS])
    logits = numbers(output_of(model).bag_logits)
    np.testing.assert_allclose(linear(model.classifier2, features), logits, rtol=1e-4, atol=1e-6)
