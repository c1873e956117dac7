"""Train the refiner of a fold: choose tiles that the slide model is sure of, read them, and fit a small
network."""

from pathlib import Path

import numpy as np
import torch

from wsi_mil.bags import Fold
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.evaluation import AnnotationFolder, AnnotationRules, lesions_or_unknown, read_annotations
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.logs import logger
from wsi_mil.refine.network import NORMAL, TUMOUR, fit_tiles
from wsi_mil.refine.refiner import Refiner, load_refiner, save_refiner
from wsi_mil.refine.tiles import TrainingSlide, choose_tiles, find_limits, read_training_tiles
from wsi_mil.run.context import RunContext
from wsi_mil.run.current import check_scores, scores_are_current
from wsi_mil.scoring import TrainedModel, read_tile_scores, score_features

MADE_BY = 2
"""Changes when equal settings would give another refiner: those made before are trained again."""


def refiner_of(
    context: RunContext, name: str, number: int, fold: Fold, model: TrainedModel, device: torch.device
) -> Refiner:
    """Return the refiner of fold `number` of model `name`: the saved one if it is up to date, else a new one,
    saved."""
    run, spec = context.run, context.config.refine
    outlines = _outlines(context, fold)
    classes = context.config.slides.lesion_classes
    made_from = digest_json(
        {
            **({"lesion_classes": classes} if classes else {}),
            "spec": spec.model_dump(mode="json", exclude={"parts", "polygons"}),
            "version": MADE_BY,
            "model": model.digest,
            "train": fold.digest("train"),
            "tiles": [run.store(slide_id).tiles_digest() for slide_id in fold.train],
            "outlines": {key: digest_file(path) for key, path in outlines.items() if path},
        }
    )
    folder = run.model(name, number)
    if (found := load_refiner(folder, device, made_from)) is not None:
        return found
    slides = [
        slide
        for slide_id in fold.train
        if (slide := _training_slide(context, name, model, slide_id, outlines[slide_id]))
    ]
    limits = find_limits(slides, spec)
    chosen = choose_tiles(slides, limits, spec, np.random.default_rng(spec.seed))
    tiles = read_training_tiles(slides, chosen, context.config.slides.reader, spec)
    counts = {
        "tumour": int(tiles.labels.sum()),
        "normal": int((1 - tiles.labels).sum()),
        "outlined": int(tiles.has_mask.sum()),
    }
    logger().info(
        "refine %s, fold %d: %d tumour and %d normal tiles, %d of them with outlines",
        name,
        number,
        *counts.values(),
    )
    return save_refiner(folder, fit_tiles(tiles, spec, device), spec, limits, made_from, counts)


def _outlines(context: RunContext, fold: Fold) -> dict[str, Path | None]:
    """Training slide -> the file that outlines its lesions; None where there is none."""
    config = context.config
    if config.refine.polygons is None:
        return dict.fromkeys(fold.train)
    polygons = AnnotationFolder(config.refine.polygons)
    return {slide_id: polygons.find(slide_id) for slide_id in fold.train}


def _training_slide(
    context: RunContext, name: str, model: TrainedModel, slide_id: str, outline: Path | None
) -> TrainingSlide | None:
    """Return a slide to learn from; None for a slide without label, file or features."""
    run, label = context.run, context.require_labels().rows.get(slide_id)
    store = run.store(slide_id)
    source = context.sources.get(slide_id)
    if label is None or label.label is None or source is None:
        return None
    if store.stored_features(model.encoder.key) is None:
        return None
    info, table = store.read_info(), store.read_tiles()
    if scores_are_current(run, name, model, slide_id):
        scores = read_tile_scores(run.tile_scores(name, slide_id))
    else:  # of several folds, each scores its own test slides only
        scores = score_features(model, store.read_features(model.encoder.key))
    check_scores(scores, table)
    kind = TUMOUR if model.task.is_positive(label.label) else NORMAL
    lesions = _lesions(context, outline, info, kind)
    return TrainingSlide(source, info, table, kind, scores.suspicion(), lesions)


def _lesions(
    context: RunContext, outline: Path | None, info: SlideInfo, kind: int
) -> tuple[Lesion, ...] | None:
    """Return the outlined lesions of a slide, None where they are unknown."""
    if outline is None:
        return None
    bounds, classes = context.config.qupath.bounds, context.config.slides.lesion_classes
    if kind == NORMAL:
        return tuple(read_annotations(outline, info.slide_id, info, bounds, classes))
    rules = AnnotationRules(bounds, classes)
    found = lesions_or_unknown(outline, info.slide_id, info, rules, "the outlines that refine learns from")
    return None if found is None else tuple(found)
