"""A slide's scores as the later stages need them: checked against its tiles, and as points that claim a lesion."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.scores import Detection, SlideScores
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import ModelError
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.files import read_json
from wsi_mil.heatmaps.refined import read_refined_header
from wsi_mil.logs import logger
from wsi_mil.scoring import find_detections
from wsi_mil.spatial.refiner import CARD
from wsi_mil.stages.run_folder import RunFolder

ATTENTION_THRESHOLD = (
    0.5  # of the slide's largest weight: attention has no unit that a threshold could be chosen in
)


def check_scores(scores: SlideScores, table: TileTable) -> None:
    """Raise ModelError unless the scores belong to this tile table, row by row."""
    if scores.tiles_digest != table.digest():
        raise ModelError(
            f"scores of slide {scores.slide_id!r} were made from tile table {scores.tiles_digest}, the store now holds "
            f"{table.digest()}: run `wsi-mil score` again"
        )


def current_refined(run: RunFolder, name: str, row: dict[str, Any]) -> str | None:
    """Return the digest of the network that made a scored slide's pixel-level maps (`row`: of slides.parquet). None if there are none; with a
    warning if they are of an older model, other tiles, or an older refiner than the one beside the model."""
    slide_id = row["slide_id"]
    header = read_refined_header(run.refined(name, slide_id))
    if header is None:
        return None
    card = run.model(name, row["fold"]) / CARD
    refiner = (
        read_json(card)["weights_digest"] if card.exists() else header["refiner_digest"]
    )  # predictions have no models
    wanted = {
        "model_digest": row["model_digest"],
        "tiles_digest": row["tiles_digest"],
        "refiner_digest": refiner,
    }
    if any(header[key] != value for key, value in wanted.items()):
        logger().warning(
            "the refined maps of %s are of an older model or refiner, or of other tiles, and left out: run `wsi-mil refine` again",
            slide_id,
        )
        return None
    return str(refiner)


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
