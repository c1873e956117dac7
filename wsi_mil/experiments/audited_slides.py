"""The held-out slides of a run as a trained model sees them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.bags import load_bag
from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation import AnnotationRules
from wsi_mil.logs import progress
from wsi_mil.robustness.audit.interventions import AuditedSlide
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.slide_outlines import outlined_shares, read_outlines
from wsi_mil.scoring import TrainedModel, load_model, read_slide_scores, read_tile_scores
from wsi_mil.scoring.scores import slide_probability


@dataclass(frozen=True)
class Audited:
    """The labelled test slides as the model of their fold sees them.

    folds: slide id -> that fold. outlines: slide id -> annotation file of a tumour slide whose lesions are
    known. digests: of the models.
    """

    slides: tuple[AuditedSlide, ...]
    folds: dict[str, int]
    outlines: dict[str, Path]
    digests: tuple[str, ...]


def audited_slides(context: RunContext, name: str) -> Audited:
    """Return the labelled test slides. Worker processes read their outlines.

    Raises DataError if there are none, or if scores belong to an earlier model or to other features.
    """
    run = context.run
    if not run.slide_scores(name).exists():
        raise DataError(f"model {name!r} of {run.path} has no scores: run `wsi-mil score` first")
    rows = [
        r for r in read_slide_scores(run.slide_scores(name))[0] if r.part == "test" and r.label is not None
    ]
    if not rows:
        raise DataError(f"no test slide of model {name!r} has both a label and a score: see outcomes.csv")
    by_fold = {fold: load_model(run.model(name, fold)) for fold in sorted({row.fold for row in rows})}
    for row in rows:
        if not scores_are_current(run, name, by_fold[row.fold], row.slide_id):
            raise DataError(
                f"scores of slide {row.slide_id!r} were made with an earlier model or other features: run "
                "`wsi-mil score`"
            )
    annotations = context.config.annotations
    files = annotations.files(row.slide_id for row in rows if row.positive) if annotations else {}
    shares = read_outlines(
        outlined_shares,
        run,
        files,
        annotations.rules if annotations else AnnotationRules(),
        stage=f"audit {name}",
        used_for="the truth of audit",
        execution=context.config.execution,
    )
    slides = []
    for row in progress(rows, total=len(rows), label="audit"):
        slides.append(_audited(run, name, by_fold[row.fold], row, shares.get(row.slide_id)))
    return Audited(
        tuple(slides),
        {row.slide_id: row.fold for row in rows},
        {slide_id: files[slide_id] for slide_id in shares},
        tuple(sorted({model.digest for model in by_fold.values()})),
    )


def _audited(
    run: RunFolder,
    name: str,
    model: TrainedModel,
    row: SlideScoreRow,
    share: NDArray[np.float64] | None,
) -> AuditedSlide:
    """Return a slide. share: the fraction of each tile on a lesion, None where there is no outline."""
    store = run.store(row.slide_id)
    table = store.read_features(model.encoder.key)
    scores = read_tile_scores(run.tile_scores(name, row.slide_id)).comparable_scores()[table.readable]
    if not row.positive:
        share = np.zeros(len(table.readable))
    return AuditedSlide(
        row.slide_id,
        row.patient,
        int(row.positive),
        row.threshold,
        model_features(model, table),
        scores,
        None if share is None else (share > 0)[table.readable],
        partial(probability_of, model),
    )


def model_features(model: TrainedModel, table: FeatureTable) -> Tensor:
    """Return the readable tiles' features (n, D), standardised as the model takes them."""
    return model.standardizer(load_bag(table, label=0)).features


def probability_of(model: TrainedModel, features: Tensor) -> float:
    """Return the probability that a slide is positive. features (n, D): as the model takes them."""
    return slide_probability(model.aggregator, Bag("audited", features, 0))
