"""audit: a trained model asked what-if questions about the slides that it was not trained on."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from torch import Tensor

from wsi_mil.bags import load_bag
from wsi_mil.config import RunConfig
from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.errors import ConfigError, DataError, WsiMilError, nearest
from wsi_mil.evaluation import AnnotationFolder, read_annotations, tile_overlap
from wsi_mil.evaluation.truth import comparable_scores
from wsi_mil.experiments.poison_features import tiles_at
from wsi_mil.features import encode_tiles
from wsi_mil.io.files import write_json
from wsi_mil.io.json import without_nan
from wsi_mil.logs import logger, progress
from wsi_mil.report.audit_figure import draw_audit
from wsi_mil.robustness.audit.interventions import (
    QUESTIONS,
    Answer,
    AuditedSlide,
    agreement,
    ask_of_features,
    overall,
    right_calls,
    summarise_check,
)
from wsi_mil.robustness.poison.places import tile_boxes
from wsi_mil.robustness.poison.slide import poison_slide
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.current import scores_are_current
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.scoring import TrainedModel, load_model, read_slide_scores, read_tile_scores
from wsi_mil.scoring.scores import slide_probability
from wsi_mil.slides import SlideReader, open_slide

FORMAT = 1
COVERAGES = (0.05, 0.15, 0.3, 0.6)
GAINS = (0.7, 0.85, 1.15, 1.3)
POOL_TILES_A_SLIDE = 500


def run_audit(config: RunConfig, name: str, pixel_slides: int = 8, out: Path | None = None) -> dict[str, Any]:
    """Ask model `name` of a run about its test slides; write audit.json and curves.png into RUN/audit/<name> (or `out`); return the former.

    `pixel_slides`: how many slides of each class are read again for the checks that repaint pixels (0: none).
    Raises ConfigError for a model that the run has not, DataError without labelled and scored test slides.
    """
    with locked(config.run):
        context = open_run(config, keep_configuration=True)
        if name not in config.models:
            raise ConfigError(f"the run has no model {name!r}. Nearest: {nearest(name, list(config.models))}")
        slides, models = audited_slides(context, name)
        rng = np.random.default_rng(config.evaluation.seed)
        pool = _normal_tiles(slides, rng)
        answers = ask_of_features(slides, pool, rng)
        repainted, skipped = ask_of_pixels(context, slides, models, pixel_slides)
        answers |= repainted
        draws = config.evaluation.bootstrap
        checks = {key: summarise_check(QUESTIONS[key], points, rng, draws) for key, points in answers.items()}
        agrees = agreement(slides, rng, draws)
        verdicts = [*(check["verdict"] for check in checks.values()), agrees["verdict"]]
        found = without_nan(
            {
                "kind": "audit of a model",
                "format_version": FORMAT,
                "model": name,
                "model_digests": sorted({model.digest for model in models.values()}),
                "slides": len(slides),
                "rightly_called": len(right_calls(slides, tumour_only=False)),
                "tumour_rightly_called": len(right_calls(slides, tumour_only=True)),
                "verdict": overall(verdicts),
                "failed": [key for key, check in checks.items() if check["verdict"] == "fail"]
                + (["agreement"] if agrees["verdict"] == "fail" else []),
                "checks": checks,
                "agreement": agrees,
                "skipped": skipped,
            }
        )
        folder = out or config.run / "audit" / name
        write_json(folder / "audit.json", found)
        draw_audit(found, folder / "curves.png")
        return dict(found)


def audited_slides(context: RunContext, name: str) -> tuple[list[AuditedSlide], dict[str, TrainedModel]]:
    """Return the labelled test slides as the model of their fold sees them, and that model by slide id."""
    run, config = context.run, context.config
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
        slide_id, model = row.slide_id, by_fold[row.fold]
        if not scores_are_current(run, name, model, slide_id):
            raise DataError(
                f"scores of slide {slide_id!r} are not of the present model and features: run `wsi-mil score`"
            )
        table = run.store(slide_id).read_features(model.encoder.key)
        scores = comparable_scores(read_tile_scores(run.tile_scores(name, slide_id)))[table.readable]
        lesions = lesions_of(run, config.annotations, slide_id, row.class_index)
        tumour = None
        if lesions is not None:
            tumour = (tile_overlap(run.store(slide_id).read_tiles(), lesions) > 0)[table.readable]
        label = int(row.positive)
        slides.append(
            AuditedSlide(
                slide_id,
                row.patient,
                label,
                row.threshold,
                _features(model, table),
                scores,
                tumour,
                partial(_probability, model),
            )
        )
        models[slide_id] = model
    return slides, models


def lesions_of(
    run: RunFolder, annotations: AnnotationFolder | None, slide_id: str, label: int
) -> list[Lesion] | None:
    """Return a slide's lesions: none of a normal one, None of a tumour slide without outline."""
    if not label:
        return []
    path = annotations.find(slide_id) if annotations else None
    if path is None or annotations is None:
        return None
    return list(read_annotations(path, slide_id, run.store(slide_id).read_info(), annotations.bounds))


def _features(model: TrainedModel, table: FeatureTable) -> Tensor:
    return model.standardizer(load_bag(table, label=0)).features


def _probability(model: TrainedModel, features: Tensor) -> float:
    return slide_probability(model.aggregator, Bag("audited", features, 0))


def _normal_tiles(slides: Sequence[AuditedSlide], rng: np.random.Generator) -> Tensor:
    """Tiles of normal test slides to swap in; no slide is over-represented."""
    normal = [s.features for s in slides if not s.label]
    if not normal:
        raise DataError("no normal test slide: their tiles are needed to swap in")
    return torch.cat([f[torch.from_numpy(rng.permutation(len(f))[:POOL_TILES_A_SLIDE])] for f in normal])


def ask_of_pixels(
    context: RunContext, slides: Sequence[AuditedSlide], models: dict[str, TrainedModel], count: int
) -> tuple[dict[str, dict[float, list[Answer]]], dict[str, str]]:
    """Return the answers of the checks that repaint tiles and encode them again, of at most `count` slides of each class; and, of
    slides that could not be read, why."""
    found: dict[str, dict[float, list[Answer]]] = {"stain_normal": {}, "restain": {}}
    skipped = {}
    right = right_calls(slides, tumour_only=False)
    chosen = [s for label in (0, 1) for s in [r for r in right if r.label == label][:count]]
    sources = {source.slide_id: source for source in context.slides}
    specs = [("stain_normal", c, PoisonSpec(coverage=c)) for c in COVERAGES]
    specs += [
        ("restain", g, PoisonSpec(kind="stain", stain_gains=(g, g), placement="anywhere")) for g in GAINS
    ]
    for slide in progress(chosen, total=len(chosen), label="audit, pixels"):
        try:
            with _open(context, sources[slide.slide_id]) as reader:
                values = [
                    slide.score(_repainted(context, slide, models[slide.slide_id], reader, spec))
                    for *_, spec in specs
                ]
        except WsiMilError as error:
            skipped[slide.slide_id] = str(error)
            logger().warning("audit: %s is not repainted: %s", slide.slide_id, error)
            continue
        for (check, x, _), probability in zip(specs, values, strict=True):
            kept = (probability >= slide.threshold) == bool(slide.label)
            found[check].setdefault(x, []).append(Answer(slide.slide_id, slide.patient, kept, probability))
    return found, skipped


def _open(context: RunContext, source: SlideSource) -> SlideReader:
    return open_slide(
        source.file, slide_id=source.slide_id, reader=context.config.slides.reader, mpp=source.mpp
    )


def _repainted(
    context: RunContext, slide: AuditedSlide, model: TrainedModel, reader: SlideReader, spec: PoisonSpec
) -> Tensor:
    """The slide's features after its tiles were repainted; those that the paint does not reach keep theirs."""
    run, key = context.run, model.encoder.key
    store = run.store(slide.slide_id)
    table, features = store.read_tiles(), store.read_features(key)
    lesions = lesions_of(run, context.config.annotations, slide.slide_id, slide.label)
    spared = shapely.union_all([lesion.geometry for lesion in lesions or ()])
    if lesions is None:  # where tumour is not known, the tiles that the model points at are spared
        readable = np.flatnonzero(features.readable)
        spared = shapely.union_all(tile_boxes(table)[readable[slide.suspicious()]])
    painted = poison_slide(reader, table, spec, spared)
    rows = np.flatnonzero(painted.plan.changed_tiles(table))
    if not len(rows):
        return slide.features
    encoder = shared_encoder(model.encoder, context.config.execution.device)
    part = encode_tiles(
        painted,
        tiles_at(table, rows),
        encoder,
        batch_size=model.encoder.batch_size,
        threads=context.config.execution.resolved_threads(),
    )
    values, readable_rows = features.features.copy(), features.readable.copy()
    values[rows], readable_rows[rows] = part.features, part.readable
    return _features(model, replace(features, features=values, readable=readable_rows))
