"""Networks that end in feature maps: a small one, any network of timm, a vision transformer for volumes."""

import math

import torch
from torch import Tensor, nn

from wsi_mil.errors import ConfigError, nearest

SMALL_CHANNELS = 64


class Backbone(nn.Module):
    """Images (B, 3, H, W) to maps (B, `channels`, h, w)."""

    channels: int


class SmallBackbone(Backbone):
    """Four convolutions; the maps have a quarter of the image's side. It trains on a CPU in one or two
    minutes.

    A position sees 26 x 26 pixels, so the maps are not drawn to what lies beside a tumour.

    >>> SmallBackbone()(torch.zeros(2, 3, 64, 48)).shape
    torch.Size([2, 64, 16, 12])
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels = SMALL_CHANNELS
        layers: list[nn.Module] = []
        for given, wanted, pool in (
            (3, 16, True),
            (16, 32, True),
            (32, 64, False),
            (64, SMALL_CHANNELS, False),
        ):
            convolution = nn.Conv2d(given, wanted, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(wanted), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layers(images)
        return found


class TimmBackbone(Backbone):
    """Feature maps of a timm network at `stage`, an index (default: the last).

    The maps of a vision transformer are its patch tokens, each at its position in the image.
    """

    def __init__(self, name: str, stage: int = -1, *, pretrained: bool = False) -> None:
        import timm

        super().__init__()
        known = timm.list_models(name.partition(".")[0])
        if not known:
            raise ConfigError(f"timm has no network {name!r}. Nearest: {nearest(name, timm.list_models())}")
        try:
            self.network = timm.create_model(
                name, pretrained=pretrained, features_only=True, out_indices=(stage,)
            )
        except IndexError as error:
            raise ConfigError(f"timm:{name}@{stage}: the network has no such stage ({error})") from error
        self.channels = int(self.network.feature_info.channels()[-1])

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images)[-1]
        # Swin and similar networks give (B, h, w, C)
        channels_last = found.shape[1] != self.channels and found.shape[-1] == self.channels
        return found.permute(0, 3, 1, 2) if channels_last else found


class VolumeTransformer(Backbone):
    """Volumes (B, C, D, H, W) to maps (B, `channels`, d, h, w): cubes of `patch` voxels through a timm ViT's
    blocks.

    `size`: side of the volumes in voxels. The blocks may be pretrained on images; the embedding of the cubes
    and their position encoding are new. Raises ConfigError if `patch` does not divide `size`.
    """

    def __init__(
        self, name: str, size: int, patch: int, in_channels: int = 1, *, pretrained: bool = False
    ) -> None:
        import timm

        super().__init__()
        if size % patch:
            raise ConfigError(f"volumes of {size} voxels a side do not divide into cubes of {patch}")
        transformer = timm.create_model(name, pretrained=pretrained)
        self.channels = int(transformer.embed_dim)
        self.embed = nn.Conv3d(in_channels, self.channels, patch, patch)
        self.position = nn.Parameter(
            torch.randn(1, (size // patch) ** 3, self.channels) / math.sqrt(self.channels)
        )
        self.blocks, self.norm = transformer.blocks, transformer.norm

    def forward(self, volumes: Tensor) -> Tensor:
        cubes = self.embed(volumes)  # (B, C, d, h, w)
        tokens = cubes.flatten(2).transpose(1, 2) + self.position
        found: Tensor = self.norm(self.blocks(tokens)).transpose(1, 2).reshape(cubes.shape)
        return found


def build_backbone(name: str, *, pretrained: bool = False) -> Backbone:
    """Return the backbone `small` or `timm:NAME[@STAGE]`. Raises ConfigError for an unknown name."""
    if name == "small":
        return SmallBackbone()
    family, colon, rest = name.partition(":")
    if family != "timm" or not colon:
        raise ConfigError(
            f"backbone {name!r}: expected small, or timm:NAME[@STAGE], for example timm:resnet18@2"
        )
    network, _, stage = rest.partition("@")
    try:
        return TimmBackbone(network, int(stage) if stage else -1, pretrained=pretrained)
    except ValueError as error:
        raise ConfigError(f"backbone {name!r}: {error}") from error
