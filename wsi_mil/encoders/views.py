"""What is done to tiles before they are encoded: stains as on a reference slide, and augmented views.

The colours of a slide are changed by one map, which is found in a sample of the slide's tiles. The features
of a tile therefore do not depend on the other tiles of its batch. An augmented view rotates or flips the
tiles and changes their stains by chance; its features are stored as a second table, which training may draw
from.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsi_mil.contracts.arrays import RGB
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import SlideError
from wsi_mil.logs import logger
from wsi_mil.stains import ColourMap, jitter_map, macenko_map, reinhard_map

NORMALISERS = {"macenko": macenko_map, "reinhard": reinhard_map}
SAMPLE_TILES, SAMPLE_PIXELS = 24, 100_000
"""Stains are measured on this many tiles of a slide, spread evenly, and on about this many pixels in all."""
Colours = tuple[ColourMap, ...]
"""The colour changes of one slide, in the order in which they are applied."""


@dataclass(frozen=True)
class View:
    """What is done to the tiles of a slide before they are encoded.

    `stain`: none, macenko or reinhard. `number`: 0 for the plain view; others rotate or flip the tile and
    change its stains by `strength` (0 to 1), drawn under `seed`.
    """

    stain: str = "none"
    number: int = 0
    strength: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, spec: EncoderSpec) -> "View":
        """Return the view that `spec` asks for."""
        chosen = spec.augmentation
        return cls(spec.model.stain, chosen.view, chosen.stain_strength, chosen.seed)

    @property
    def identity(self) -> dict[str, object]:
        """What the view adds to the identity of an encoder; empty for tiles as they are."""
        found: dict[str, object] = {"stain": self.stain} if self.stain != "none" else {}
        if self.number:
            found["view"] = {"number": self.number, "stain_strength": self.strength, "seed": self.seed}
        return found

    @property
    def needs_sample(self) -> bool:
        """Whether the colours of a slide have to be measured on a sample of its tiles."""
        return self.stain != "none" or self.strength > 0

    def colours(self, slide_id: str, sample: RGB) -> Colours:
        """Return the colour changes of a slide, found in `sample` (..., 3) uint8 of its tiles.

        The random part depends on seed, view number and slide id alone, not on other slides or their order.
        Without enough tissue in the sample it returns none and warns.
        """
        try:
            maps = [NORMALISERS[self.stain](sample)] if self.stain != "none" else []
            if self.strength > 0:
                maps.append(jitter_map(sample, self.strength, self._generator(slide_id)))
        except SlideError as error:
            logger().warning("slide %s keeps its colours: %s", slide_id, error)
            return ()
        return tuple(maps)

    def _generator(self, slide_id: str) -> np.random.Generator:
        # Not named_generator: stored views were drawn from this one, and other draws would make them stale.
        digest = hashlib.sha256(slide_id.encode()).digest()[:8]
        return np.random.default_rng([self.seed, self.number, int.from_bytes(digest, "little")])

    def __call__(self, pixels: Tensor, colours: Sequence[Colours]) -> Tensor:
        """Return the tiles (B, S, S, 3) uint8 as this view shows them, on their device.

        `colours`: for each tile the colour changes of its slide.
        """
        for step in range(max(map(len, colours), default=0)):
            pixels = recolour(pixels, [maps[step] if len(maps) > step else None for maps in colours])
        if self.number:
            pixels = torch.rot90(pixels, self.number % 4, (1, 2))
            if self.number // 4 % 2:
                pixels = pixels.flip(2)
        return pixels


def recolour(pixels: Tensor, maps: Sequence[ColourMap | None]) -> Tensor:
    """Return tiles (B, S, S, 3) uint8, each with its colours changed by its own map; None leaves a tile
    unchanged.

    The products are written out plane by plane, since a library's matrix product may round a pixel
    differently in another batch.
    """
    identity = ColourMap.of_density(np.eye(3))
    used = [entry or identity for entry in maps]
    table = torch.log((torch.arange(256, dtype=torch.float32) + 1) / 256).to(pixels.device)

    def stacked(values: Sequence[np.ndarray]) -> Tensor:
        """(B, 3, 3, 1, 1) of matrices, or (B, 3, 1, 1) of vectors, on the device of the pixels."""
        return torch.from_numpy(np.stack(values)).float().to(pixels.device)[..., None, None]

    planes = [pixels[..., channel] for channel in range(3)]
    if all((entry.primaries == np.eye(3)).all() for entry in used):
        logs = [table[plane.int()] for plane in planes]
        back = None
    else:
        primaries = stacked([entry.primaries for entry in used])
        light = _product([(plane.float() + 1) / 256 for plane in planes], primaries)
        logs = [plane.log() for plane in light]
        back = stacked([np.linalg.inv(entry.primaries) for entry in used])
    shift = stacked([entry.shift for entry in used])
    changed = _product(logs, stacked([entry.matrix for entry in used]))
    light = [(plane + shift[:, channel]).exp() for channel, plane in enumerate(changed)]
    if back is not None:
        light = _product(light, back)
    found = torch.stack([(256 * plane - 1).round_().clamp_(0, 255) for plane in light], -1).to(torch.uint8)
    kept = torch.tensor([entry is None for entry in maps], device=pixels.device)
    return torch.where(kept[:, None, None, None], pixels, found)


def _product(planes: list[Tensor], matrix: Tensor) -> list[Tensor]:
    """Return three planes (B, S, S), taken as row vectors, times `matrix` (B, 3, 3, 1, 1)."""
    return [sum((planes[i] * matrix[:, i, j] for i in (1, 2)), planes[0] * matrix[:, 0, j]) for j in range(3)]
