"""The rows of lesions.csv and false_positives.csv."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.evaluation.results import SizeClass
from wsi_mil.evaluation.truth import HeldOutSlide
from wsi_mil.io.tables import Row

# upper limits of the length in µm, those of pN-stages: isolated tumour cells, micro- and macrometastases
SIZES = (("up to 0.2 mm", 200.0), ("0.2 to 2 mm", 2000.0), ("over 2 mm", float("inf")))


@dataclass(frozen=True)
class LesionRow:
    """One lesion as FROC counts it. x0_px, y0_px: its centre. length_um: its major axis.

    counted: False for isolated tumour cells, which FROC ignores together with the detections on them.
    score01: of the best detection on it, 0 without one. threshold: of the slide. found: whether the lesion is
    counted and `score01` reaches `threshold`.
    """

    slide_id: str
    x0_px: float
    y0_px: float
    length_um: float
    counted: bool
    score01: float
    threshold: float
    found: bool


@dataclass(frozen=True)
class FalsePositiveRow:
    """A detection, in level-0 pixels, that hits no lesion and reaches the slide's threshold."""

    slide_id: str
    x0_px: float
    y0_px: float
    score01: float
    threshold: float


def lesion_rows(slides: Sequence[HeldOutSlide]) -> list[LesionRow]:
    """Return one row per lesion, the shortest lesion first."""
    rows = [
        LesionRow(
            slide_id=slide.slide_id,
            x0_px=round(lesion.x0_px, 1),
            y0_px=round(lesion.y0_px, 1),
            length_um=round(lesion.length_um, 1),
            counted=not lesion.isolated,
            score01=lesion.probability,
            threshold=slide.threshold,
            found=not lesion.isolated and lesion.probability >= slide.threshold,
        )
        for slide in slides
        for lesion in slide.lesions
    ]
    return sorted(rows, key=lambda row: (row.length_um, row.slide_id))


def csv_table(
    row_type: type[Any], rows: Iterable[LesionRow | FalsePositiveRow], slides: Sequence[HeldOutSlide]
) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and the cells of a CSV file of `rows`.

    The column of score01 has the name that the kind of the slides' tile scores gives it, such as
    `probability`.
    """
    kinds = {score_kind(slide.tiles.score_kind).column for slide in slides} or {"probability"}
    names = {"score01": min(kinds)} if len(kinds) == 1 else {}
    columns = [names.get(field.name, field.name) for field in fields(row_type)]
    return columns, [list(asdict(row).values()) for row in rows]


def score01_of(row: Row) -> float:
    """Return score01 of a row of lesions.csv or false_positives.csv, whatever its column is called."""
    return row.number("score01" if "score01" in row else "probability")


def found_by_size(rows: Sequence[LesionRow]) -> tuple[SizeClass, ...]:
    """Return, for each class of length, the numbers of counted lesions and of found ones."""
    result, lower = [], 0.0
    for name, upper in SIZES:
        inside = [row for row in rows if row.counted and lower < row.length_um <= upper]
        result.append(SizeClass(name, len(inside), sum(row.found for row in inside)))
        lower = upper
    return tuple(result)


def false_positive_rows(slides: Sequence[HeldOutSlide]) -> list[FalsePositiveRow]:
    """Return the false positives that reach the threshold of their slide, most probable first."""
    rows = [
        FalsePositiveRow(slide.slide_id, found.x0_px, found.y0_px, found.score01, slide.threshold)
        for slide in slides
        for number in slide.matches.false_positive_rows
        if (found := slide.detections[number]).score01 >= slide.threshold
    ]
    return sorted(rows, key=lambda row: (-row.score01, row.slide_id, row.y0_px, row.x0_px))
