"""Hamamatsu NDPA, written by NDP.view. Coordinates are nm from the centre of the glass slide.

x in level-0 pixels = (x_nm - XOffsetFromSlideCentre) / (1000 µm/px) + width / 2; y likewise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.evaluation.annotations.rings import Corner, coordinate, ellipse, enclosed
from wsi_mil.evaluation.annotations.xml import inside, text_of
from wsi_mil.io.xml import read_xml

OFFSETS = ("hamamatsu.XOffsetFromSlideCentre", "hamamatsu.YOffsetFromSlideCentre")
SCALES = ("openslide.mpp-x", "openslide.mpp-y")
Place = Callable[[str | None, str | None, str], Corner]


@dataclass(frozen=True)
class NanometresToPixels:
    """How coordinates of one slide become level-0 pixels; all pairs are (x, y)."""

    offset_nm: tuple[float, float]
    nm_per_px: tuple[float, float]
    size_px: tuple[int, int]

    def corner(self, x_nm: str | None, y_nm: str | None, where: str) -> Corner:
        """Return a point in level-0 pixels. Raises DataError, which says `where`, for a broken number."""
        x, y = coordinate(x_nm, f"{where}, x"), coordinate(y_nm, f"{where}, y")
        return (
            (x - self.offset_nm[0]) / self.nm_per_px[0] + self.size_px[0] / 2,
            (y - self.offset_nm[1]) / self.nm_per_px[1] + self.size_px[1] / 2,
        )


def read(file: FileToRead) -> list[Drawn]:
    """Return every annotation; its class is the title of its view state.

    Raises DataError without the slide, and for a slide that does not say where its centre is.
    """
    root = read_xml(file.path)
    to_px = nanometres_to_pixels(file.info)
    return [_drawn(state, number, to_px) for number, state in enumerate(inside(root, "ndpviewstate"), 1)]


def nanometres_to_pixels(info: SlideInfo | None) -> NanometresToPixels:
    """Return the conversion for a slide, from the properties that OpenSlide reads from its file."""
    if info is None or not info.path:
        raise DataError("NDPA is in nm from the centre of the slide: it cannot be placed without the slide")
    properties = slide_properties(info.path)
    missing = [name for name in (*OFFSETS, *SCALES) if name not in properties]
    if missing:
        raise DataError(
            f"NDPA is in nm from the centre of the slide, and slide {info.slide_id!r} ({info.vendor}) does "
            f"not say {', '.join(missing)}: export the outlines as GeoJSON from QuPath instead"
        )
    x_nm, y_nm = (coordinate(properties[name], name) for name in OFFSETS)
    across, down = (1000 * coordinate(properties[name], name) for name in SCALES)
    if min(across, down) <= 0:
        raise DataError(f"slide {info.slide_id!r}: {SCALES[0]} and {SCALES[1]} must be above 0")
    return NanometresToPixels((x_nm, y_nm), (across, down), (info.width_px, info.height_px))


def slide_properties(path: str) -> dict[str, str]:
    """Return the properties that OpenSlide reads from a slide. Raises DataError if it cannot open it."""
    import openslide

    try:
        with openslide.OpenSlide(path) as slide:
            return dict(slide.properties)
    except (openslide.OpenSlideError, OSError) as error:
        raise DataError(
            f"NDPA needs properties of the slide, and OpenSlide cannot open {path} ({error})"
        ) from error


def _drawn(state: Element, number: int, to_px: NanometresToPixels) -> Drawn:
    title = text_of(state, "title") or ""
    names = (title,) if title.strip() else ()
    where = f"annotation {number} ({title!r})"
    unit = (text_of(state, "coordformat") or "nanometers").lower()
    if unit != "nanometers":
        raise DataError(f"{where}: coordformat is {unit!r}, expected 'nanometers': save it again in NDP.view")
    node = next(inside(state, "annotation"), None)
    if node is None:
        return Drawn(names, "view without annotation", None)
    kind = node.get("type", "without type").lower()
    if kind == "circle":
        x, y = to_px.corner(text_of(node, "x"), text_of(node, "y"), where)
        radius = coordinate(text_of(node, "radius"), f"{where}, radius")
        across, down = radius / to_px.nm_per_px[0], radius / to_px.nm_per_px[1]
        return Drawn(names, kind, ellipse([(x - across, y - down), (x + across, y + down)]))
    corners = [
        to_px.corner(text_of(point, "x"), text_of(point, "y"), f"{where}, point {place}")
        for place, point in enumerate(inside(node, "point"), 1)
    ]
    closed = text_of(node, "closed") != "0" or node.get("specialtype") == "rectangle"
    if not closed:
        return Drawn(names, f"open {kind}", None)
    return Drawn(names, kind, enclosed(corners))


FORMAT = AnnotationFormat("NDPA", 3, (".ndpi.ndpa", ".ndpa"), read, root="annotations")
