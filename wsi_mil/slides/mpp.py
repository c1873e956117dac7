"""The scale of a slide in µm per level-0 pixel: which properties state it, and which of them is taken."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from wsi_mil.errors import ScaleError, SlideError
from wsi_mil.units import UM_PER_UNIT

PLAUSIBLE_MPP = (0.02, 50.0)  # a photo editor's tag of 300 dpi means 84.7 µm/px, which no microscope has
DISAGREEMENT = 0.05  # relative difference of two sources that is noted
ANISOTROPY = 0.01  # relative difference of mpp_x and mpp_y that is noted


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
    properties: Mapping[str, object], slide_id: str, override: float | tuple[float, float] | None = None
) -> Scale:
    """Return the scale from the first source that gives a plausible one; an override is always taken.

    The order is: override, openslide.mpp-x/y, tiffslide.mpp-x/y, aperio.MPP, tiff.XResolution/YResolution,
    and in tiff.ImageDescription or the comment OME's PhysicalSizeX/Y, then 'MPP = 0.5'. Objective power is
    never used. Raises ScaleError, which names the settings that give a scale, if there is none.

    >>> find_scale({"aperio.MPP": "0.499"}, "a").source
    'aperio.MPP'
    """
    notes = []
    found: list[Scale] = []
    for scale in _candidates(properties):
        low, high = PLAUSIBLE_MPP
        if low <= scale.mpp_x <= high and low <= scale.mpp_y <= high:
            found.append(scale)
        else:
            notes.append(f"{scale.source} says {scale.mpp_x:.4g} µm/px: not plausible, ignored")
    if override is not None:
        mpp_x, mpp_y = override if isinstance(override, tuple) else (override, override)
        if min(mpp_x, mpp_y) <= 0:
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


def _candidates(properties: Mapping[str, object]) -> list[Scale]:
    """Return every scale that a property states, best source first, plausible or not."""
    text = {key: str(value) for key, value in properties.items() if value is not None}
    scales = []

    def add(x: str | None, y: str | None, source: str, factor: float = 1.0) -> None:
        numbers = [_number(value) for value in (x if x is not None else y, y if y is not None else x)]
        if numbers[0] and numbers[1]:
            scales.append(Scale(numbers[0] * factor, numbers[1] * factor, source))

    add(text.get("openslide.mpp-x"), text.get("openslide.mpp-y"), "openslide.mpp")
    add(text.get("tiffslide.mpp-x"), text.get("tiffslide.mpp-y"), "tiffslide.mpp")
    add(text.get("aperio.MPP"), None, "aperio.MPP")
    scales.extend(_from_tiff_tags(text))
    for key in ("tiff.ImageDescription", "openslide.comment", "tiffslide.comment"):
        scales.extend(_from_description(text.get(key, ""), key))
    return scales


def _number(text: str | None) -> float:
    """Return a positive number, or 0 for anything else."""
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        return 0.0


def _from_tiff_tags(text: Mapping[str, str]) -> list[Scale]:
    """Return the scale of the resolution tags, which need a unit of length and both axes; else nothing."""
    unit = text.get("tiff.ResolutionUnit", "").lower().rpartition(".")[2]
    um = UM_PER_UNIT.get({"2": "inch", "3": "centimeter", "cm": "centimeter"}.get(unit, unit))
    x, y = (_number(text.get(f"tiff.{axis}Resolution")) for axis in "XY")
    if um is None or not x or not y:
        return []
    return [Scale(um / x, um / y, "tiff.XResolution")]


def _from_description(comment: str, key: str) -> list[Scale]:
    """Return the scales in a description: OME-XML's PhysicalSize in its unit, and a plain 'MPP = 0.25'."""
    scales = []
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", comment)
    if pixels:
        x, y = (_ome_size(pixels.group(), axis) for axis in "XY")
        if x and y:
            scales.append(Scale(x, y, f"OME PhysicalSize in {key}"))
    plain = re.search(r"\bmpp\b\s*[=:]\s*([0-9.]+)", comment, re.IGNORECASE)
    if plain and _number(plain.group(1)):
        mpp = _number(plain.group(1))
        scales.append(Scale(mpp, mpp, f"MPP in {key}"))
    return scales


def _ome_size(pixels: str, axis: str) -> float:
    """Return the PhysicalSize of an axis in µm, or 0."""
    size = re.search(rf'\bPhysicalSize{axis}="([^"]+)"', pixels)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', pixels)
    um = {"µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "nm": 1e-3, "cm": 1e4, "m": 1e6}
    return _number(size.group(1) if size else None) * um.get(unit.group(1) if unit else "µm", 0.0)
