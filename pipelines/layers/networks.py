"""The networks of the study, and which layers of them are candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.encoders.spec import EncoderSpec, LayerPooling

POOLINGS: tuple[LayerPooling, ...] = ("mean", "mean+std")


@dataclass(frozen=True)
class Candidate:
    """Layers whose pooled outputs are joined to one feature vector."""

    layers: tuple[str, ...]
    pooling: LayerPooling

    @property
    def label(self) -> str:
        """The layers and the pooling in words: `features.7 + features.9, mean`."""
        return f"{' + '.join(self.layers)}, {self.pooling}"

    @classmethod
    def of_label(cls, label: str) -> "Candidate":
        """Return the candidate of a label.

        >>> Candidate.of_label("features.7 + features.9, mean").layers
        ('features.7', 'features.9')
        """
        layers, _, pooling = label.partition(", ")
        return cls(tuple(layers.split(" + ")), "mean" if pooling == "mean" else "mean+std")


@dataclass(frozen=True)
class Network:
    """A network with its layers. channels: layer -> number of its maps, first to last.

    The mean of the last layer is what the network gives by itself. paired: the layers that are also joined
    in pairs.
    """

    name: str
    channels: Mapping[str, int]
    paired: tuple[str, ...]

    @property
    def last(self) -> Candidate:
        """The network's own features."""
        return Candidate((list(self.channels)[-1],), "mean")

    def candidates(self) -> list[Candidate]:
        """Return each layer and each pair, with both poolings; the last layer's mean is one of them."""
        layers = [*((layer,) for layer in self.channels), *combinations(self.paired, 2)]
        return [Candidate(joined, pooling) for pooling in POOLINGS for joined in layers]

    def spec(self, weights: Path, input_px: int) -> EncoderSpec:
        """Return the encoder that gives mean and standard deviation of all layers in one pass."""
        return EncoderSpec(
            name=f"torchvision:{self.name}",
            weights=str(weights),
            input_px=input_px,
            layers=tuple(self.channels),
            layer_pooling="mean+std",
        )

    def columns(self, candidate: Candidate) -> NDArray[np.int64]:
        """Return which columns of the features of `spec` belong to a candidate."""
        found, start = [], 0
        places = {}
        for layer, width in self.channels.items():
            places[layer] = start
            start += 2 * width
        for layer in candidate.layers:
            width = self.channels[layer] * (2 if candidate.pooling == "mean+std" else 1)
            found.append(np.arange(places[layer], places[layer] + width))
        return np.concatenate(found)


SQUEEZENET = Network(
    "squeezenet1_0",
    {
        "features.3": 128,
        "features.4": 128,
        "features.5": 256,
        "features.7": 256,
        "features.8": 384,
        "features.9": 384,
        "features.10": 512,
        "features.12": 512,
    },
    ("features.5", "features.7", "features.9", "features.12"),
)
MOBILENET = Network(
    "mobilenet_v2",
    {
        "features.2.conv.0": 96,
        "features.4.conv.0": 144,
        "features.6": 32,
        "features.7.conv.0": 192,
        "features.10": 64,
        "features.11.conv.0": 384,
        "features.13": 96,
        "features.14.conv.0": 576,
        "features.17.conv.0": 960,
        "features.17": 320,
        "features.18": 1280,
    },
    ("features.7.conv.0", "features.11.conv.0", "features.14.conv.0", "features.17.conv.0"),
)
NETWORKS = (SQUEEZENET, MOBILENET)
PROPOSED = Candidate(("features.7.conv.0", "features.14.conv.0"), "mean")
"""Layers of MobileNetV2 that an earlier look at the same sets named; nothing here chose them."""
