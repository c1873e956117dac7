"""The checks of a model audit that change pixels: tiles are painted, encoded and scored again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from torch import Tensor

from wsi_mil.contracts.tiles import TileTable
from wsi_mil.encoders.shared import shared_encoder
from wsi_mil.errors import WsiMilError
from wsi_mil.experiments.audited_slides import lesions_of, model_features
from wsi_mil.experiments.poison_features import tiles_at
from wsi_mil.features import encode_tiles
from wsi_mil.logs import logger, progress
from wsi_mil.robustness.audit.interventions import Answer, AuditedSlide, answer
from wsi_mil.robustness.poison.places import tile_boxes
from wsi_mil.robustness.poison.slide import poison_slide
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.run.context import RunContext
from wsi_mil.scoring import TrainedModel
from wsi_mil.slides import SlideReader, open_slide

COVERAGES = (0.05, 0.15, 0.3, 0.6)
GAINS = (0.7, 0.85, 1.15, 1.3)
SPECS = (
    *(("stain_normal", c, PoisonSpec(coverage=c)) for c in COVERAGES),
    *(("restain", g, PoisonSpec(kind="stain", stain_gains=(g, g), placement="anywhere")) for g in GAINS),
)
"""The name of the check, the dose on its x axis, and what is painted."""


@dataclass(frozen=True)
class PixelAnswers:
    """Answers by check and dose, and the slides that could not be read: slide id -> reason."""

    answers: dict[str, dict[float, list[Answer]]]
    skipped: dict[str, str]


def ask_of_pixels(
    context: RunContext, slides: Sequence[AuditedSlide], models: dict[str, TrainedModel], count: int
) -> PixelAnswers:
    """Return the model's answers on changed pixels of at most `count` rightly called slides per class."""
    found: dict[str, dict[float, list[Answer]]] = {check: {} for check, _, _ in SPECS}
    skipped = {}
    right = [slide for slide in slides if slide.rightly_called]
    chosen = [s for label in (0, 1) for s in [r for r in right if r.label == label][:count]]
    sources = {source.slide_id: source for source in context.slides}
    for slide in progress(chosen, total=len(chosen), label="audit, pixels"):
        source, model = sources[slide.slide_id], models[slide.slide_id]
        try:
            with open_slide(
                source.file, slide_id=source.slide_id, reader=context.config.slides.reader, mpp=source.mpp
            ) as reader:
                features = [painted_features(context, slide, model, reader, spec) for *_, spec in SPECS]
        except WsiMilError as error:
            skipped[slide.slide_id] = str(error)
            logger().warning("audit: the pixels of slide %s are not changed: %s", slide.slide_id, error)
            continue
        for (check, x, _), changed in zip(SPECS, features, strict=True):
            found[check].setdefault(x, []).append(answer(slide, changed))
    return PixelAnswers(found, skipped)


def painted_features(
    context: RunContext, slide: AuditedSlide, model: TrainedModel, reader: SlideReader, spec: PoisonSpec
) -> Tensor:
    """Return the slide's features (n, D) after painting; tiles without paint keep their features."""
    store = context.run.store(slide.slide_id)
    table, features = store.read_tiles(), store.read_features(model.encoder.key)
    painted = poison_slide(reader, table, spec, _spared(context, slide, table, features.readable))
    rows = np.flatnonzero(painted.plan.changed_tiles(table))
    if not len(rows):
        return slide.features
    execution = context.config.execution
    part = encode_tiles(
        painted,
        tiles_at(table, rows),
        shared_encoder(model.encoder, execution.device),
        batch_size=model.encoder.batch_size,
        threads=execution.resolved_threads(),
    )
    values, readable = features.features.copy(), features.readable.copy()
    values[rows], readable[rows] = part.features, part.readable
    return model_features(model, replace(features, features=values, readable=readable))


def _spared(
    context: RunContext, slide: AuditedSlide, table: TileTable, readable: NDArray[np.bool_]
) -> BaseGeometry:
    """Return the region that must not change: the lesions, or if unknown the most suspicious tiles."""
    lesions = lesions_of(context.run, context.config.annotations, slide.slide_id, bool(slide.label))
    if lesions is None:
        return shapely.union_all(tile_boxes(table)[np.flatnonzero(readable)[slide.suspicious()]])
    return shapely.union_all([lesion.geometry for lesion in lesions])
