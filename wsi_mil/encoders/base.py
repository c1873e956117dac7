"""What an encoder promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Literal

import torch
from torch import Tensor

from wsi_mil.encoders.views import View
from wsi_mil.errors import ConfigError
from wsi_mil.io.files import digest_json


class Encoder(ABC):
    """Turns (B, S, S, 3) uint8 tiles into (B, dim) float32 features on `device`.

    `identity`: everything that the values depend on (name, weights digest, input size, normalisation, precision).
    `view`: what whoever reads the tiles does to them first.
    """

    dim: int
    identity: dict[str, object]
    device: torch.device
    view: View = View()

    def seen_as(self, view: View) -> "Encoder":
        """Return the same encoder, its weights shared, for tiles of `view`."""
        found = copy(self)
        found.view = view
        found.identity = {**self.identity, **view.identity}
        return found

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, dim) float32 features of (B, S, S, 3) uint8 tiles."""

    @property
    def digest(self) -> str:
        return digest_json(self.identity)


def to_device(pixels: Tensor, device: torch.device) -> Tensor:
    """Return `pixels` on `device`; from pinned memory to a GPU, so that the copy runs beside the batch before."""
    if device.type == "cuda" and pixels.device.type == "cpu":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True)


def pick_devices(names: Literal["all"] | Sequence[str]) -> list[str]:
    """Return the devices to extract on, each checked; `all`: every CUDA device. Raises ConfigError if one is not there."""
    if names == "all":
        count = torch.cuda.device_count()
        if count == 0:
            raise ConfigError("execution.devices=all: torch sees no CUDA device: leave the key out")
        return [f"cuda:{number}" for number in range(count)]
    return [str(pick_device(name)) for name in names]


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device of a name; `auto`: cuda where there is one, else cpu. Raises ConfigError if there is no
    such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"execution.device={name!r} is no device: say auto, cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"execution.device={name!r}: torch sees {torch.cuda.device_count()} CUDA devices (driver? docker --gpus all? "
            "CUDA_VISIBLE_DEVICES?): say auto or cpu"
        )
    return device
