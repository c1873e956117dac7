"""compare: two models of a run on the same held-out slides, paired."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation import froc_curve
from wsi_mil.evaluation.delong import compare_aucs
from wsi_mil.evaluation.paired import Statistic, paired_bootstrap
from wsi_mil.evaluation.patch_metrics import METRICS, pooled
from wsi_mil.evaluation.slide_metrics import accuracy, auc, average_precision, f1
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.truth import HeldOutSlide

PATCH_DRAWS = 200  # pooled patch metrics sort all tiles of all slides in every draw


def compare_slides(
    first: Sequence[SlideScoreRow], second: Sequence[SlideScoreRow], rng: np.random.Generator, draws: int
) -> dict[str, Any]:
    truth = np.array([row.positive for row in first])
    scores = [np.array([row.probability for row in rows], np.float64) for rows in (first, second)]
    called = [np.array([row.predicted for row in rows], bool) for rows in (first, second)]
    patients = [row.patient for row in first]

    def statistics(model: int) -> dict[str, Statistic]:
        return {
            "auc": lambda rows: auc(truth[rows], scores[model][rows]),
            "average_precision": lambda rows: average_precision(truth[rows], scores[model][rows]),
            "accuracy": lambda rows: accuracy(truth[rows], called[model][rows]),
            "f1": lambda rows: f1(truth[rows], called[model][rows]),
        }

    result: dict[str, Any] = _differences(statistics(0), statistics(1), patients, rng, draws)
    try:
        result["delong"] = asdict(compare_aucs(truth, scores[0], scores[1]))
    except DataError as error:
        result["reasons"] = {"delong": str(error)}
    return result


def compare_annotated(
    first: Sequence[HeldOutSlide],
    second: Sequence[HeldOutSlide],
    rng: np.random.Generator,
    spec: EvaluationSpec,
) -> dict[str, Any]:
    tiles = [[slide.tiles.readable() for slide in slides] for slides in (first, second)]
    patients = [slide.patient for slide in first]

    def patch(model: int) -> dict[str, Statistic]:
        return {name: pooled(metric, tiles[model]) for name, metric in METRICS.items()}

    def froc(slides: Sequence[HeldOutSlide]) -> dict[str, Statistic]:
        return {"score": lambda rows: froc_curve([slides[r].matches for r in rows], spec.froc_mode).score}

    return {
        "patch": _differences(patch(0), patch(1), patients, rng, min(spec.bootstrap, PATCH_DRAWS)),
        "froc": _differences(froc(first), froc(second), patients, rng, spec.bootstrap),
    }


def _differences(
    first: dict[str, Statistic],
    second: dict[str, Statistic],
    groups: Sequence[str],
    rng: np.random.Generator,
    draws: int,
) -> dict[str, Any]:
    return {name: asdict(paired_bootstrap(first[name], second[name], groups, rng, draws)) for name in first}
