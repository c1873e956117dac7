"""Which encoders there are, and how each is built."""

from collections.abc import Callable

import torch

from wsi_mil.encoders.base import Encoder, EncoderSpec, pick_device
from wsi_mil.errors import ConfigError
from wsi_mil.registry import Registry

Builder = Callable[[EncoderSpec, torch.device], Encoder]

ENCODERS = Registry("encoder", {"texture": "wsi_mil.encoders.texture:TextureEncoder"})
FAMILIES = Registry(
    "encoder",
    {
        "timm": "wsi_mil.encoders.networks:build_timm",
        "torchvision": "wsi_mil.encoders.networks:build_torchvision",
    },
)


def build_encoder(spec: EncoderSpec, device: str = "auto") -> Encoder:
    """Return the encoder that `spec` names, on `device`.

    Raises ConfigError with the nearest names, or EncoderError if its weights cannot be had.

    >>> build_encoder(EncoderSpec(name="texture"), "cpu").dim
    106
    """
    family, colon, model = spec.name.partition(":")
    target = pick_device(device)
    if colon:
        if not model:
            raise ConfigError(f"encoder.name={spec.name!r} names no model: write for example {family}:resnet18")
        builder: Builder = FAMILIES.load(family)
    else:
        builder = ENCODERS.load(spec.name)
    return builder(spec, target)


def list_encoders(pattern: str = "*") -> list[str]:
    """Return the names of all encoders that match a shell pattern, without loading any."""
    from fnmatch import fnmatch

    import timm
    import torchvision

    names = list(ENCODERS)
    names += [f"torchvision:{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    names += [f"timm:{name}" for name in timm.list_models()]
    return [name for name in names if fnmatch(name, pattern)]
