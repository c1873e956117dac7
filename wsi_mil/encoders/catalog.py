"""Build an encoder from its settings, and list the encoders that there are."""

from collections.abc import Callable

from wsi_mil.encoders.base import Encoder, pick_device
from wsi_mil.encoders.names import ENCODERS, FAMILIES, is_family
from wsi_mil.encoders.spec import Computation, EncoderModel, EncoderSpec
from wsi_mil.encoders.views import View
from wsi_mil.errors import ConfigError

Builder = Callable[[EncoderModel, Computation], Encoder]
"""What an encoder's module offers as BUILD: a function or a class."""


def build_encoder(spec: EncoderSpec, device: str = "auto") -> Encoder:
    """Return the encoder that `spec` names, on `device`; auto in `spec` means fp32 and torch.

    Raises ConfigError with the nearest names for an unknown one, and EncoderError if its weights cannot be
    loaded.

    >>> build_encoder(EncoderSpec(name="texture"), "cpu").dim
    106
    """
    computation = spec.computation(str(pick_device(device_name(spec, device))))
    if is_family(spec.name):
        family, _, model = spec.name.partition(":")
        if not model:
            raise ConfigError(
                f"encoder.name={spec.name!r} names no model: write for example {family}:resnet18"
            )
        builder: Builder = FAMILIES.load(family)
    else:
        builder = ENCODERS.load(spec.name)
    encoder = builder(spec.model, computation)
    if not isinstance(encoder, Encoder):
        raise ConfigError(
            f"encoder {spec.name!r} made a {type(encoder).__name__}: it must derive from "
            "wsi_mil.encoders.Encoder"
        )
    return encoder.seen_as(View.of(spec))


def device_name(spec: EncoderSpec, device: str) -> str:
    """Return `device`, but cpu for auto if OpenVINO runs the network.

    >>> device_name(EncoderSpec(name="timm:resnet18", backend="openvino"), "auto")
    'cpu'
    """
    return "cpu" if device == "auto" and spec.backend == "openvino" else device


def list_encoders(pattern: str = "*") -> list[str]:
    """Return the names of all encoders that match a shell pattern, without loading any."""
    from fnmatch import fnmatch

    import timm
    import torchvision

    names = list(ENCODERS)
    names += [f"torchvision:{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    names += [f"timm:{name}" for name in timm.list_models()]
    return [name for name in names if fnmatch(name, pattern)]
