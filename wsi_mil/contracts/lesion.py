"""What an expert (or the synthetic truth) outlined."""

from dataclasses import dataclass

from shapely import MultiPolygon

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class Lesion:
    """One lesion: polygons with holes in level-0 pixels, its class, its slide."""

    slide_id: str
    label: str
    geometry: MultiPolygon

    def __post_init__(self) -> None:
        if self.geometry.is_empty or not self.geometry.is_valid:
            raise DataError(f"lesion {self.label!r} of slide {self.slide_id!r} is empty or crosses itself")
