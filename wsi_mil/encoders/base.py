"""The interface of encoders, and the choice of a device."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Literal

import torch
from torch import Tensor

from wsi_mil.encoders.views import View
from wsi_mil.errors import ConfigError, EncoderError
from wsi_mil.io.files import digest_json


class Encoder(ABC):
    """Turns tiles (B, S, S, 3) uint8 into features (B, dim) float32 on `device`.

    `identity`: everything that the values depend on (name, weights digest, input size, normalisation,
    precision). `view`: what is done to tiles before `encode` gets them.
    """

    dim: int
    identity: Mapping[str, object]
    device: torch.device
    view: View = View()

    def seen_as(self, view: View) -> "Encoder":
        """Return an encoder with the same weights for tiles of `view`; this one stays as it is."""
        found = copy(self)
        found.view = view
        found.identity = {**self.identity, **view.identity}
        return found

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, dim) float32 features of (B, S, S, 3) uint8 tiles.

        Raises EncoderError, naming the shape or type that it got, for anything else (see `check_tiles`).
        """

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of `identity`: stored features are valid as long as they stay the same."""
        return digest_json(self.identity)


def check_tiles(pixels: Tensor) -> None:
    """Raise EncoderError unless `pixels` are tiles (B, S, S, 3) uint8.

    >>> check_tiles(torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    """
    shape = tuple(pixels.shape)
    if pixels.dtype != torch.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise EncoderError(f"an encoder takes tiles (B, S, S, 3) uint8, got {shape} {pixels.dtype}")


def to_device(pixels: Tensor, device: torch.device) -> Tensor:
    """Return `pixels` on `device`.

    A GPU copies from pinned memory, so that the copy runs while the previous batch is computed.
    """
    if device.type == "cuda" and pixels.device.type == "cpu":
        pixels = pixels.pin_memory()
    return pixels.to(device, non_blocking=True)


def pick_devices(names: Literal["all"] | Sequence[str]) -> list[str]:
    """Return the devices to extract on; `all`: every CUDA device. Raises ConfigError if one is missing."""
    if names == "all":
        count = torch.cuda.device_count()
        if count == 0:
            raise ConfigError("execution.devices=all: torch sees no CUDA device: leave the key out")
        return [f"cuda:{number}" for number in range(count)]
    return [str(pick_device(name)) for name in names]


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device of a name; `auto`: cuda where there is one, else cpu.

    Raises ConfigError if there is no such device.
    """
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
            f"execution.device={name!r}: torch sees {torch.cuda.device_count()} CUDA devices (driver? "
            "docker --gpus all? CUDA_VISIBLE_DEVICES?): say auto or cpu"
        )
    return device
