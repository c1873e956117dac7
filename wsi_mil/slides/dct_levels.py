"""Levels that a pyramid lacks, at half, quarter and eighth the scale of one that it has: the JPEG tiles are decoded at that size.

A scanner's 40x slide of levels 1, 4, 16 has no 20x. Averaging level 0 down decodes four pixels for every one that is wanted; libjpeg can
leave out the high frequencies of each 8 x 8 block instead. Pixels differ a little from averaged ones, so the reader is never chosen by
`auto`: one cohort, one reader.
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from wsi_mil.contracts.arrays import RGB
from wsi_mil.errors import SlideError
from wsi_mil.slides.file_readers import MppOverride, OpenSlideReader
from wsi_mil.slides.jpeg_tiles import JpegTilesReader
from wsi_mil.slides.scaled import resample

SCALES = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
NEAR = 1.5
"""A level is not made where the pyramid has one within this factor."""
COLOURS_AS_THEY_ARE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""A JPEG marker: components are red, green, blue."""


class DctLevelsReader(JpegTilesReader):
    """Raw JPEG tiles, with the levels in between; raises SlideError, as its parent does, for a file that is not made of them."""

    name = "jpeg_tiles_dct"

    def __init__(self, path: str, *, slide_id: str, mpp: MppOverride = None) -> None:
        super().__init__(path, slide_id=slide_id, mpp=mpp)
        downsamples = self.info.level_downsamples
        found = []  # (downsample, size, level of the file, how much smaller)
        for level, (tiled, (width, height)) in enumerate(
            zip(self._levels, self.info.level_sizes_px, strict=True)
        ):
            found.append((downsamples[level], (width, height), level, 1))
            for smaller in SCALES:
                divides = tiled.tile_width_px % smaller == 0 and tiled.tile_height_px % smaller == 0
                own = downsamples[level] * smaller
                near = any(own / NEAR < other < own * NEAR for other in downsamples)
                if divides and not near and min(width, height) >= smaller:
                    found.append((own, (round(width / smaller), round(height / smaller)), level, smaller))
        found.sort(key=lambda entry: (entry[0], entry[3]))
        # of two origins of one scale, the one that has less to leave out
        kept = [entry for n, entry in enumerate(found) if entry[3] == 1 or entry[0] >= found[n - 1][0] * NEAR]
        self._origins = [(level, smaller) for _, _, level, smaller in kept]
        self._levels = tuple(
            replace(
                self._levels[level],
                tile_width_px=self._levels[level].tile_width_px // smaller,
                tile_height_px=self._levels[level].tile_height_px // smaller,
            )
            for level, smaller in self._origins
        )
        self.info = replace(
            self.info,
            level_sizes_px=tuple(size for _, size, _, _ in kept),
            level_downsamples=tuple(downsample for downsample, _, _, _ in kept),
        )

    def _decode(self, level: int, number: int) -> RGB:
        smaller = self._origins[level][1]
        if smaller == 1:
            return super()._decode(level, number)
        tiled, data = self._levels[level], self._raw(level, number)
        tables = tiled.tables[2:-2] if tiled.tables else b""
        stream = data[:2] + (COLOURS_AS_THEY_ARE if self._is_rgb(level, data) else b"") + tables + data[2:]
        flags = SCALES[smaller] | cv2.IMREAD_IGNORE_ORIENTATION
        tile = cv2.imdecode(np.frombuffer(stream, np.uint8), flags)
        if tile is None or tile.shape != (tiled.tile_height_px, tiled.tile_width_px, 3):
            raise SlideError(f"tile {number} of level {level} cannot be decoded at 1/{smaller} of its size")
        return np.ascontiguousarray(tile[:, :, ::-1])

    def _from_library(
        self, handle: Any, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> RGB:
        origin, s = self._origins[level]
        region = OpenSlideReader._read(self, handle, origin, x_px * s, y_px * s, width_px * s, height_px * s)
        return resample(region, width_px, height_px)
