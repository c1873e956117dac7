"""What a model took for tumour: the tissue around its most probable false positives."""

import csv
from collections.abc import Sequence
from itertools import groupby

import cv2
import numpy as np

from wsi_mil.contracts.slide import SlideSource
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import WsiMilError
from wsi_mil.logs import logger
from wsi_mil.report import Crop
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import open_slide
from wsi_mil.slides.base import SlideReader
from wsi_mil.slides.scaled import best_level, resample

SHOWN, CROP_PX, TILES_WIDE = 12, 210, 3
OUTLINE = (255, 210, 0)


def false_positive_crops(
    run: RunFolder, name: str, sources: Sequence[SlideSource], reader: str
) -> list[Crop]:
    """Return pictures of the most probable false positives of a model, most probable first.

    Of slides that are not at hand, or cannot be read any more, there is none.
    """
    path = run.evaluation(name) / "false_positives.csv"
    if not path.exists():
        return []
    with path.open(newline="") as handle:
        rows = [row for row, _ in zip(csv.DictReader(handle), range(SHOWN), strict=False)]
    by_id = {source.slide_id: source for source in sources}
    crops = []
    for slide_id, group in groupby(
        sorted(rows, key=lambda row: row["slide_id"]), key=lambda row: row["slide_id"]
    ):
        source = by_id.get(slide_id)
        if source is None or source.path is None:
            continue
        try:
            table = run.store(slide_id).read_tiles()
            with open_slide(source.path, slide_id=slide_id, reader=reader, mpp=source.mpp) as slide:
                for row in group:
                    x0_px, y0_px = round(float(row["x0_px"])), round(float(row["y0_px"]))
                    picture = crop(slide, table, x0_px, y0_px)
                    crops.append(Crop(slide_id, x0_px, y0_px, float(row["probability"]), picture))
        except WsiMilError as error:
            logger().warning("report: no picture of false positives of %s: %s", slide_id, error)
    return sorted(crops, key=lambda found: -found.probability)


def crop(slide: SlideReader, table: TileTable, x0_px: int, y0_px: int) -> bytes:
    """Return a JPEG, three tiles wide, around level-0 (x0_px, y0_px), with the tile in the middle outlined."""
    info, plan = slide.info, table.plan
    width0, height0 = TILES_WIDE * plan.tile_width0_px, TILES_WIDE * plan.tile_height0_px
    level = best_level(info, width0 / CROP_PX, height0 / CROP_PX)
    level_width, level_height = info.level_sizes_px[level]
    region = slide.read_region(
        round(x0_px - width0 / 2),
        round(y0_px - height0 / 2),
        level,
        max(round(width0 * level_width / info.width_px), 1),
        max(round(height0 * level_height / info.height_px), 1),
    )
    picture = np.ascontiguousarray(resample(region, CROP_PX, CROP_PX))
    inner = CROP_PX // TILES_WIDE
    cv2.rectangle(picture, (inner, inner), (2 * inner, 2 * inner), OUTLINE, 2)
    _, encoded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return bytes(encoded.tobytes())
