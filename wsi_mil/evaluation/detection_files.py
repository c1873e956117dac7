"""Detections in the format that the Camelyon16 organisers' script reads.

One CSV per slide, without header, with rows `probability,x,y` in level-0 pixels.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.contracts.scores import Detection
from wsi_mil.errors import DataError
from wsi_mil.io.files import write_text
from wsi_mil.io.tables import read_cells


def read_detections(path: Path) -> list[Detection]:
    """Return the detections of `<slide>.csv`, in level-0 pixels; an empty file holds none.

    Raises DataError, which names the line, for everything that the organisers' script would stop at (a
    header, a blank line, decimals in a coordinate) or would read wrongly (a probability that is not a number,
    a negative coordinate). The script also stops at a byte-order mark, so none is accepted.
    """
    found = []
    for number, row in enumerate(read_cells(path, encoding="utf-8"), start=1):
        try:
            probability, x, y = float(row[0]), int(row[1]), int(row[2])
            if not math.isfinite(probability) or x < 0 or y < 0:
                raise ValueError
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}, line {number}: expected `probability,x,y` with whole level-0 pixels from 0 on and "
                f"no header, got {','.join(row)!r}"
            ) from error
        found.append(Detection(path.stem, float(x), float(y), probability))
    return found


def write_detections(path: Path, detections: Iterable[Detection]) -> None:
    """Write the detections of one slide for the organisers' script.

    Write a file without rows for a slide without detections: the script leaves out slides that have no file.
    """
    lines = [f"{d.score01!r},{math.floor(d.x0_px)},{math.floor(d.y0_px)}\n" for d in detections]
    write_text(path, "".join(lines))
