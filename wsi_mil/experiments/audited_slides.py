"""The held-out slides of a run as a trained model sees them."""

from functools import partial

from torch import Tensor

from wsi_mil.bags import load_bag
from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation import AnnotationFolder, lesions_or_unknown, tile_overlap
from wsi_mil.logs import progress
from wsi_mil.robustness.audit.interventions import AuditedSlide
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import TrainedModel, load_model, read_slide_scores, read_tile_scores
from wsi_mil.scoring.scores import slide_probability


def audited_slides(context: RunContext, name: str) -> tuple[list[AuditedSlide], dict[str, TrainedModel]]:
    """Return the labelled test slides as the model of their fold sees them, and that model by slide id.

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
    slides, models = [], {}
    for row in progress(rows, total=len(rows), label="audit"):
        model = by_fold[row.fold]
        if not scores_are_current(run, name, model, row.slide_id):
            raise DataError(
                f"scores of slide {row.slide_id!r} were made with an earlier model or other features: run "
                "`wsi-mil score`"
            )
        slides.append(_audited(run, name, model, row, context.config.annotations))
        models[row.slide_id] = model
    return slides, models


def _audited(
    run: RunFolder, name: str, model: TrainedModel, row: SlideScoreRow, annotations: AnnotationFolder | None
) -> AuditedSlide:
    store = run.store(row.slide_id)
    table = store.read_features(model.encoder.key)
    scores = read_tile_scores(run.tile_scores(name, row.slide_id)).comparable_scores()[table.readable]
    lesions = lesions_of(run, annotations, row.slide_id, row.positive)
    tumour = None
    if lesions is not None:
        tumour = (tile_overlap(store.read_tiles(), lesions) > 0)[table.readable]
    return AuditedSlide(
        row.slide_id,
        row.patient,
        int(row.positive),
        row.threshold,
        model_features(model, table),
        scores,
        tumour,
        partial(_probability, model),
    )


def lesions_of(
    run: RunFolder, annotations: AnnotationFolder | None, slide_id: str, positive: bool
) -> list[Lesion] | None:
    """Return a slide's lesions: an empty list for a normal slide, None for a tumour slide without outline."""
    if not positive:
        return []
    path = annotations.find(slide_id) if annotations else None
    if path is None or annotations is None:
        return None
    info = run.store(slide_id).read_info()
    return lesions_or_unknown(path, slide_id, info, annotations.rules, "the truth of audit")


def model_features(model: TrainedModel, table: FeatureTable) -> Tensor:
    """Return the readable tiles' features (n, D), standardised as the model takes them."""
    return model.standardizer(load_bag(table, label=0)).features


def _probability(model: TrainedModel, features: Tensor) -> float:
    return slide_probability(model.aggregator, Bag("audited", features, 0))
