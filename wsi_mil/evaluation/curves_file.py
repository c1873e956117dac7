"""curves.json: the one place that writes it and reads it.

NaN is null. `slide` holds the fields of `SlideCurves`, and nothing if a class is missing; `froc` holds those
of `LesionCurve` and is absent without annotations.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsi_mil.errors import StoreError
from wsi_mil.evaluation.curves import FrocBand, LesionCurve, PrecisionBand, RocBand, SlideCurves
from wsi_mil.io.json import read_json, without_nan, write_json
from wsi_mil.io.seals import DamagedFileError


@dataclass(frozen=True)
class ModelCurves:
    """The curves of one model: None where a class is missing (slide), or without annotations (froc)."""

    slide: SlideCurves | None
    froc: LesionCurve | None


def write_curves(path: Path, found: ModelCurves) -> None:
    """Write curves.json, whole or not at all."""
    value: dict[str, Any] = {"slide": asdict(found.slide) if found.slide else {}}
    if found.froc is not None:
        value["froc"] = asdict(found.froc)
    write_json(path, without_nan(value))


def read_curves(path: Path) -> ModelCurves:
    """Return what curves.json holds. Raises StoreError for a damaged file."""
    try:
        found = read_json(path, "remove it and run `wsi-mil evaluate` again")
        slide, froc = found["slide"], found.get("froc")
        return ModelCurves(_read_slide(slide) if slide else None, None if froc is None else _read_froc(froc))
    except DamagedFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {error}): remove it and run `wsi-mil evaluate` again"
        ) from error


def _read_slide(found: Mapping[str, Any]) -> SlideCurves:
    return SlideCurves(
        roc_band=RocBand(**_lists(found["roc_band"])),
        pr_band=PrecisionBand(**_lists(found["pr_band"])),
        fpr=found["fpr"],
        tpr=found["tpr"],
        precision=found["precision"],
        recall=found["recall"],
        auc=found["auc"],
        average_precision=found["average_precision"],
    )


def _read_froc(found: Mapping[str, Any]) -> LesionCurve:
    places, sensitivity = found["false_positives_per_slide"], found["sensitivity"]
    return LesionCurve(places, _numbers(sensitivity), FrocBand(**_lists(found["band"])))


def _lists(found: Mapping[str, list[float | None]]) -> dict[str, list[float]]:
    return {key: _numbers(values) for key, values in found.items()}


def _numbers(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
