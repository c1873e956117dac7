"""The levels of a library's handle that may be used, with their true sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsi_mil import limits
from wsi_mil.contracts.record import Record
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.slides.inspection import Inspection
from wsi_mil.slides.levels import VENDOR_TOLERANCE, Size, scale_range, true_sizes
from wsi_mil.units import UM2_PER_MM2

PLAIN_VENDORS = ("generic-tiff", "unknown")
"""What libraries call a TIFF file of no known scanner: there its own structure decides, not the library."""


@dataclass(frozen=True)
class UsableLevels(Record):
    """numbers: the library's number of each level that is used. sizes_px: the part that shows the slide.

    notes: which levels are not used, and which larger image the file holds.
    """

    numbers: tuple[int, ...]
    sizes_px: tuple[Size, ...]
    downsamples: tuple[float, ...]
    notes: tuple[str, ...]


def usable_levels(
    handle: Any,
    properties: Mapping[str, object],
    library: str,
    vendor: str,
    inspection: Inspection | None,
    slide_id: str,
) -> UsableLevels:
    """Return the levels of a handle (`level_dimensions`, `level_downsamples`) that show the slide.

    Raises SlideError if the library shows another image than the slide of the file.
    """
    stated = [(int(width), int(height)) for width, height in handle.level_dimensions]
    plain = vendor in PLAIN_VENDORS
    notes: list[str] = []
    if inspection is not None:
        notes += inspection.notes
        shown, slide = stated[0], inspection.levels[0].size_px
        if plain and shown != slide:
            raise SlideError(
                f"slide {slide_id!r}: {library} shows an image of {shown[0]} x {shown[1]} px, the slide "
                f"of this file is {slide[0]} x {slide[1]} px. Use slides.reader=auto"
            )
        if slide[0] * slide[1] > shown[0] * shown[1]:
            notes.append(f"the file holds a larger image of {slide[0]} x {slide[1]} px, which is not read")
    true = true_sizes(
        stated,
        [_tile(properties, library, number, stated[number], inspection) for number in range(len(stated))]
        if plain
        else [None] * len(stated),
        0.0 if plain else VENDOR_TOLERANCE,
    )
    numbers, sizes, downsamples = [], [], []
    for number, (size, part) in enumerate(zip(stated, true, strict=True)):
        unlike = plain and number > 0 and inspection is not None and inspection.is_no_level(size)
        if part is None or unlike:
            notes.append(f"an image of {size[0]} x {size[1]} px is no level of the slide: not used")
            continue
        numbers.append(number)
        sizes.append(part)
        same = part == size
        downsamples.append(float(handle.level_downsamples[number]) if same else stated[0][0] / part[0])
    return UsableLevels(tuple(numbers), tuple(sizes), tuple(downsamples), tuple(notes))


def _tile(
    properties: Mapping[str, object], library: str, level: int, size: Size, inspection: Inspection | None
) -> Size | None:
    """Return (width, height) of the tiles of a level, from the file or else from the library."""
    for page in inspection.pages if inspection is not None else ():
        if page.size_px == size:
            return page.tile_px
    found = [properties.get(f"{library}.level[{level}].tile-{side}") for side in ("width", "height")]
    sides = [int(str(value)) if str(value).isdigit() else 0 for value in found]
    return (sides[0], sides[1]) if min(sides) > 0 else None


def lacks_levels(slide: object) -> bool:
    """Whether a reader shows fewer levels than the file holds, where only the file's structure decides."""
    inspection, info = getattr(slide, "inspection", None), getattr(slide, "info", None)
    if not isinstance(inspection, Inspection) or not isinstance(info, SlideInfo):
        return False
    return info.vendor in PLAIN_VENDORS and len(info.level_sizes_px) < len(inspection.level_sizes_px)


def check_levels(info: SlideInfo) -> None:
    """Raise SlideError unless the two sides of every level state one downsample, whoever wrote the reader;
    and if the slide exceeds a limit, whichever its format is."""
    full = info.level_sizes_px[0]
    where = f"slide {info.slide_id!r} ({info.path})"
    limits.LEVELS.check(len(info.level_sizes_px), where, SlideError)
    limits.SIDE_PX.check(max(full), where, SlideError)
    limits.IMAGE_PX.check(full[0] * full[1], where, SlideError)
    limits.SLIDE_MM2.check(
        round(full[0] * info.mpp_x * full[1] * info.mpp_y / UM2_PER_MM2), where, SlideError
    )
    for number, size in enumerate(info.level_sizes_px):
        low, high = scale_range(full, size)
        ratios = full[0] / size[0], full[1] / size[1]
        if low > high and abs(ratios[0] / ratios[1] - 1) > VENDOR_TOLERANCE:
            raise SlideError(
                f"slide {info.slide_id!r}: level {number} is {size[0]} x {size[1]} px, level 0 {full[0]} x "
                f"{full[1]}: width and height shrink by {ratios[0]:.4g} and {ratios[1]:.4g}, expected one "
                f"factor. Report it to the author of reader {info.reader!r}"
            )
