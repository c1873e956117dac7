"""What refine.json of a model says, as the report shows it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsi_mil.io.json import read_json, without_nan
from wsi_mil.robustness.json_values import number

DICE = {
    "own": "pixel Dice, the model's threshold",
    "validation": "pixel Dice, threshold of validation slides",
}


@dataclass(frozen=True)
class RefinedRow:
    """A metric of refined maps and of tiles, and their difference with its 95 % interval over patients; NaN
    where undefined.
    """

    title: str
    refined: float
    tiles: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Refinement:
    """The rows of the table of pixel-level maps. model_digests: of the models whose maps were measured."""

    model_digests: tuple[str, ...]
    test_slides: int
    rows: tuple[RefinedRow, ...]

    def as_json(self) -> Any:
        """Return the record as a JSON value; NaN is null."""
        return without_nan(asdict(self))


def read_refinement(path: Path) -> Refinement:
    """Return what a refine.json holds."""
    found = read_json(path)
    rows = [_row(title, found["dice"][rule]) for rule, title in DICE.items() if found["dice"].get(rule)]
    return Refinement(
        tuple(found["model_digests"]), found["test_slides"], (*rows, _row("FROC", found["froc"]))
    )


def _row(title: str, found: Mapping[str, float | None]) -> RefinedRow:
    return RefinedRow(
        title, *(number(found[key]) for key in ("first", "second", "difference", "low", "high"))
    )
