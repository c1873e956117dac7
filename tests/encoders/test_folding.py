"""Folded batch normalisations: the same function, on networks whose statistics are not the initial ones, and
nothing where it would not be.
"""

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from wsi_mil.encoders.folding import fold_batch_norms


def trained(network: nn.Module) -> nn.Module:
    """As if trained: no statistic, scale or shift is 0 or 1."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                values.data.uniform_(low, high, generator=generator)
    return network.eval()


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("create", "left"), [(models.resnet18, 0), (models.mobilenet_v3_small, 0), (models.densenet121, 62)]
)
def test_a_folded_network_computes_the_same(create: type[nn.Module], left: int) -> None:
    plain = trained(create())
    folded = fold_batch_norms(plain, IMAGES[:1])
    assert folded is not plain
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    with torch.inference_mode():
        expected, found = plain(IMAGES), folded(IMAGES)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert any(
        isinstance(module, nn.BatchNorm2d) for module in plain.modules()
    )  # the network itself is left alone


class Shared(nn.Module):
    """A convolution whose result is wanted without its normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.convolution(images)
        return maps + self.norm(maps)


class Branching(Shared):
    """Flow that depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images)) if images.sum() > 0 else images


class ByStep(Shared):
    """Not the same for every batch: what was followed once does not hold."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        ByStep.calls += 1
        return self.norm(self.convolution(images)) * self.calls


@pytest.mark.parametrize("kind", [Shared, Branching, ByStep])
def test_what_cannot_be_folded_is_left_as_it_is(kind: type[nn.Module]) -> None:
    plain = trained(kind())
    assert fold_batch_norms(plain, IMAGES[:1]) is plain


def test_a_network_without_them_is_left_as_it_is() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)).eval()
    assert fold_batch_norms(plain, IMAGES[:1]) is plain
