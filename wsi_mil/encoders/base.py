"""What an encoder promises."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wsi_mil.files import digest_json


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
