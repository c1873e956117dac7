"""compare: two models of a run on the same held-out slides, paired."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from wsi_mil.bags import Split
from wsi_mil.config import RunConfig
from wsi_mil.errors import DataError, StoreError
from wsi_mil.evaluation import froc_curve
from wsi_mil.evaluation.delong import compare_aucs
from wsi_mil.evaluation.paired import Statistic, paired_bootstrap
from wsi_mil.evaluation.patch_metrics import METRICS, pooled
from wsi_mil.evaluation.slide_metrics import accuracy, auc, average_precision, f1
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.files import write_json
from wsi_mil.stages.evaluate import without_nan
from wsi_mil.stages.held_out import HeldOutSlide, Row, held_out, read_truth
from wsi_mil.stages.run_folder import RunFolder

PATCH_DRAWS = 200  # pooled patch metrics sort all tiles of all slides in every draw


def run_compare(config: RunConfig, first: str, second: str) -> dict[str, Any]:
    """Write evaluation/<first>_against_<second>.json and return it: per metric both values, their difference (first minus
    second), interval and p, by bootstrap over patients; for the slide AUC DeLong's test as well.

    Slides that either model could not be held to are left out and named. Raises DataError for an unknown model.
    """
    if unknown := [name for name in (first, second) if name not in config.models]:
        raise DataError(f"no model {unknown[0]!r} in this run: it has {', '.join(config.models)}")
    if first == second:
        raise DataError(f"--compare needs two different models, got {first!r} twice")
    run, spec = RunFolder(config.run), config.evaluation
    if not run.split.exists():
        raise StoreError(f"no split at {run.split}: run `wsi-mil train` first")
    split = Split.load(run.split)
    found = [held_out(run, name, split, config.annotations, spec) for name in (first, second)]
    shared = sorted({row["slide_id"] for row in found[0].rows} & {row["slide_id"] for row in found[1].rows})
    if not shared:
        raise DataError(f"{first} and {second} have no test slide in common")
    rng = np.random.default_rng(spec.seed)
    rows = [[by_id(model.rows)[slide_id] for slide_id in shared] for model in found]
    result: dict[str, Any] = {
        "kind": "comparison",
        "format_version": 1,
        "first": first,
        "second": second,
        "split_digest": split.digest(),
        "slides": len(shared),
        "slide": _slide_level(rows[0], rows[1], rng, spec.bootstrap),
    }
    if config.annotations is not None:
        truth = [
            read_truth(run, name, model, spec) for name, model in zip((first, second), found, strict=True)
        ]
        known = sorted({s.slide_id for s in truth[0][0]} & {s.slide_id for s in truth[1][0]})
        slides = [[{s.slide_id: s for s in part}[slide_id] for slide_id in known] for part, _ in truth]
        result |= _annotated_levels(slides[0], slides[1], rng, spec)
        result["slides_without_annotation"] = sorted({*truth[0][1], *truth[1][1]})
    result = without_nan(result)
    write_json(run.path / "evaluation" / f"{first}_against_{second}.json", result)
    return result


def by_id(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["slide_id"]: row for row in rows}


def _slide_level(
    first: Sequence[Row], second: Sequence[Row], rng: np.random.Generator, draws: int
) -> dict[str, Any]:
    truth = np.array([row["label"] > 0 for row in first])
    scores = [np.array([row["probability"] for row in rows], np.float64) for rows in (first, second)]
    called = [np.array([row["predicted"] for row in rows], bool) for rows in (first, second)]
    patients = [row["patient"] for row in first]

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


def _annotated_levels(
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
