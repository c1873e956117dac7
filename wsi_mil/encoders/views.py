"""What is done to tiles before the encoder sees them: stains as in a reference slide, and views for augmentation.

Colours are changed by one map per slide, found in a sample of its tiles, so a tile's features do not depend on the tiles beside it.
A view is a flip or turn and other stains, drawn for the slide: a second table of features to train on, not a better one.
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
"""So many of a slide's tiles, evenly spread, and about so many of their pixels tell its stains."""
Colours = tuple[ColourMap, ...]


@dataclass(frozen=True)
class View:
    """`stain`: none, macenko or reinhard. `number` 0 is the plain view; others turn the tile and change stains by `strength`."""

    stain: str = "none"
    number: int = 0
    strength: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, spec: EncoderSpec) -> "View":
        return cls(
            spec.stain,
            spec.view,
            spec.view_stain_strength if spec.view else 0.0,
            spec.seed if spec.view else 0,
        )

    @property
    def identity(self) -> dict[str, object]:
        """What features depend on, beside the encoder; nothing for tiles as they are."""
        found: dict[str, object] = {"stain": self.stain} if self.stain != "none" else {}
        if self.number:
            found["view"] = {"number": self.number, "stain_strength": self.strength, "seed": self.seed}
        return found

    @property
    def needs_sample(self) -> bool:
        return self.stain != "none" or self.strength > 0

    def colours(self, slide_id: str, sample: RGB) -> Colours:
        """Return the slide's maps, one after the other, from a sample of its tiles; none, with a warning, if it shows no tissue."""
        try:
            maps = [NORMALISERS[self.stain](sample)] if self.stain != "none" else []
            if self.strength > 0:
                digest = hashlib.sha256(slide_id.encode()).digest()[:8]
                rng = np.random.default_rng([self.seed, self.number, int.from_bytes(digest, "little")])
                maps.append(jitter_map(sample, self.strength, rng))
        except SlideError as error:
            logger().warning("slide %s keeps its colours: %s", slide_id, error)
            return ()
        return tuple(maps)

    def __call__(self, pixels: Tensor, colours: Sequence[Colours]) -> Tensor:
        """Return the tiles (B, S, S, 3) uint8 of this view, on their device; `colours`: of the slide of each tile."""
        for step in range(max(map(len, colours), default=0)):
            pixels = recolour(pixels, [maps[step] if len(maps) > step else None for maps in colours])
        if self.number:
            pixels = torch.rot90(pixels, self.number % 4, (1, 2))
            if self.number // 4 % 2:
                pixels = pixels.flip(2)
        return pixels


def recolour(pixels: Tensor, maps: Sequence[ColourMap | None]) -> Tensor:
    """Return tiles (B, S, S, 3) uint8 whose colours are changed by the map of each; None leaves a tile as it is.

    Written out plane by plane: a library's matrix product may round a pixel differently in another batch.
    """
    identity = ColourMap.of_density(np.eye(3))
    used = [entry or identity for entry in maps]
    table = torch.log((torch.arange(256, dtype=torch.float32) + 1) / 256).to(pixels.device)

    def each(values: Sequence[np.ndarray]) -> Tensor:
        return (
            torch.from_numpy(np.stack(values)).float().to(pixels.device)[..., None, None]
        )  # (B, 3, 3, 1, 1) or (B, 3, 1, 1)

    planes = [pixels[..., channel] for channel in range(3)]
    if all((entry.primaries == np.eye(3)).all() for entry in used):
        logs = [table[plane.int()] for plane in planes]
        back = None
    else:
        primaries = each([entry.primaries for entry in used])
        light = _product([(plane.float() + 1) / 256 for plane in planes], primaries)
        logs = [plane.log() for plane in light]
        back = each([np.linalg.inv(entry.primaries) for entry in used])
    shift = each([entry.shift for entry in used])
    changed = _product(logs, each([entry.matrix for entry in used]))
    light = [(plane + shift[:, channel]).exp() for channel, plane in enumerate(changed)]
    if back is not None:
        light = _product(light, back)
    found = torch.stack([(256 * plane - 1).round_().clamp_(0, 255) for plane in light], -1).to(torch.uint8)
    kept = torch.tensor([entry is None for entry in maps], device=pixels.device)
    return torch.where(kept[:, None, None, None], pixels, found)


def _product(planes: list[Tensor], matrix: Tensor) -> list[Tensor]:
    """Three planes (B, S, S) times (B, 3, 3, 1, 1), as rows."""
    return [sum((planes[i] * matrix[:, i, j] for i in (1, 2)), planes[0] * matrix[:, 0, j]) for j in range(3)]
