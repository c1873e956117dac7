"""What a TIFF file holds, before a library reads it: the image that is the slide, its levels, and whether
its pixels can be shown as red, green and blue of 8 bits."""

import re
from dataclasses import dataclass
from typing import Any

from wsi_mil import limits
from wsi_mil.contracts.record import Record
from wsi_mil.errors import SlideError
from wsi_mil.slides.levels import Size
from wsi_mil.slides.pyramids import alike, find_slide, levels_of
from wsi_mil.slides.tiff_pages import (
    BLACK_IS_ZERO,
    CMYK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    TiffPage,
    pages_of,
    tiff_content,
)

NAMES = {4: "transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 32803: "colour filter array"}
EIGHT_BITS = "Convert it to RGB of 8 bits per channel, for example with vips or QuPath"
SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating point", 5: "complex", 6: "complex"}
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, PALETTE: 1, RGB: 3, YCBCR: 3, CMYK: 4}

CHANNELS = re.compile(r"^channels=(\d{1,4})\s*$|\bSizeC=[\"'](\d{1,4})[\"']", re.MULTILINE)
"""How ImageJ and OME state channels that have no image of their own in the file."""
SEARCHED_CHARACTERS = 1 << 20
"""Of a description: channels are stated near its start, before the places of planes."""


class PixelError(SlideError):
    """A file holds pixels that no reader may show: it is refused, whichever reader is chosen."""


@dataclass(frozen=True)
class Inspection(Record):
    """The image that is the slide, and all levels of its pyramid (level 0 first).

    level_sizes_px: the part of each level that shows the slide. plain: whether its pixels are RGB of 8 bits
    as they are stored, or JPEG's YCbCr, so that every library shows them alike. notes: what else the file
    holds that a user should know.
    """

    levels: tuple[TiffPage, ...]
    level_sizes_px: tuple[Size, ...]
    plain: bool
    notes: tuple[str, ...]
    pages: tuple[TiffPage, ...]

    def is_no_level(self, size_px: Size) -> bool:
        """Whether all images of this size are labels, macros or thumbnails, or have other pixels."""
        slide = self.levels[0]
        same = [page for page in self.pages if page.size_px == size_px]
        return bool(same) and all(page.associated or not alike(slide, page) for page in same)


def inspect(path: str, slide_id: str) -> Inspection | None:
    """Return what a TIFF file holds, None for another format.

    Raises PixelError if its pixels are no image of stained tissue that can be shown as RGB (fluorescence,
    more than 8 bits, floating point, unusual colours or orientation), or if the file is damaged.
    """
    try:
        pages = tiff_content(path).pages
    except SlideError as error:
        raise PixelError(f"slide {slide_id!r}: {error}") from error
    return _inspection(pages, slide_id) if pages else None


def inspect_open(tiff: Any, path: str, slide_id: str) -> Inspection:
    """Return the same of an open `tifffile.TiffFile`, for files behind URLs."""
    try:
        return _inspection(pages_of(tiff, path), slide_id)
    except SlideError:
        raise
    except Exception as error:
        raise PixelError(
            f"slide {slide_id!r} is a damaged TIFF file ({type(error).__name__}: {error}): {path}"
        ) from error


def _inspection(pages: tuple[TiffPage, ...], slide_id: str) -> Inspection:
    own = [page for page in pages if not page.associated] or list(pages)
    top = [page for page in own if len(page.place) == 1] or own
    found = find_slide(pages)
    slide = found.page
    notes = found.notes + _check_pixels(slide, top, slide_id)
    levels, sizes = levels_of(slide, own)
    plain = (
        slide.photometric in (RGB, YCBCR)
        and not slide.planar
        and (slide.samples == 3 or (slide.samples == 4 and slide.opacity == 2))
    )
    return Inspection(levels, sizes, plain, notes, pages)


def _check_pixels(slide: TiffPage, top: list[TiffPage], slide_id: str) -> tuple[str, ...]:
    """Return notes on a slide that can be shown; raise PixelError for one that cannot."""

    def refuse(what: str, advice: str = EIGHT_BITS) -> PixelError:
        return PixelError(f"slide {slide_id!r} {what}. {advice}")

    width, height = slide.size_px
    if min(width, height) < 1 or slide.segment_px > limits.TILE_PX.most or slide.segment_px < 1:
        raise refuse(
            f"states an image of {width} x {height} px in tiles or strips of {slide.segment_px} px, expected "
            f"1 to {limits.TILE_PX.most}",
            "The file is damaged, or must be written again in tiles of 256 px",
        )
    if slide.fluorescence:
        raise refuse(
            f"is a fluorescence image (filter {slide.fluorescence!r}), expected stained tissue in RGB",
            "Take it out of the folder",
        )
    colours = COLOURS.get(slide.photometric)
    if colours is None:
        name = NAMES.get(slide.photometric, f"photometric interpretation {slide.photometric}")
        raise refuse(f"has {name} pixels, expected RGB, YCbCr, CMYK, gray or palette")
    if slide.samples not in (colours, colours + (slide.opacity > 0)):
        raise refuse(
            f"has {slide.samples} channels, expected {colours}"
            + (" (gray)" if colours == 1 else "")
            + " with or without opacity, or RGB: it is probably a fluorescence image",
            "Export the channels that are wanted as RGB of 8 bits",
        )
    if slide.bits != 8 or slide.sample_format not in (1, 4):
        kind = SAMPLE_FORMATS.get(slide.sample_format, f"sample format {slide.sample_format}")
        raise refuse(f"has {kind} pixels of {slide.bits} bits per channel, expected unsigned of 8 bits")
    if slide.orientation != 1:
        raise refuse(
            f"has the orientation tag {slide.orientation}, expected 1 (first row on top, first column left)",
            "Turn its pixels and set the tag to 1, for example with vips autorot",
        )
    alike = (page for page in top if (page.tile_px is None) == (slide.tile_px is None))
    channels = CHANNELS.search(slide.description[:SEARCHED_CHARACTERS])
    stated = int(next(filter(None, channels.groups()))) if channels else 1
    if colours == 1 and slide.photometric != PALETTE and stated > 1:
        raise refuse(
            f"is a gray image whose description states {stated} channels, expected one RGB image",
            "Export the channels that are wanted as RGB of 8 bits",
        )
    same = [page for page in alike if page.size_px == slide.size_px and not page.reduced]
    if colours == 1 and slide.photometric != PALETTE and len(same) > 1:
        raise refuse(
            f"holds {len(same)} gray images of {width} x {height} px, expected one RGB image: they are "
            "probably channels of a fluorescence image",
            "Export the channels that are wanted as RGB of 8 bits",
        )
    return (f"the first of {len(same)} images of {width} x {height} px is read",) if len(same) > 1 else ()
