"""Features from layers inside a network instead of its last one, pooled over positions and joined.

A layer is named as in the network, for example `features.7` or `blocks.5`, or is the number of one of its
parts: stages of a CNN, blocks of a transformer; -1 is the last one. What comes after the last layer that is
asked for is not computed.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from torch import Tensor, fx, nn

from wsi_mil.encoders.spec import EncoderModel, LayerPooling
from wsi_mil.errors import ConfigError, nearest

NUMBER = re.compile(r"-?\d+")
PARTS = ("encoder.layers", "features", "blocks", "stages", "layers", "trunk_output")
"""Where a network without a list of its parts keeps them."""
Form = Literal["vector", "maps", "maps_last", "patches", "tokens"]
"""The output of a layer: (B, D), (B, C, H, W), (B, H, W, C), or (B, T, D): the patches alone, or the tokens
of the network (class token, registers) before them."""


@final
class LayerFeatures(nn.Module):
    """A network (B, 3, S, S) -> (B, dim): the outputs of some layers, pooled, joined and projected.

    layers: images -> outputs by name. forms: of these outputs, in the order in which they are joined. prefix:
    number of tokens before those of the patches (class token, registers). projection: (joined, dim) or None.
    """

    projection: Tensor | None

    def __init__(
        self,
        layers: nn.Module,
        forms: Mapping[str, Form],
        pooling: LayerPooling,
        prefix: int,
        projection: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("projection", projection)
        self._forms, self._pooling, self._prefix = dict(forms), pooling, prefix

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, dim) features of prepared images (B, 3, S, S)."""
        found: dict[str, Tensor] = self.layers(images)
        features = torch.cat([self._pooled(found[name], form) for name, form in self._forms.items()], 1)
        return features if self.projection is None else features @ self.projection

    def _pooled(self, values: Tensor, form: Form) -> Tensor:
        if form == "vector":
            return values
        if self._pooling == "class":
            return values[:, 0]
        if form in ("tokens", "patches"):
            positions = values[:, self._prefix :] if form == "tokens" else values
        else:
            positions = values.flatten(1, 2) if form == "maps_last" else values.flatten(2).transpose(1, 2)
        mean = positions.mean(1)
        if self._pooling == "class+mean":
            return torch.cat([values[:, 0], mean], 1)
        if self._pooling == "mean+std":
            return torch.cat([mean, positions.std(1, correction=0)], 1)
        return mean


def with_layers(network: nn.Module, model: EncoderModel, input_px: int, prefix: int) -> nn.Module:
    """Return `network` if `model` asks for no layers, else the network that returns these, pooled and joined.

    prefix: as in `LayerFeatures`. Raises ConfigError for a layer that the network does not have, that is
    named twice or has no positions that are known, and for a pooling of the class token where there is none.
    """
    if not model.layers:
        return network
    names = [_layer_name(network, layer, model.name) for layer in model.layers]
    if len(set(names)) < len(names):
        raise ConfigError(f"encoder.layers names a layer twice: {', '.join(names)}")
    example = torch.zeros(1, 3, input_px, input_px)
    layers, found = _extractor(network.eval(), names, model.name, example)
    forms = {name: _form(tuple(found[name].shape), name, prefix) for name in names}
    for name, form in forms.items():
        if "class" in model.layer_pooling and form != "tokens":
            raise ConfigError(
                f"encoder.layer_pooling={model.layer_pooling}: layer {name} of {model.name} has no class "
                "token: say mean or mean+std"
            )
    pooled = LayerFeatures(layers, forms, model.layer_pooling, prefix).eval()
    if not model.layer_projection:
        return pooled
    with torch.inference_mode():
        width = pooled(example).shape[1]
    matrix = _projection(width, model.layer_projection, model.seed)
    return LayerFeatures(layers, forms, model.layer_pooling, prefix, matrix).eval()


def _projection(width: int, size: int, seed: int) -> Tensor:
    """Return a random matrix (width, size): normal entries of variance 1 / size.

    It keeps squared distances on average (Johnson and Lindenstrauss 1984).
    """
    matrix = torch.randn(width, size, generator=torch.Generator().manual_seed(seed))
    return matrix.div_(size**0.5)


def _form(shape: tuple[int, ...], name: str, prefix: int) -> Form:
    """Return the form of a layer's output for a square image, whose maps and grids of patches are square.

    Raises ConfigError where the shape does not say which axes are positions.
    """
    match shape:
        case (_, _):
            return "vector"
        case (_, patches, _) if _is_square(patches):
            return "patches"
        case (_, tokens, _) if tokens > prefix and _is_square(tokens - prefix):
            return "tokens"
        case (_, channels, height, width) if height == width != channels:
            return "maps"
        case (_, height, width, channels) if height == width != channels:
            return "maps_last"
    raise ConfigError(
        f"encoder.layers: layer {name} gives {shape}, expected features (B, D), square maps, or patches of a "
        f"square grid (B, T, D), {prefix} other tokens before them: take another layer or encoder.input_px"
    )


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _extractor(
    network: nn.Module, names: Sequence[str], name: str, example: Tensor
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the network that gives the outputs of the layers `names` and ends at the last of them, and these
    outputs for `example`."""
    from timm.models import create_feature_extractor

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of dropout, which training has and evaluation has not
            found = create_feature_extractor(network, {layer: layer for layer in names}).eval()
        # a plain module with the graph of evaluation: `found` falls back to that of training when copied
        layers = fx.GraphModule(found, found.graph).eval()
        with torch.no_grad():  # inference mode would mark what a network keeps of its first call
            outputs: dict[str, Tensor] = layers(example)
    except Exception as error:  # tracing runs the network's own code, which may fail in any way
        raise ConfigError(
            f"encoder.layers: the layers {', '.join(names)} of {name} cannot be read "
            f"({type(error).__name__}: {error})"
        ) from error
    return layers, outputs


def _layer_name(network: nn.Module, layer: str, name: str) -> str:
    """Return the name, in the network, of a layer that is given by name or number."""
    if NUMBER.fullmatch(layer):
        parts, number = part_names(network), int(layer)
        if not -len(parts) <= number < len(parts):
            raise ConfigError(
                f"encoder.layers: {name} has no layer {layer}; its {len(parts)} parts are {', '.join(parts)}"
            )
        return parts[number]
    known = [known for known, _ in network.named_modules() if known]
    if layer not in known:
        raise ConfigError(f"encoder.layers: {name} has no layer {layer!r}. Nearest: {nearest(layer, known)}")
    return layer


def part_names(network: nn.Module) -> list[str]:
    """Return the names of the parts of a network, first to last.

    timm lists them itself. Of torchvision's networks they are the children of what holds the layers.

    >>> import torchvision
    >>> part_names(torchvision.models.resnet18())
    ['layer1', 'layer2', 'layer3', 'layer4']
    """
    listed = getattr(network, "feature_info", None)
    if listed is not None:
        return [str(info["module"]) for info in listed]
    modules = dict(network.named_modules())
    for holder in PARTS:
        if holder in modules:
            return [f"{holder}.{child}" for child, _ in modules[holder].named_children()]
    return [
        child for child, _ in network.named_children() if re.fullmatch(r"layer\d+|stage\d+|block\d+", child)
    ]
