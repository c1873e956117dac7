"""The features of the studies by set of images and network, computed where a file lacks."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.layers.features import Features, encoded, lung_tiles
from pipelines.layers.networks import NETWORKS
from pipelines.layers.sets import (
    LUNG_INPUT_PX,
    NUCLEUS_INPUT_PX,
    PLAIN,
    Lung,
    Nuclei,
    laboratories,
)
from pipelines.lung.spec import CARCINOMAS
from wsi_mil.contracts.arrays import RGB
from wsi_mil.encoders import EncoderSpec

TEXTURE = "texture"
ENCODERS = (*(network.name for network in NETWORKS), TEXTURE)


class Source:
    """Where images, weights and computed features lie. weights: network -> file."""

    def __init__(self, archive: Path, weights: Mapping[str, Path], cache: Path) -> None:
        self._archive, self._weights, self._cache = archive, dict(weights), cache

    def probe_features(self, nuclei: Nuclei, lung: Lung) -> dict[tuple[str, str], Features]:
        """Return (set, encoder) -> features of all layers, for nuclei and for lung images of carcinoma."""
        carcinomas = lung.only(CARCINOMAS)
        looks = {"lung_plain": carcinomas.seen_by(PLAIN), "lung_changed": carcinomas.stained_by_group()}
        found = self.colon(nuclei)
        for name, images in looks.items():
            tiles = lung_tiles(self._archive, images)
            found |= self._encoded(name, len(images), LUNG_INPUT_PX, tiles)
        return found

    def colon(self, nuclei: Nuclei) -> dict[tuple[str, str], Features]:
        """Return ("colon", encoder) -> features of all layers."""
        return self._encoded("colon", len(nuclei.images), NUCLEUS_INPUT_PX, lambda rows: nuclei.images[rows])

    def laboratories(self, lung: Lung) -> dict[tuple[str, str], Features]:
        """Return (laboratory, encoder) -> features of all layers for every image of `lung`."""
        found: dict[tuple[str, str], Features] = {}
        for centre in laboratories():
            tiles = lung_tiles(self._archive, lung.seen_by(centre))
            found |= self._encoded(f"lung_{centre.name}", len(lung.files), LUNG_INPUT_PX, tiles)
        return found

    def _encoded(
        self, name: str, count: int, input_px: int, tiles: Callable[[slice], RGB]
    ) -> dict[tuple[str, str], Features]:
        specs = {network.name: network.spec(self._weights[network.name], input_px) for network in NETWORKS}
        specs[TEXTURE] = EncoderSpec(name=TEXTURE)
        return {
            (name, encoder): encoded(self._cache / f"{name}_{encoder}", spec, count, tiles)
            for encoder, spec in specs.items()
        }
