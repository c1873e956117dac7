"""What was missed and what was called without cause: lesions.csv and false_positives.csv of a model."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.io.files import write_text

# upper limits of a lesion's length in µm: isolated cells up to 0.2 mm, micro- up to 2 mm, macrometastases beyond (pN stages)
SIZES = (("up to 0.2 mm", 200.0), ("0.2 to 2 mm", 2000.0), ("over 2 mm", float("inf")))
LESION_COLUMNS = ("slide_id", "x0_px", "y0_px", "length_um", "counted", "probability", "threshold", "found")
POINT_COLUMNS = ("slide_id", "x0_px", "y0_px", "probability", "threshold")
SHOWN = 200  # false positives that are listed, the most probable first


def lesion_rows(slides: Sequence[HeldOutSlide]) -> list[dict[str, Any]]:
    """Return a row per lesion, smallest first. `found`: its best detection reaches the slide's tile threshold; `counted`:
    not among the isolated cells that FROC passes over (whose detections are not kept)."""
    rows = []
    for slide in slides:
        for lesion in slide.lesions:
            values = (
                slide.slide_id,
                round(lesion.x0_px, 1),
                round(lesion.y0_px, 1),
                round(lesion.length_um, 1),
            )
            found = not lesion.isolated and lesion.probability >= slide.threshold
            more = (not lesion.isolated, lesion.probability, slide.threshold, found)
            rows.append(dict(zip(LESION_COLUMNS, (*values, *more), strict=True)))
    return sorted(rows, key=lambda row: (row["length_um"], row["slide_id"]))


def found_by_size(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lesions and found ones per class of length, of those that count."""
    result, lower = [], 0.0
    for name, upper in SIZES:
        inside = [row for row in rows if row["counted"] and lower < row["length_um"] <= upper]
        result.append({"size": name, "lesions": len(inside), "found": sum(row["found"] for row in inside)})
        lower = upper
    return result


def false_positive_rows(slides: Sequence[HeldOutSlide]) -> list[dict[str, Any]]:
    """Return the detections at or above the slide's tile threshold that hit no lesion, most probable first."""
    rows = [
        dict(zip(POINT_COLUMNS, (s.slide_id, d.x0_px, d.y0_px, d.probability, s.threshold), strict=True))
        for s in slides
        for number in s.matches.false_positive_rows
        if (d := s.detections[number]).probability >= s.threshold
    ]
    return sorted(rows, key=lambda row: (-row["probability"], row["slide_id"], row["y0_px"], row["x0_px"]))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
