"""What every SlideReader must do. Subclass, give `open` and `truth`, and pytest runs the suite."""

import pickle
import threading
from abc import ABC, abstractmethod

import numpy as np
import pytest

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides import SlideReader


class ReaderSuite(ABC):
    """`truth`: the pixels of every level as they were written; `tolerance`: grey levels of JPEG rounding."""

    tolerance = 0

    @abstractmethod
    def open(self) -> SlideReader:
        """Return a newly opened slide."""

    @abstractmethod
    def truth(self) -> list[RGB]:
        """Return the pixels of every level."""

    def assert_pixels(self, found: RGB, expected: RGB) -> None:
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        difference = np.abs(found.astype(int) - expected.astype(int))
        assert difference.max() <= self.tolerance, f"pixels differ by up to {difference.max()}"

    def test_sizes_are_width_height(self) -> None:
        with self.open() as slide:
            assert slide.info.level_sizes_px == tuple((t.shape[1], t.shape[0]) for t in self.truth())
            assert slide.info.width_px != slide.info.height_px, (
                "a suite on a square slide cannot see swapped axes"
            )

    def test_region_at_level_0(self) -> None:
        with self.open() as slide:
            self.assert_pixels(slide.read_region(37, 11, 0, 50, 23), self.truth()[0][11:34, 37:87])

    def test_region_at_every_level_takes_level_0_coordinates(self) -> None:
        with self.open() as slide:
            for level, truth in enumerate(self.truth()):
                scale = slide.info.width_px // truth.shape[1]
                found = slide.read_region(20 * scale, 12 * scale, level, 30, 17)
                self.assert_pixels(found, truth[12:29, 20:50])

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
            assert (slide.read_region(width + 50, 0, 0, 4, 6) == 255).all()

    def test_unknown_level_and_empty_region_are_refused_by_name(self) -> None:
        with self.open() as slide:
            with pytest.raises(SlideError, match=f"{slide.info.slide_id}.*levels 0 to"):
                slide.read_region(0, 0, 99, 4, 4)
            with pytest.raises(SlideError, match="no pixels"):
                slide.read_region(0, 0, 0, 0, 4)

    def test_closed_slide_says_so(self) -> None:
        slide = self.open()
        slide.close()
        with pytest.raises(SlideError, match="closed"):
            slide.read_region(0, 0, 0, 4, 4)

    def test_pickles_to_an_equal_slide(self) -> None:
        with self.open() as slide, pickle.loads(pickle.dumps(slide)) as again:
            assert again.info == slide.info
            np.testing.assert_array_equal(
                again.read_region(3, 5, 0, 20, 9), slide.read_region(3, 5, 0, 20, 9)
            )

    def test_threads_share_a_slide_not_a_handle(self) -> None:
        truth = self.truth()[0]
        wrong: list[str] = []
        handles: set[int] = set()
        with self.open() as slide:

            def read(seed: int) -> None:
                rng = np.random.default_rng(seed)
                handles.add(id(slide._handle()))
                for _ in range(20):
                    x, y = (
                        int(rng.integers(0, truth.shape[1] - 16)),
                        int(rng.integers(0, truth.shape[0] - 16)),
                    )
                    found = slide.read_region(x, y, 0, 16, 16).astype(int)
                    if np.abs(found - truth[y : y + 16, x : x + 16]).max() > self.tolerance:
                        wrong.append(f"{x},{y}")

            threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong
            assert len(slide._handles) >= min(len(handles), 1)
