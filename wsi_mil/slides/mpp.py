"""The scale of a slide in µm per level-0 pixel: which properties state it, and which of them is taken."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from wsi_mil.errors import DataError, ScaleError, SlideError
from wsi_mil.io.xml import each_element, local_name
from wsi_mil.logs import logger
from wsi_mil.slides.levels import Size
from wsi_mil.units import UM_PER_UNIT

PLAUSIBLE_MPP = (0.05, 20.0)  # a photo editor's tag of 300 dpi means 84.7 µm/px, which no microscope has
DISAGREEMENT = 0.05  # relative difference of two sources that is noted
ANISOTROPY = 0.01  # relative difference of mpp_x and mpp_y that is noted
NUMBER = r"[0-9]*[.,]?[0-9]+(?:[eE][+-]?[0-9]+)?"
UM = {
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
    "å": 1e-4,
    "angstrom": 1e-4,
}
"""µm of each unit that OME and others use, in lower case. `pixel` and `reference frame` are no length."""
PLAIN = re.compile(
    rf"\bmpp\b\s{{0,9}}[=:]\s{{0,9}}({NUMBER})(?![0-9.,]*[0-9])\s?(?:([µμ]m|um|nm|mm)\b)?", re.IGNORECASE
)
"""'MPP = 0.25' with a decimal point or comma, and perhaps a unit. Two numbers in a row are not taken."""
SEARCHED_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Scale:
    """µm per level-0 pixel in x and y, the property that states it, and notes on doubtful or contradicting
    ones.
    """

    mpp_x: float
    mpp_y: float
    source: str
    notes: tuple[str, ...] = ()


def find_scale(
    properties: Mapping[str, object],
    slide_id: str,
    override: float | tuple[float, float] | None = None,
    size_px: Size | None = None,
) -> Scale:
    """Return the scale from the first source that gives a plausible one; an override is always taken.

    The order is: override, openslide.mpp-x/y, aperio.MPP, tiff.XResolution/YResolution, in
    tiff.ImageDescription or the comment OME's PhysicalSizeX/Y, then 'MPP = 0.5', and tiffslide.mpp-x/y.
    size_px: width and height of level 0; of several images in OME-XML, the one of this size is taken.
    Plausible is 0.05 to 20 µm/px. Objective power is never used. Raises ScaleError, which names the settings
    that give a scale, if there is none.

    >>> find_scale({"aperio.MPP": "0.499"}, "a").source
    'aperio.MPP'
    """
    notes: list[str] = []
    found: list[Scale] = []
    for scale in stated_scales(properties, size_px, notes):
        low, high = PLAUSIBLE_MPP
        if low <= scale.mpp_x <= high and low <= scale.mpp_y <= high:
            found.append(scale)
        else:
            notes.append(f"{scale.source} says {scale.mpp_x:.4g} µm/px: not plausible, ignored")
    if override is not None:
        mpp_x, mpp_y = override if isinstance(override, tuple) else (override, override)
        if not (0 < mpp_x < math.inf and 0 < mpp_y < math.inf):
            raise SlideError(f"slide {slide_id!r}: the mpp override must be positive, got {override}")
        found.insert(0, Scale(mpp_x, mpp_y, "override"))
    if not found:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise ScaleError(
            f"slide {slide_id!r} does not say its µm per pixel{reasons}. Give it: a column 'mpp' in the "
            "labels CSV for this slide, or slides.mpp=0.25 (--mpp 0.25) for the whole run"
        )
    taken = found[0]
    for other in found[1:]:
        if abs(other.mpp_x / taken.mpp_x - 1) > DISAGREEMENT:
            notes.append(f"{other.source} says {other.mpp_x:.4g}, {taken.source} {taken.mpp_x:.4g} µm/px")
    if abs(taken.mpp_x / taken.mpp_y - 1) > ANISOTROPY:
        notes.append(f"pixels are not square: {taken.mpp_x:.4g} x {taken.mpp_y:.4g} µm")
    return Scale(taken.mpp_x, taken.mpp_y, taken.source, tuple(notes))


def parse_number(text: object) -> float:
    """Return a positive number written with a decimal point or comma, perhaps with an exponent; else 0.

    >>> [parse_number(text) for text in ("0.25", " 2,5e-1 ", "1.234,5", "nan", "-1", None)]
    [0.25, 0.25, 0.0, 0.0, 0.0, 0.0]
    """
    stripped = str(text).strip().removeprefix("+")
    if len(stripped) > 64 or not re.fullmatch(NUMBER, stripped):
        return 0.0
    number = float(stripped.replace(",", "."))
    return number if number < math.inf else 0.0


def stated_scales(properties: Mapping[str, object], size_px: Size | None, notes: list[str]) -> list[Scale]:
    """Return every scale that a property states, best source first, plausible or not."""
    text = {key: str(value) for key, value in properties.items() if value is not None}
    scales = []

    def add(x: str | None, y: str | None, source: str) -> None:
        numbers = [parse_number(value) for value in (x if x is not None else y, y if y is not None else x)]
        if numbers[0] and numbers[1]:
            scales.append(Scale(numbers[0], numbers[1], source))
        elif x is not None or y is not None:
            notes.append(
                f"{source} is {(x if x is not None else y or '')[:40]!r}, no positive number: ignored"
            )

    add(text.get("openslide.mpp-x"), text.get("openslide.mpp-y"), "openslide.mpp")
    add(text.get("aperio.MPP"), None, "aperio.MPP")
    scales.extend(_from_tiff_tags(text, notes))
    for key in ("tiff.ImageDescription", "openslide.comment", "tiffslide.comment"):
        scales.extend(_from_description(text.get(key, ""), key, size_px, notes))
    add(text.get("tiffslide.mpp-x"), text.get("tiffslide.mpp-y"), "tiffslide.mpp")
    return scales


def _from_tiff_tags(text: Mapping[str, str], notes: list[str]) -> list[Scale]:
    """Return the scale of the resolution tags, which need a unit of length and both axes; else nothing."""
    unit = text.get("tiff.ResolutionUnit", "").lower().rpartition(".")[2]
    um = UM_PER_UNIT.get({"2": "inch", "3": "centimeter", "cm": "centimeter"}.get(unit, unit))
    stated = [text.get(f"tiff.{axis}Resolution") for axis in "XY"]
    x, y = (parse_number(value) for value in stated)
    if um is None or stated == [None, None]:
        return []
    if not x or not y:
        notes.append(f"tiff.XResolution and YResolution are {stated[0]} and {stated[1]}: ignored")
        return []
    return [Scale(um / x, um / y, "tiff.XResolution")]


def _from_description(comment: str, key: str, size_px: Size | None, notes: list[str]) -> Iterator[Scale]:
    """Yield the scales in a description: OME-XML's PhysicalSize in its unit, and a plain 'MPP = 0.25'."""
    if re.search(r"<(?:\w{1,40}:)?OME\b", comment[:SEARCHED_CHARACTERS]):
        yield from _from_ome(comment, key, size_px, notes)
    plain = PLAIN.search(comment[:SEARCHED_CHARACTERS])
    mpp = parse_number(plain.group(1)) * UM[_unit(plain.group(2) or "um")] if plain else 0.0
    if mpp:
        yield Scale(mpp, mpp, f"MPP in {key}")


@lru_cache(maxsize=2)  # a description is asked for under several names; one of 8 MiB takes up to 1 s
def _ome_pixels(text: str) -> tuple[dict[str, str], ...] | str:
    """Return the attributes of the images in OME-XML, or why it cannot be read."""
    images: list[dict[str, str]] = []

    def found(name: str, attributes: Mapping[str, str]) -> None:
        if local_name(name) == "Pixels":
            images.append(dict(attributes))

    try:
        each_element(text, "the description", found)
    except (SyntaxError, ValueError, DataError) as error:
        logger().debug("OME-XML that cannot be read", exc_info=True)
        return f"{type(error).__name__}: {error}"
    return tuple(images)


def _from_ome(comment: str, key: str, size_px: Size | None, notes: list[str]) -> Iterator[Scale]:
    """Yield the scale of the first image in OME-XML that has the size of level 0."""
    images = _ome_pixels(comment.strip("\ufeff\0 \t\r\n"))
    if isinstance(images, str):
        notes.append(f"the OME-XML in {key} cannot be read ({images}): ignored")
        return
    if size_px is not None:
        sizes = [(pixels.get("SizeX", "").strip(), pixels.get("SizeY", "").strip()) for pixels in images]
        images = tuple(
            pixels
            for pixels, size in zip(images, sizes, strict=True)
            if size == (str(size_px[0]), str(size_px[1]))
        )
        if not images and sizes:
            notes.append(f"the OME-XML in {key} has no image of {size_px[0]} x {size_px[1]} px: ignored")
    if not images:
        return
    x, y = (_ome_size(images[0], axis, notes) for axis in "XY")
    if x and y:
        yield Scale(x, y, f"OME PhysicalSize in {key}")


def _ome_size(pixels: Mapping[str, str], axis: str, notes: list[str]) -> float:
    """Return the PhysicalSize of an axis in µm, or 0."""
    size = pixels.get(f"PhysicalSize{axis}")
    if size is None:
        return 0.0
    unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
    um = parse_number(size) * UM.get(_unit(unit), 0.0)
    if not um:
        notes.append(f"OME PhysicalSize{axis} is {size[:40]!r} {unit[:40]!r}, no positive length: ignored")
    return um


def _unit(text: str) -> str:
    """Return a unit as it is written in `UM`: Greek mu is micro, the sign for Ångström its letter."""
    return unicodedata.normalize("NFKC", text).strip().replace("μ", "µ").lower().replace("μ", "µ")
