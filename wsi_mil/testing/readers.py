"""What every SlideReader must do.

Subclass ReaderSuite, give `open` and `truth`, and pytest runs the suite.
"""

import pickle
import threading
from abc import ABC, abstractmethod

import numpy as np
import pytest

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides import SlideReader, read_scaled

SIZES_PX = ((1, 1), (16, 16), (31, 57), (64, 64), (113, 40))
"""Widths and heights of regions, as tiles of different runs ask for them."""


class ReaderSuite(ABC):
    """Tests of a reader on one slide whose pixels are known.

    The slide is wider or higher than it is long the other way, has at least 200 px at level 0, and its levels
    divide level 0 by whole numbers. `tolerance`: grey levels by which JPEG may round differently.
    """

    tolerance = 0

    @abstractmethod
    def open(self) -> SlideReader:
        """Return a newly opened slide."""

    @abstractmethod
    def truth(self) -> list[RGB]:
        """Return the pixels (H, W, 3) uint8 of every level."""

    def open_transparent(self) -> SlideReader | None:
        """Return a slide whose first 16 x 16 px are missing or fully transparent; None if the format has no
        such.
        """
        return None

    def assert_pixels(self, found: RGB, expected: RGB) -> None:
        """Fail unless `found` is uint8, of the same shape, and equal up to `tolerance`."""
        assert found.dtype == np.uint8, f"pixels are {found.dtype}, expected uint8"
        assert found.shape == expected.shape, f"pixels are {found.shape}, expected {expected.shape}"
        difference = np.abs(found.astype(int) - expected.astype(int))
        assert difference.max() <= self.tolerance, f"pixels differ by up to {difference.max()}"

    def test_sizes_are_width_height(self) -> None:
        with self.open() as slide:
            assert slide.info.level_sizes_px == tuple((t.shape[1], t.shape[0]) for t in self.truth())
            assert slide.info.width_px != slide.info.height_px, (
                "a suite on a square slide cannot see swapped axes"
            )

    def test_levels_run_from_fine_to_coarse(self) -> None:
        """Their downsamples are those of their sizes, and the scale is positive."""
        with self.open() as slide:
            info = slide.info
            assert info.level_downsamples[0] == 1
            assert list(info.level_downsamples) == sorted(info.level_downsamples)
            for (width, height), downsample in zip(info.level_sizes_px, info.level_downsamples, strict=True):
                assert downsample == pytest.approx(info.width_px / width, rel=0.02)
                assert downsample == pytest.approx(info.height_px / height, rel=0.02)
            assert info.mpp_x > 0
            assert info.mpp_y > 0
            assert info.reader

    def test_region_at_level_0(self) -> None:
        with self.open() as slide:
            self.assert_pixels(slide.read_region(37, 11, 0, 50, 23), self.truth()[0][11:34, 37:87])

    def test_region_at_every_level_takes_level_0_coordinates(self) -> None:
        with self.open() as slide:
            for level, truth in enumerate(self.truth()):
                scale = slide.info.width_px // truth.shape[1]
                found = slide.read_region(20 * scale, 12 * scale, level, 30, 17)
                self.assert_pixels(found, truth[12:29, 20:50])

    def test_regions_of_mixed_sizes(self) -> None:
        """One open slide gives regions of every size, in any order, whatever it read before."""
        truth = self.truth()[0]
        with self.open() as slide:
            for width, height in (*SIZES_PX, *SIZES_PX[::-1]):
                found = slide.read_region(41, 23, 0, width, height)
                self.assert_pixels(found, truth[23 : 23 + height, 41 : 41 + width])

    def test_a_region_is_the_same_at_every_read(self) -> None:
        """On one slide, on another opening of it, and after the caller wrote into an earlier result."""
        with self.open() as slide, self.open() as other:
            for level in range(len(self.truth())):
                first = slide.read_region(0, 0, level, 40, 30)
                kept = first.copy()
                first[:] = 7
                np.testing.assert_array_equal(slide.read_region(0, 0, level, 40, 30), kept)
                np.testing.assert_array_equal(other.read_region(0, 0, level, 40, 30), kept)

    def test_region_over_the_edge_is_white_outside(self) -> None:
        truth = self.truth()[0]
        height, width = truth.shape[:2]
        with self.open() as slide:
            found = slide.read_region(width - 5, height - 7, 0, 9, 12)
            self.assert_pixels(found[:7, :5], truth[-7:, -5:])
            assert (found[7:] == 255).all()
            assert (found[:, 5:] == 255).all()
            corner = slide.read_region(-4, -3, 0, 8, 8)
            self.assert_pixels(corner[3:, 4:], truth[:5, :4])
            assert (corner[:3] == 255).all()

    def test_region_outside_is_white(self) -> None:
        height, width = self.truth()[0].shape[:2]
        with self.open() as slide:
            for x0_px, y0_px in ((width + 50, 0), (0, height), (-20, 5), (3, -20), (-900, -900)):
                found = slide.read_region(x0_px, y0_px, 0, 4, 6)
                assert found.shape == (6, 4, 3)
                assert (found == 255).all(), f"({x0_px}, {y0_px}) is outside and not white"

    def test_transparent_pixels_are_white(self) -> None:
        slide = self.open_transparent()
        if slide is None:
            pytest.skip("this reader's format has no transparent pixels")
        with slide:
            found = slide.read_region(0, 0, 0, 16, 16)
            assert found.shape == (16, 16, 3)
            assert (found == 255).all(), f"transparent pixels show {found[8, 8].tolist()}, expected white"

    def test_unknown_level_and_empty_region_are_refused_by_name(self) -> None:
        with self.open() as slide:
            for level in (-1, 99):
                with pytest.raises(SlideError, match=f"{slide.info.slide_id}.*levels 0 to"):
                    slide.read_region(0, 0, level, 4, 4)
            with pytest.raises(SlideError, match=f"{slide.info.slide_id}.*no pixels"):
                slide.read_region(0, 0, 0, 0, 4)

    def test_closed_slide_says_so(self) -> None:
        slide = self.open()
        slide.close()
        with pytest.raises(SlideError, match=f"{slide.info.slide_id}.*closed"):
            slide.read_region(0, 0, 0, 4, 4)

    def test_pickles_to_an_equal_slide(self) -> None:
        with self.open() as slide, pickle.loads(pickle.dumps(slide)) as again:
            assert again.info == slide.info
            np.testing.assert_array_equal(
                again.read_region(3, 5, 0, 20, 9), slide.read_region(3, 5, 0, 20, 9)
            )

    def test_the_whole_slide_at_another_scale(self) -> None:
        """At an eighth of the resolution: block means of the coarsest level that divides it."""
        levels = self.truth()
        with self.open() as slide:
            found = read_scaled(slide, 8 * max(slide.info.mpp_x, slide.info.mpp_y))
        scales = [levels[0].shape[1] // level.shape[1] for level in levels]
        scale = max(scale for scale in scales if 8 % scale == 0)
        truth = levels[scales.index(scale)]
        side = 8 // scale
        rows, columns = truth.shape[0] // side, truth.shape[1] // side
        blocks = truth[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
        difference = np.abs(found[:rows, :columns].astype(float) - blocks.mean((1, 3)))
        assert difference.mean() <= 1 + self.tolerance, f"mean difference {difference.mean():.1f}"

    def test_threads_share_a_slide_not_a_handle(self) -> None:
        truth = self.truth()[0]
        wrong: list[str] = []
        handles: set[int] = set()
        with self.open() as slide:

            def read(seed: int) -> None:
                rng = np.random.default_rng(seed)
                handles.add(id(slide._handle()))
                for _ in range(20):
                    x, y = (int(rng.integers(0, side - 16)) for side in truth.shape[1::-1])
                    found = slide.read_region(x, y, 0, 16, 16).astype(int)
                    if np.abs(found - truth[y : y + 16, x : x + 16]).max() > self.tolerance:
                        wrong.append(f"{x},{y}")

            threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong, f"threads read wrong pixels at {wrong[:3]}"
            assert len(slide._handles) >= min(len(handles), 1)
