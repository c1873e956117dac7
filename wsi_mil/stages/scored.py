"""A slide's scores as the later stages need them: checked against its tiles, and as points that claim a lesion."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.scores import Detection, SlideScores
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import ModelError
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.scoring import find_detections

ATTENTION_THRESHOLD = 0.5  # of the slide's largest weight: attention has no unit that a threshold could be chosen in


def check_scores(scores: SlideScores, table: TileTable) -> None:
    """Raise ModelError unless the scores belong to this tile table, row by row."""
    if scores.tiles_digest != table.digest():
        raise ModelError(
            f"scores of slide {scores.slide_id!r} were made from tile table {scores.tiles_digest}, the store now holds "
            f"{table.digest()}: run `wsi-mil score` again"
        )


def suspicion(scores: SlideScores) -> NDArray[np.float32]:
    """Return how suspicious each tile is (N,), 0 to 1, comparable between slides: its probability; attention, which reaches its largest
    weight in a normal slide, too: its share of that weight times the slide's probability."""
    found = scores.tile_probabilities()
    return found * np.float32(scores.probability) if scores.score_kind == "attention" else found


def detections_of(scores: SlideScores, table: TileTable, spec: EvaluationSpec) -> list[Detection]:
    """Return the points that FROC counts and QuPath shows."""
    return find_detections(
        scores,
        table,
        radius_um=spec.detection_radius_um,
        min_probability=spec.min_probability,
        method=spec.detections,
    )
