"""Patch level: do the tiles with high scores lie on lesions?"""

import math
from collections.abc import Sequence

import numpy as np

from wsi_mil.contracts.labels import TaskKind
from wsi_mil.contracts.metric import Metric
from wsi_mil.evaluation.measure import measure_all
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.observations import LabelledTiles, PatchObservations
from wsi_mil.evaluation.results import PatchFacts, PatchResult, WithinSlides
from wsi_mil.evaluation.slide_level import fold_spread
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.evaluation.table import MetricEntry, metrics_at

CALLED = (
    "tile probability from the slide's threshold on; attention: a weight above 1 / tiles, in called slides"
)


def observe_tiles(slides: Sequence[LabelledTiles]) -> PatchObservations:
    """Return what patch metrics are computed from: the tiles of slides that could be read."""
    return PatchObservations(tuple(slide.readable() for slide in slides))


def patch_result(
    slides: Sequence[LabelledTiles],
    folds: Sequence[int],
    without: Sequence[str],
    spec: EvaluationSpec,
    *,
    model: str,
    task: TaskKind = "detection",
) -> PatchResult:
    """Return the results of a model at patch level: over the tiles of all slides together, and means over
    slides.

    folds: the number of the model that scored each slide. without: ids of slides whose lesions are not known.
    """
    data = observe_tiles(slides)
    numbers = sorted(set(folds))
    per_fold = [
        _auc(observe_tiles([s for s, fold in zip(slides, folds, strict=True) if fold == number]))
        for number in numbers
    ]
    overlap = f"at least {spec.patch_overlap:g} of the tile's area in a lesion"
    facts = PatchFacts(
        n_slides=len(data.slides),
        n_tiles=data.n,
        n_positive=data.n_positive,
        per_slide={
            entry.within_slide or entry.name: within_slides(entry, data)
            for entry in metrics_at("patch", task)
        },
        truth=overlap if spec.patch_truth == "overlap" else "centre of the tile in a lesion",
        called=CALLED,
        slides_without_annotation=tuple(without),
        folds=fold_spread(per_fold) if len(numbers) > 1 else None,
        score_kind=data.score_kind,
    )
    return PatchResult(measure_all(data, spec.seed, model, spec.bootstrap, task), facts)


def patch_metrics(
    slides: Sequence[LabelledTiles],
    *,
    seed: int = 0,
    model: str = "model",
    draws: int = 1000,
    task: TaskKind = "detection",
) -> dict[str, Metric]:
    """Return every patch metric by name, over the tiles of all slides that could be read.

    Intervals are 95 % bootstrap intervals over the groups (patients) of slides; `draws` of 0 gives none.

    >>> truth, scores = np.array([True, False, False]), np.array([0.9, 0.4, np.nan])
    >>> found = patch_metrics([LabelledTiles("slide", "patient", truth, scores, scores >= 0.5)], draws=0)
    >>> found["f1"].value, found["f1"].n
    (1.0, 2)
    """
    return measure_all(observe_tiles(slides), seed, model, draws, task)


def within_slides(entry: MetricEntry, data: PatchObservations) -> WithinSlides:
    """Return the mean of a metric over the slides that have a tile on a lesion and on which it is defined."""
    values = []
    for number, slide in enumerate(data.slides):
        if slide.truth.any():
            row = np.array([number])
            value = float(entry.function(**{need: data.column(need, row) for need in entry.needs}))
            values += [] if math.isnan(value) else [value]
    return WithinSlides(float(np.mean(values)) if values else math.nan, len(values))


def _auc(data: PatchObservations) -> float:
    truth = np.concatenate([slide.truth for slide in data.slides])
    return auc(truth, np.concatenate([slide.scores for slide in data.slides]))
