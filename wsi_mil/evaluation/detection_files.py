"""Detections as the Camelyon16 organisers' script reads them: one CSV per slide, rows `probability,x,y`, no header."""

import math
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.contracts.scores import Detection
from wsi_mil.errors import DataError
from wsi_mil.io.files import write_text
from wsi_mil.io.tables import read_cells


def read_detections(path: Path) -> list[Detection]:
    """Return the detections of `<slide>.csv`, coordinates in level-0 pixels; an empty file holds none.

    Raises DataError with the line where the script would stop (a header, a blank line, decimals in a coordinate) or go on
    with nonsense (a probability that is no number, negative coordinates, which it wraps to the other side).
    The script also stops at a byte-order mark, so none is accepted.
    """
    found = []
    for number, row in enumerate(read_cells(path, encoding="utf-8"), start=1):
        try:
            probability, x, y = float(row[0]), int(row[1]), int(row[2])
            if not math.isfinite(probability) or x < 0 or y < 0:
                raise ValueError
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}, line {number}: expected `probability,x,y` with whole level-0 pixels from 0 on and no "
                f"header, got {','.join(row)!r}"
            ) from error
        found.append(Detection(path.stem, float(x), float(y), probability))
    return found


def write_detections(path: Path, detections: Iterable[Detection]) -> None:
    """Write the file that the script reads, also where there is no detection: a slide without file is not counted by it."""
    lines = [f"{d.score01!r},{math.floor(d.x0_px)},{math.floor(d.y0_px)}\n" for d in detections]
    write_text(path, "".join(lines))
