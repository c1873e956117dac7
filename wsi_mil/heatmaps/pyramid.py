"""The score raster as a pyramidal OME-TIFF with its physical pixel size: an image that QuPath opens beside
the slide."""

from pathlib import Path

import numpy as np
import tifffile

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.heatmaps.raster import ScoreRaster
from wsi_mil.io.files import write_aside

LEVELS_FROM_PX = 256


def write_score_pyramid(path: Path, raster: ScoreRaster, info: SlideInfo, name: str) -> None:
    """Write one channel uint8: 0 where there is no score, else 1 + round(254 * score). Size and origin in
    µm."""
    values = raster.values
    level = np.where(np.isfinite(values), 1 + np.rint(254 * np.nan_to_num(values)), 0).astype(np.uint8)
    size_x, size_y = raster.scale_x_px * info.mpp_x, raster.scale_y_px * info.mpp_y
    levels = [level]
    while max(levels[-1].shape) > LEVELS_FROM_PX:
        levels.append(levels[-1][::2, ::2])
    metadata = {
        "axes": "YX",
        "Name": name,
        "PhysicalSizeX": size_x,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": size_y,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": ["score: 0 none, 1 to 255 = 0 to 1"]},
        # a constant: a new UUID would change the bytes of equal results
        "UUID": "urn:uuid:00000000-0000-4000-8000-000000000000",
    }
    options = {"tile": (256, 256), "compression": "adobe_deflate", "photometric": "minisblack"}
    with write_aside(path) as aside, tifffile.TiffWriter(aside, ome=True) as tiff:
        for number, pixels in enumerate(levels):
            resolution = (1e4 / (size_x * 2**number), 1e4 / (size_y * 2**number))
            extra = {"metadata": metadata, "subifds": len(levels) - 1} if number == 0 else {"subfiletype": 1}
            tiff.write(pixels, resolution=resolution, resolutionunit="CENTIMETER", **options, **extra)
