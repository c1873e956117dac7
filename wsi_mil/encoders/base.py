"""What an encoder promises, and what was asked of it."""

import re
from abc import ABC, abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from wsi_mil.contracts.spec import Spec
from wsi_mil.files import digest_json


class EncoderSpec(Spec):
    """`name`: texture, timm:<model> or torchvision:<model>. `weights`: pretrained, random (then `seed` counts), or
    the path of a .safetensors, .pth or .npz checkpoint. `input_px`: tiles are resized to this side."""

    name: str = "texture"
    weights: str = "pretrained"
    input_px: int | None = Field(None, ge=16)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_size: int = Field(64, ge=1)
    seed: int = 0
    alias: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$", description="the name on disk")

    @property
    def key(self) -> str:
        """The name under which features lie in a store: the alias, or the name in letters that every disk takes.

        >>> EncoderSpec(name="timm:resnet18").key
        'timm.resnet18'
        """
        return self.alias or re.sub(r"[^A-Za-z0-9_-]+", ".", self.name)


class Encoder(ABC):
    """Turns (B, S, S, 3) uint8 tiles into (B, dim) float32 features on `device`.

    `identity`: everything that the values depend on (name, weights digest, input size, normalisation, precision).
    """

    dim: int
    identity: dict[str, object]
    device: torch.device

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, dim) float32 features of (B, S, S, 3) uint8 tiles."""

    @property
    def digest(self) -> str:
        return digest_json(self.identity)


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device of a name; `auto`: cuda where there is one, else cpu."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
