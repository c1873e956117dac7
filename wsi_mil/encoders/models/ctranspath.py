"""CTransPath: Swin-T with a convolutional stem, trained on histology (Wang et al., Medical Image Analysis 2022).

The weights are the authors' and not ours to ship: `encoder.weights=PATH` takes their ctranspath.pth (names of timm 0.5), or a
conversion to timm's names of today.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_mil.encoders.networks import NetworkEncoder
from wsi_mil.encoders.published import IMAGENET_MEAN, IMAGENET_STD
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.weights import load_trunk, read_checkpoint
from wsi_mil.errors import ConfigError, EncoderError

INPUT_PX = 224


class ConvStem(nn.Module):
    """Two strided convolutions and a projection in the place of Swin's patch embedding: (B, 3, S, S) -> (B, S/4, S/4, dim)."""

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
        maps: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))  # (B, dim, h, w) -> (B, h, w, dim)
        return maps


def build_ctranspath(spec: EncoderSpec, device: torch.device) -> NetworkEncoder:
    """Return CTransPath with weights of a file, or random ones (for tests); 768 features of tiles of 224 px, made for 1 µm/px."""
    if spec.input_px not in (None, INPUT_PX):
        raise ConfigError(
            f"encoder.input_px={spec.input_px}: ctranspath takes {INPUT_PX} only, its windows are laid out for that"
        )
    trunk = make_trunk(spec.seed)
    if spec.weights == "pretrained":
        raise EncoderError(
            "ctranspath cannot be fetched by itself: get ctranspath.pth from its authors (TransPath) and give encoder.weights=PATH"
        )
    if spec.weights != "random":
        path = Path(spec.weights)
        load_trunk(trunk, names_of_today(read_checkpoint(path)), spec.name, path.name)
    return NetworkEncoder(spec, trunk, device, mean=IMAGENET_MEAN, std=IMAGENET_STD, input_px=INPUT_PX)


def make_trunk(seed: int) -> nn.Module:
    """Return the network with random weights of `seed`, without a head."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trunk: nn.Module = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=0)
        trunk.patch_embed = ConvStem()
    return trunk


def names_of_today(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under timm's present names: reductions belong to the stage that they lead into, no longer to the
    one before. A checkpoint that has present names already is returned as it is.

    >>> list(names_of_today({"layers.0.downsample.norm.weight": torch.zeros(1)}))
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
