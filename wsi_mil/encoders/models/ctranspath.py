"""CTransPath: Swin-T with a convolutional stem, trained on histology (Wang et al., Medical Image Analysis
2022).

The weights belong to the authors and are not part of this package. `encoder.weights=PATH` takes their
ctranspath.pth, which has the names of timm 0.5, or a conversion to the present names of timm.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from wsi_mil.encoders.networks import InputTransform, NetworkEncoder
from wsi_mil.encoders.published import IMAGENET_MEAN, IMAGENET_STD
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.encoders.weights import load_trunk, read_checkpoint
from wsi_mil.errors import ConfigError, EncoderError

INPUT_PX = 224


@final
class ConvStem(nn.Module):
    """Two strided convolutions and a projection instead of Swin's patch embedding."""

    def __init__(self, dim: int = 96) -> None:
        super().__init__()
        narrow, wide = dim // 8, dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(3, narrow, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, dim, 1),
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, S/4, S/4, dim) of images (B, 3, S, S)."""
        maps: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))  # (B, dim, h, w) -> (B, h, w, dim)
        return maps


def build_ctranspath(model: EncoderModel, computation: Computation) -> NetworkEncoder:
    """Return CTransPath: 768 features of tiles of 224 px, trained at 1 µm/px.

    `model.weights`: the path of a checkpoint, or random (for tests). Raises ConfigError for another input
    size, and EncoderError for weights that cannot be loaded.
    """
    if model.input_px not in (None, INPUT_PX):
        raise ConfigError(
            f"encoder.input_px={model.input_px}: ctranspath takes {INPUT_PX} only, the size that its "
            "windows are made for"
        )
    trunk = make_trunk(model.seed)
    if model.weights == "pretrained":
        raise EncoderError(
            "ctranspath cannot be downloaded: get ctranspath.pth from its authors (TransPath) and give "
            "encoder.weights=PATH"
        )
    if model.weights != "random":
        path = Path(model.weights)
        load_trunk(trunk, present_names(read_checkpoint(path)), model.name, path.name)
    return NetworkEncoder(model, computation, trunk, InputTransform(INPUT_PX, IMAGENET_MEAN, IMAGENET_STD))


def make_trunk(seed: int) -> nn.Module:
    """Return the network with random weights of `seed`, without a head."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk: nn.Module = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=0)
        trunk.patch_embed = ConvStem()
    return trunk


def present_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's present names; a checkpoint that has them already is returned as it is.

    timm 0.5 counted a downsampling layer to the stage before it, today it belongs to the stage after it.

    >>> list(present_names({"layers.0.downsample.norm.weight": torch.zeros(1)}))
    ['layers.1.downsample.norm.weight']
    """
    if not any(key.startswith("layers.0.downsample.") for key in tensors):
        return dict(tensors)

    def next_stage(found: re.Match[str]) -> str:
        return f"layers.{int(found[1]) + 1}.downsample."

    return {
        re.sub(r"^layers\.(\d)\.downsample\.", next_stage, key): tensor for key, tensor in tensors.items()
    }


BUILD = build_ctranspath
