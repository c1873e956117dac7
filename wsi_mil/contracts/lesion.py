"""A lesion as an expert, or the synthetic truth, outlined it."""

from dataclasses import dataclass

from shapely import MultiPolygon

from wsi_mil.contracts.record import Record, require, require_name


@dataclass(frozen=True)
class Lesion(Record):
    """One lesion of a slide: the class that it was given, and its outline.

    geometry: polygons, holes allowed, in level-0 pixels; valid and not empty. sources: the classes, as the
    annotation file names them, of the objects that the lesion was drawn as; empty where there is no file.
    """

    slide_id: str
    label: str
    geometry: MultiPolygon
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"lesion {self.label!r} of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        outline = self.geometry
        valid = isinstance(outline, MultiPolygon)
        valid = valid and outline.is_valid and not outline.is_empty
        expected = "a MultiPolygon that is not empty and does not cross itself"
        require(valid, where, "geometry", expected, outline)
