"""A slide that is an array in memory, for tests, notebooks and synthetic studies."""

from collections.abc import Sequence
from typing import Any, final

import cv2
import numpy as np

import wsi_mil
from wsi_mil.contracts.arrays import RGB
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.errors import SlideError
from wsi_mil.slides.base import SlideReader


@final
class ArrayReader(SlideReader):
    """A slide made of `pixels` (H, W, 3) uint8 at `mpp` µm/px (a pair where x and y differ).

    `downsamples`: those of the pyramid levels, which are made by area averaging. It has no path, so a pickled
    reader holds the pixels. Raises SlideError for an array of another shape or type.

    >>> ArrayReader(np.zeros((40, 60, 3), np.uint8), mpp=0.5, downsamples=(1, 4)).info.level_sizes_px
    ((60, 40), (15, 10))
    """

    def __init__(
        self,
        pixels: RGB,
        *,
        mpp: float | tuple[float, float],
        slide_id: str = "array",
        downsamples: Sequence[float] = (1.0,),
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise SlideError(f"slide {slide_id!r} must be (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
        self._arguments = {
            "mpp": mpp,
            "slide_id": slide_id,
            "downsamples": tuple(downsamples),
            "bounds": bounds,
        }
        height, width = pixels.shape[:2]
        sizes = [(max(int(width / d), 1), max(int(height / d), 1)) for d in downsamples]
        self._levels = [
            pixels if size == (width, height) else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            for size in sizes
        ]
        mpp_x, mpp_y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
        self.info = SlideInfo(
            slide_id=slide_id,
            path="",
            level_sizes_px=tuple(sizes),
            level_downsamples=tuple(width / size[0] for size in sizes),
            mpp_x=mpp_x,
            mpp_y=mpp_y,
            mpp_source="array",
            bounds=bounds,
            vendor="array",
            reader="array",
            reader_version=wsi_mil.__version__,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._levels[0], self._arguments)

    def _open_handle(self) -> list[RGB]:
        return self._levels

    def _read(
        self, handle: list[RGB], level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        return handle[level][y_px : y_px + height_px, x_px : x_px + width_px].copy()


def _rebuild(pixels: RGB, arguments: dict[str, Any]) -> ArrayReader:
    return ArrayReader(pixels, **arguments)
