"""The slide of a file is found also where a larger photograph of the glass has no name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.slides.test_readers import LEVELS, smooth_image
from wsi_mil.contracts.arrays import RGB
from wsi_mil.slides import open_slide, pyramids

MACRO = smooth_image(912, 400)[:, :900]
HALF_MICRON, FIFTY_MICRONS = (20000, 20000), (200, 200)
STRIPS = {"tile": None, "rowsperstrip": 40}
Page = tuple[RGB, dict[str, Any]]


def write_pages(path: Path, pages: list[Page], resolution: tuple[int, int] | None = HALF_MICRON) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for image, options in pages:
            scale = {} if resolution is None else {"resolution": resolution, "resolutionunit": "CENTIMETER"}
            known = {"tile": (64, 64), "photometric": "rgb", "metadata": None, **scale, **options}
            tiff.write(np.ascontiguousarray(image), **known)
    return path


SLIDE: list[Page] = [(level, {"subfiletype": int(number > 0)}) for number, level in enumerate(LEVELS)]
KINDS: dict[str, list[Page]] = {
    "in strips, before the slide": [(MACRO, STRIPS), *SLIDE],
    "in strips, after the slide": [*SLIDE, (MACRO, STRIPS)],
    "in tiles, the slide has levels": [(MACRO, {}), *SLIDE],
    "in tiles, of a coarser scale": [(MACRO, {"resolution": FIFTY_MICRONS}), SLIDE[0]],
    "of a coarser scale in words": [
        (MACRO, {"description": "MPP = 15", "resolution": (1, 1), "resolutionunit": "NONE"}),
        (LEVELS[0], {"description": "MPP = 0.5", "resolution": (1, 1), "resolutionunit": "NONE"}),
    ],
    "of a coarser scale, with levels": [
        (MACRO, {"resolution": FIFTY_MICRONS}),
        (MACRO[::2, ::2], {"resolution": FIFTY_MICRONS, "subfiletype": 1}),
        (LEVELS[0], STRIPS),
    ],
    "marked as Aperio marks it": [(MACRO, {"subfiletype": 9}), SLIDE[0]],
    "gray": [(MACRO[..., 0], {"photometric": "minisblack"}), SLIDE[0]],
    "with the slide marked as a copy of it": [(MACRO, STRIPS), (LEVELS[0], {"subfiletype": 1}), *SLIDE[1:]],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_image_without_name_is_not_the_slide_and_is_said(tmp_path: Path, kind: str) -> None:
    path = write_pages(tmp_path / "case.tiff", KINDS[kind])
    with open_slide(path, mpp=0.5) as slide:
        assert slide.info.level_sizes_px[0] == (448, 320)
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 448, 320), LEVELS[0])
        assert any("a larger image of 900 x 400 px, which is not read" in note for note in slide.info.notes)


LABEL = smooth_image(192, 160)
GOOD: dict[str, list[Page]] = {
    "label first, slide with levels": [(LABEL, {}), *[(level, {"subfiletype": 1}) for level in LEVELS]],
    "label in strips": [(LABEL, STRIPS), SLIDE[0]],
    "thumbnail of another shape": [SLIDE[0], (LABEL, {"subfiletype": 1}), *SLIDE[1:]],
    "label of an impossible scale": [(LABEL, {"resolution": (72, 72), "resolutionunit": "INCH"}), *SLIDE],
    "label of 300 dpi, slide of none": [
        (LABEL, {"resolution": (300, 300), "resolutionunit": "INCH"}),
        (LEVELS[0], {"resolution": (72, 72), "resolutionunit": "INCH"}),
        *SLIDE[1:],
    ],
    "levels whose scale is that of level 0": SLIDE,
    "levels of their own scale": [
        (level, {"subfiletype": int(n > 0), "resolution": (20000 / 2**n, 20000 / 2**n)})
        for n, level in enumerate(LEVELS)
    ],
    "all in strips": [(image, options | STRIPS) for image, options in SLIDE],
}


@pytest.mark.parametrize("kind", GOOD)
def test_the_largest_image_is_the_slide_where_nothing_speaks_against_it(tmp_path: Path, kind: str) -> None:
    path = write_pages(tmp_path / "case.tiff", GOOD[kind])
    with open_slide(path, mpp=0.5) as slide:
        assert slide.info.level_sizes_px[0] == (448, 320)
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 448, 320), LEVELS[0])
        assert not any("larger image" in note or "not clear" in note for note in slide.info.notes)


def test_two_images_that_nothing_distinguishes_are_said(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "case.tiff", [(MACRO, {}), (LEVELS[0], {})], None)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.info.level_sizes_px[0] == (900, 400)
        [note] = slide.info.notes
        assert "not clear which image is the slide: the one of 900 x 400 px is read, the one of 448" in note


def test_an_image_too_large_for_a_photograph_is_the_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slide without levels beside a small picture that has one."""
    path = write_pages(tmp_path / "case.tiff", [(MACRO, {}), *SLIDE])
    monkeypatch.setattr(pyramids, "MOST_PHOTOGRAPH_PX", 900 * 400 - 1)
    with open_slide(path) as slide:
        assert slide.info.level_sizes_px[0] == (900, 400)
