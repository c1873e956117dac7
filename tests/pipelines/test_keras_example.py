"""The Keras example of attention-based MIL: its network, its loss and its protocol."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines.mnist.keras_example import L2, ConcatenatedAttention, mean_probabilities
from pipelines.mnist_keras_example import accuracy, train
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.tasks import Detection, TaskLoss

DIM = 8


def bags(count: int, seed: int) -> list[Bag]:
    """Bags of three instances; a positive bag has one that is 4 larger in the first feature."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        values = torch.from_numpy(rng.normal(size=(3, DIM)).astype(np.float32))
        values[rng.integers(3), 0] += 4 * (number % 2)
        found.append(Bag(f"bag_{number}", values, number % 2))
    return found


def model_of(seed: int) -> ConcatenatedAttention:
    torch.manual_seed(seed)
    return ConcatenatedAttention(DIM).eval()


def array(layer: nn.Module) -> NDArray[np.float64]:
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().double().numpy()


def test_the_network_is_that_of_the_example() -> None:
    model, bag = model_of(0), bags(1, 0)[0]
    assert sum(p.numel() for p in ConcatenatedAttention(784).parameters()) == 142_146
    h = bag.features.double().numpy()
    for layer in (model.embed[0], model.embed[2]):
        h = np.maximum(h @ array(layer).T, 0)
    raw = (np.tanh(h @ array(model.V).T) / (1 + np.exp(-h @ array(model.U).T))) @ array(model.w).T
    weights = np.exp(raw) / np.exp(raw).sum()
    expected = array(model.classifier) @ (weights * h).ravel()
    with torch.inference_mode():
        output = model(PackedBags.pack([bag]))
    assert output.bag_logits[0].numpy() == pytest.approx(expected, abs=1e-5)
    assert output.instance_scores.numpy() == pytest.approx(weights[:, 0], abs=1e-5)


def test_the_loss_has_the_squares_of_the_attention_weights() -> None:
    model = model_of(1)
    packed = PackedBags.pack(bags(4, 1))
    terms = model.loss(model(packed), packed.labels, TaskLoss(Detection.of(2), "softmax"))
    squares = sum((array(part) ** 2).sum() for part in (model.V, model.U, model.w))
    assert terms["l2"].item() == pytest.approx(L2 * squares, rel=1e-5)


def test_models_are_averaged_by_probability() -> None:
    models, data = [model_of(2), model_of(3)], bags(6, 2)
    packed = PackedBags.pack(data)
    with torch.inference_mode():
        each = [model(packed).bag_logits.double().softmax(1).numpy() for model in models]
    assert mean_probabilities(models, data).numpy() == pytest.approx(np.mean(each, axis=0), abs=1e-6)


def test_the_protocol_learns() -> None:
    models = [train(bags(60, 3), bags(30, 4), epochs=4, seed=seed) for seed in (0, 1)]
    assert accuracy(models, bags(60, 5)) > 0.9
