"""Which image of a TIFF file is the slide, and which are its levels, where no scanner is known that says it.

The slide is the largest image, unless the file itself says that a smaller one is: photographs of the whole
glass (macro, overview, label) may have no name, and be larger than a small scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wsi_mil.contracts.record import Record
from wsi_mil.slides.levels import Size, scale_range, true_sizes
from wsi_mil.slides.mpp import PLAUSIBLE_MPP, stated_scales
from wsi_mil.slides.tiff_pages import RGB, YCBCR, TiffPage

MOST_PHOTOGRAPH_PX = 1 << 26
"""An image of more pixels (67 million) is no photograph of the glass: cameras of scanners have fewer."""
MOST_COMPARED = 32
"""Of the images of a file, the largest ones are compared."""
FINER = 1.5
"""An image whose stated µm/px is this much finer than that of another one shows more of the tissue."""


@dataclass(frozen=True)
class SlideImage(Record):
    """The image that is the slide, and notes on larger images and on others that might be the slide."""

    page: TiffPage
    notes: tuple[str, ...]


def find_slide(pages: Sequence[TiffPage]) -> SlideImage:
    """Return the image that is the slide; `pages`: all images of a file, at least one.

    A smaller image is the slide if its own scale is finer than that of a larger one; or else, if more of
    these hold for it than for the larger one: it has levels, it is tiled, it is RGB of 8 bits, it is not
    marked as a smaller copy. Where nothing distinguishes two images, the larger one is taken, with a note.
    """
    own = [page for page in pages if not page.associated] or list(pages)
    top = [page for page in own if len(page.place) == 1] or own
    ordered = sorted(top, key=lambda page: (-page.area_px, page.place))
    slide, unclear = ordered[0], list[TiffPage]()
    levels = levels_of(slide, own)[0]
    for page in ordered[1:MOST_COMPARED]:
        if page.size_px == slide.size_px or page in levels or slide.area_px > MOST_PHOTOGRAPH_PX:
            continue
        evidence = _evidence(page, slide, own)
        if evidence > 0:
            slide, unclear, levels = page, [], levels_of(page, own)[0]
        elif evidence == 0:
            unclear.append(page)
    larger = sorted({page.size_px for page in pages if page.area_px > slide.area_px})
    notes = [f"the file holds a larger image of {w} x {h} px, which is not read" for w, h in larger]
    notes += [
        f"it is not clear which image is the slide: the one of {slide.size_px[0]} x {slide.size_px[1]} px is "
        f"read, the one of {page.size_px[0]} x {page.size_px[1]} px is not"
        for page in unclear
    ]
    return SlideImage(slide, tuple(notes))


def _evidence(page: TiffPage, larger: TiffPage, pages: list[TiffPage]) -> int:
    """Return a number above 0 if `page` rather than the `larger` image is the slide, 0 if nothing decides."""
    mpp, mpp_larger = _mpp(page), _mpp(larger)
    if mpp and mpp_larger:
        if mpp_larger > FINER * mpp and PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            return 1
        if mpp > FINER * mpp_larger and PLAUSIBLE_MPP[0] <= mpp_larger <= PLAUSIBLE_MPP[1]:
            return -1
    both = [
        (len(levels_of(page, pages)[0]) > 1, len(levels_of(larger, pages)[0]) > 1),
        (page.tile_px is not None, larger.tile_px is not None),
        (_is_colour(page), _is_colour(larger)),
    ]
    # A writer that marks all images but the first marks the slide, too, if a label comes before it: the mark
    # speaks against the smaller image only.
    copy = page.reduced and not larger.reduced
    return sum(int(of_page) - int(of_larger) for of_page, of_larger in both) - int(copy)


def _mpp(page: TiffPage) -> float:
    """Return the µm/px that an image states itself, 0 if it states none."""
    tags: dict[str, object] = {"tiff.ImageDescription": page.description}
    if page.resolution:
        tags |= zip(
            ("tiff.XResolution", "tiff.YResolution", "tiff.ResolutionUnit"), page.resolution, strict=True
        )
    scales = stated_scales(tags, page.size_px, [])
    return scales[0].mpp_x if scales else 0.0


def _is_colour(page: TiffPage) -> bool:
    return page.photometric in (RGB, YCBCR) and page.bits == 8


def levels_of(slide: TiffPage, pages: list[TiffPage]) -> tuple[tuple[TiffPage, ...], tuple[Size, ...]]:
    """Return the levels of `slide` and the part of each that shows it, finest first."""
    smaller = sorted(
        (page for page in pages if page.area_px < slide.area_px and _may_be_level(slide, page)),
        key=lambda page: (-page.area_px, page.place),
    )
    candidates = [slide, *smaller]
    found = true_sizes([page.size_px for page in candidates], [page.tile_px for page in candidates])
    levels: list[TiffPage] = []
    sizes: list[Size] = []
    for page, size in zip(candidates, found, strict=True):
        if size is not None and size not in sizes:
            levels.append(page)
            sizes.append(size)
    return tuple(levels), tuple(sizes)


def alike(slide: TiffPage, page: TiffPage) -> bool:
    """Whether two images have the same pixel format; JPEG stores RGB as YCbCr."""
    both_rgb = {slide.photometric, page.photometric} <= {RGB, YCBCR}
    return (
        page.pixels == slide.pixels
        and (both_rgb or page.photometric == slide.photometric)
        and page.orientation == slide.orientation
        and not page.fluorescence
    )


def _may_be_level(slide: TiffPage, page: TiffPage) -> bool:
    """Whether an image may be a smaller copy of the slide; its size is looked at later."""
    if not alike(slide, page):
        return False
    if len(page.place) > 1:
        return page.place[: len(slide.place)] == slide.place
    if (page.tile_px is None) != (slide.tile_px is None):  # Aperio keeps thumbnails in strips
        return False
    # An image that nothing marks as a smaller copy may be anything: it must be 2, 4, 8 ... times as small.
    low, high = scale_range(slide.size_px, page.size_px)
    tile = page.tile_px or (0, 0)
    padded = min(tile) > 0 and page.size_px[0] % tile[0] == 0 and page.size_px[1] % tile[1] == 0
    return page.reduced or padded or (low <= high and any(low <= 2.0**k <= high for k in range(1, 24)))
