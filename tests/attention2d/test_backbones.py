"""Backbones give maps where the image is, tokens in their places, and say what they do not know."""

import pytest
import torch

from wsi_mil.attention2d import CAL
from wsi_mil.attention2d.backbones import SmallBackbone, TimmBackbone, VolumeTransformer, build_backbone
from wsi_mil.errors import ConfigError


def test_a_position_of_the_small_one_sees_26_pixels() -> None:
    torch.manual_seed(0)
    network = SmallBackbone().eval()
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(images)[0, :, 8, 8].sum().backward()
    assert images.grad is not None
    rows, columns = torch.nonzero(images.grad.abs().sum((0, 1)), as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 <= 26
    assert int(columns.max() - columns.min()) + 1 <= 26
    assert abs(float(rows.float().mean()) - 33.5) < 1.5  # the middle of its own 4 x 4 pixels


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        ("timm:resnet18@2", 128, 8),
        ("timm:resnet18", 512, 2),
        ("timm:swin_tiny_patch4_window7_224@0", 96, 56),
    ],
)
def test_any_timm_network(name: str, channels: int, side: int) -> None:
    network = build_backbone(name)
    size = 224 if "swin" in name else 64
    with torch.no_grad():
        maps = network.eval()(torch.rand(1, 3, size, size))
    assert network.channels == channels
    assert maps.shape == (1, channels, side, side)


def test_tokens_of_a_vision_transformer_lie_where_their_patches_are() -> None:
    torch.manual_seed(1)
    network = TimmBackbone("vit_tiny_patch16_224").eval()
    image = torch.zeros(1, 3, 224, 224)
    plain = network(image)
    image[:, :, 5 * 16 : 6 * 16, 9 * 16 : 10 * 16] = 3.0
    changed = (network(image) - plain).abs().sum(1)[0]
    assert divmod(int(changed.argmax()), 14) == (5, 9)


def test_cal_in_three_dimensions_on_a_real_transformer() -> None:
    """The 3-D form: volumes of 64 voxels, cubes of 16, 768 features on a grid of 4 x 4 x 4, 32 maps."""
    torch.manual_seed(2)
    backbone = VolumeTransformer("vit_base_patch16_224", 64, 16)
    backbone.blocks = backbone.blocks[:2]  # twelve say the same, slower
    model = CAL(
        backbone, backbone.channels, 25, maps=32, dimensions=3, generator=torch.Generator().manual_seed(0)
    )
    volumes = torch.randn(2, 1, 64, 64, 64)
    output = model(volumes)
    assert output.attention.shape == (2, 32, 4, 4, 4)
    assert output.features.shape == (2, 32 * 768)
    assert output.maps.shape == (2, 25, 64, 64, 64)
    torch.stack(list(model.losses(output, torch.tensor([3, 7])).values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in backbone.parameters())
    volumes[1] = 0
    again = model.eval()(volumes)
    torch.testing.assert_close(
        again.logits[0], model(volumes[:1]).logits[0]
    )  # batched: no volume touches another


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("large", "expected small"),
        ("timm:resnet19", "Nearest"),
        ("timm:resnet18@x", "invalid literal"),
        ("timm:resnet18@9", "no such stage"),
    ],
)
def test_unknown_names(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_backbone(name)


def test_cubes_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="do not divide"):
        VolumeTransformer("vit_tiny_patch16_224", 60, 16)
