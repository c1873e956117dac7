"""The suite of readers fails on readers that are wrong on purpose, each of its tests on at least one."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.slides.test_readers import LEVELS, smooth_image
from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides import ArrayReader, SlideReader
from wsi_mil.testing.readers import ReaderSuite


class Wrong(ArrayReader):
    """A correct reader, from which wrong ones derive; pickling gives the same kind."""

    def __init__(self) -> None:
        super().__init__(smooth_image(), mpp=0.5, downsamples=(1, 2, 4))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class Swapped(Wrong):
    """x and y changed places."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        return super().read_region(y0_px, x0_px, level, width_px, height_px)


class LevelFrame(Wrong):
    """Takes coordinates of the level instead of level 0."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        scale = self.info.level_downsamples[level]
        return super().read_region(round(x0_px * scale), round(y0_px * scale), level, width_px, height_px)


class HeightWidth(Wrong):
    """Sizes of levels as (height, width)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = tuple((height, width) for width, height in self.info.level_sizes_px)
        object.__setattr__(self.info, "level_sizes_px", sizes)


class WrongDownsamples(Wrong):
    """Downsamples that the sizes of the levels contradict."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self.info, "level_downsamples", (1.0, 2.0, 8.0))


class FirstSize(Wrong):
    """Gives the size of the first region that it was asked for."""

    first: tuple[int, int] | None = None

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        self.first = self.first or (width_px, height_px)
        return super().read_region(x0_px, y0_px, level, *self.first)


class Floats(Wrong):
    """Gives (0, 1) floats instead of uint8."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        return super().read_region(x0_px, y0_px, level, width_px, height_px) / np.float32(255)


class SharedMemory(Wrong):
    """Returns its own memory, into which a caller may write."""

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        return handle[level][y_px : y_px + height_px, x_px : x_px + width_px]


class BlackOutside(Wrong):
    """Fills with black beyond the edge."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        found = super().read_region(x0_px, y0_px, level, width_px, height_px)
        width, height = self.info.level_sizes_px[0]
        found[max(height - y0_px, 0) :] = 0
        found[:, max(width - x0_px, 0) :] = 0
        return found


class Clamped(Wrong):
    """Moves a region that lies outside back into the slide."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        x0_px = min(max(x0_px, 0), self.info.width_px - width_px)
        y0_px = min(max(y0_px, 0), self.info.height_px - height_px)
        return super().read_region(x0_px, y0_px, level, width_px, height_px)


class DropsAlpha(Wrong):
    """Leaves out the opacity, so that transparent pixels show the black below them."""

    def __init__(self) -> None:
        super().__init__()
        self._levels[0][:16, :16] = 0


class LastLevel(Wrong):
    """Takes the nearest level for one that does not exist, and one pixel for an empty region."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        level = min(max(level, 0), 2)
        return super().read_region(x0_px, y0_px, level, max(width_px, 1), max(height_px, 1))


class StaysOpen(Wrong):
    """Reads although it was closed."""

    def close(self) -> None:
        pass


class PicklesToAnother(Wrong):
    """Unpickling opens a slide of another scale."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _other, ()


def _other() -> ArrayReader:
    return ArrayReader(smooth_image(), mpp=0.25, downsamples=(1, 2, 4))


class DoesNotPickle(Wrong):
    """Pickling tries to take open handles along."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("cannot pickle a handle")


class WrongPlace(Wrong):
    """Coarse levels are read beside the place that was asked for."""

    def read_region(self, x0_px: int, y0_px: int, level: int, width_px: int, height_px: int) -> RGB:
        return super().read_region(x0_px + 64 * (level > 0), y0_px, level, width_px, height_px)


class OneHandle(Wrong):
    """Threads share a handle that holds one position: where one reads, another has moved it."""

    place = (0, 0)

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        before, self.place = self.place, (x_px, y_px)
        x_px, y_px = before
        return super()._read(handle, level, x_px, y_px, width_px, height_px)


WRONG: list[tuple[type[Wrong], str]] = [
    (HeightWidth, "test_sizes_are_width_height"),
    (WrongDownsamples, "test_levels_run_from_fine_to_coarse"),
    (Swapped, "test_region_at_level_0"),
    (Floats, "test_region_at_level_0"),
    (LevelFrame, "test_region_at_every_level_takes_level_0_coordinates"),
    (FirstSize, "test_regions_of_mixed_sizes"),
    (SharedMemory, "test_a_region_is_the_same_at_every_read"),
    (BlackOutside, "test_region_over_the_edge_is_white_outside"),
    (Clamped, "test_region_over_the_edge_is_white_outside"),
    (Clamped, "test_region_outside_is_white"),
    (DropsAlpha, "test_transparent_pixels_are_white"),
    (LastLevel, "test_unknown_level_and_empty_region_are_refused_by_name"),
    (StaysOpen, "test_closed_slide_says_so"),
    (PicklesToAnother, "test_pickles_to_an_equal_slide"),
    (DoesNotPickle, "test_pickles_to_an_equal_slide"),
    (WrongPlace, "test_the_whole_slide_at_another_scale"),
    (OneHandle, "test_threads_share_a_slide_not_a_handle"),
]


def suite_of(kind: type[Wrong]) -> ReaderSuite:
    class Suite(ReaderSuite):
        def open(self) -> SlideReader:
            return kind()

        def open_transparent(self) -> SlideReader | None:
            return kind() if kind is DropsAlpha else None

        def truth(self) -> list[RGB]:
            return LEVELS

    return Suite()


@pytest.mark.parametrize(("kind", "check"), WRONG)
def test_the_suite_fails_on_wrong_readers(kind: type[Wrong], check: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, TypeError)):
        getattr(suite_of(kind), check)()


def test_each_test_of_the_suite_fails_on_some_wrong_reader() -> None:
    assert {name for name in vars(ReaderSuite) if name.startswith("test_")} == {check for _, check in WRONG}


@pytest.mark.parametrize(
    "check", sorted({check for _, check in WRONG} - {"test_transparent_pixels_are_white"})
)
def test_the_suite_passes_on_the_reader_that_wrong_ones_derive_from(check: str) -> None:
    getattr(suite_of(Wrong), check)()


class Opacity(Wrong):
    """Gives (H, W, 4): the base class lays it over white."""

    def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
        rgb = super()._read(handle, level, x_px, y_px, width_px, height_px)
        alpha = np.zeros((height_px, width_px, 1), np.uint8)
        alpha[1:] = 255
        return np.concatenate([rgb, alpha], 2)


def test_opacity_is_laid_over_white_by_the_base_class() -> None:
    found = Opacity().read_region(5, 9, 0, 20, 10)
    assert (found[0] == 255).all()
    np.testing.assert_array_equal(found[1:], LEVELS[0][10:19, 5:25])


@pytest.mark.parametrize(
    "values", [np.zeros((10, 20, 3)), np.zeros((20, 10, 3), np.uint8), np.zeros((10, 20), np.uint8)]
)
def test_the_base_class_refuses_what_is_no_rgb(values: np.ndarray) -> None:
    class NoRgb(Wrong):
        def _read(self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int) -> RGB:
            return values

    with pytest.raises(
        SlideError, match=r"'array': reader 'array' gave .* level 0.* expected \(10, 20, 3\) uint8"
    ):
        NoRgb().read_region(0, 0, 0, 20, 10)


def test_info_of_an_array_pickles() -> None:
    info = Wrong().info
    assert pickle.loads(pickle.dumps(info)) == replace(info)
