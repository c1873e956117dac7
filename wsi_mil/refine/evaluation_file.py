"""refine.json: the one place that writes it and reads it. docs/contracts.md lists its fields. NaN is null."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsi_mil.errors import StoreError
from wsi_mil.evaluation.paired import PairedDifference
from wsi_mil.io.json import read_json, without_nan, write_json
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.refine.evaluation import MapThresholds, RefinementResult

FORMAT = 1
NUMBERS = ("first", "second", "difference", "low", "high", "p_two_sided")


def write_refinement(path: Path, found: RefinementResult) -> None:
    """Write refine.json, whole or not at all."""
    write_json(path, refinement_json(found))


def refinement_json(found: RefinementResult) -> dict[str, Any]:
    """Return the JSON value of refine.json, without NaN."""
    best = found.validation_thresholds or MapThresholds(math.nan, math.nan)
    dice = {"own": found.dice_own, "validation": found.dice_validation}
    whole: dict[str, Any] = without_nan(
        {
            "kind": "refinement",
            "format_version": FORMAT,
            "model": found.model,
            "model_digests": found.model_digests,
            "test_slides": found.test_slides,
            "validation_slides": found.validation_slides,
            "thresholds": {"own": found.own_thresholds, "validation": asdict(best)},
            "dice": {rule: asdict(one) for rule, one in dice.items() if one is not None},
            "froc": asdict(found.froc),
        }
    )
    return whole


def read_refinement(path: Path) -> RefinementResult:
    """Return what refine.json holds. Raises StoreError for a damaged file and for one of another format."""
    try:
        found = read_json(path, "remove it and run `wsi-mil refine` again")
        if found["format_version"] != FORMAT:
            raise StoreError(
                f"{path} has format {found['format_version']}, this version reads {FORMAT}: "
                "remove it and run `wsi-mil refine` again"
            )
        best, validation = found["thresholds"]["validation"], found["dice"].get("validation")
        return RefinementResult(
            model=found["model"],
            model_digests=tuple(found["model_digests"]),
            test_slides=found["test_slides"],
            validation_slides=found["validation_slides"],
            own_thresholds=tuple(found["thresholds"]["own"]),
            validation_thresholds=None if validation is None else MapThresholds(**best),
            dice_own=_difference(found["dice"]["own"]),
            dice_validation=None if validation is None else _difference(validation),
            froc=_difference(found["froc"]),
        )
    except DamagedFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {error}): remove it and run `wsi-mil refine` again"
        ) from error


def _difference(found: Mapping[str, Any]) -> PairedDifference:
    numbers = {key: math.nan if found[key] is None else found[key] for key in NUMBERS}
    # files that were written before differences had a reason hold none
    return PairedDifference(**numbers, draws=found["draws"], reason=found.get("reason", ""))
