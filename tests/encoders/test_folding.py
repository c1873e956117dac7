"""A network with folded batch normalisations computes the same; what cannot be folded is left as it is."""

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from wsi_mil.encoders.folding import fold_batch_norms


def trained(network: nn.Module) -> nn.Module:
    """Set statistics, scales and shifts as after training: none is 0 or 1."""
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
    ("create", "left"),
    [
        (models.resnet18, 0),
        (models.mobilenet_v3_small, 0),
        pytest.param(models.densenet121, 62, marks=pytest.mark.slow),
    ],
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
    )  # the network itself is unchanged


class Shared(nn.Module):
    """The result of the convolution is also used without the normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.convolution(images)
        return maps + self.norm(maps)


class Branching(Shared):
    """Code that branches on values, which cannot be traced."""

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images)) if images.sum() > 0 else images


class ByStep(Shared):
    """Computes something else at every call, so a trace of one call is wrong."""

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
