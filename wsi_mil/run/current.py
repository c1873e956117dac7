"""Whether files of a run are up to date: scores with their tiles and features, refined maps with their
model."""

from typing import TYPE_CHECKING

from wsi_mil.contracts.scores import SlideScoreRow, SlideScores
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import ModelError
from wsi_mil.heatmaps.refined import RefinedHeader, read_refined_header
from wsi_mil.io.json import read_json
from wsi_mil.logs import logger
from wsi_mil.refine.names import CARD
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring.files import tile_scores_header

if TYPE_CHECKING:
    from wsi_mil.scoring import TrainedModel


def scores_are_current(run: RunFolder, name: str, model: "TrainedModel", slide_id: str) -> bool:
    """Whether a slide's tile scores are of this model, and of the features and tiles that its store holds
    now."""
    header = tile_scores_header(run.tile_scores(name, slide_id))
    features = run.store(slide_id).stored_features(model.encoder.key)
    if header is None or features is None:
        return False
    # equal features may belong to another tile table: an edited outline changes the tissue fraction of tiles
    made_from = (header.model_digest, header.features_digest, header.tiles_digest)
    columns = (header.class_names, header.second_kind)
    return (made_from, columns) == (
        (model.digest, features.digest, features.tiles_digest),
        (model.tile_classes, model.second_kind),
    )


def check_scores(scores: SlideScores, table: TileTable) -> None:
    """Raise ModelError unless the scores belong to this tile table, row by row."""
    if scores.tiles_digest != table.digest():
        raise ModelError(
            f"scores of slide {scores.slide_id!r} were made from tile table {scores.tiles_digest}, "
            f"the store now holds {table.digest()}: run `wsi-mil score` again"
        )


def current_refined(run: RunFolder, name: str, row: SlideScoreRow) -> str | None:
    """Return the digest of the refiner that made the pixel-level maps of a scored slide; None without current
    maps.

    row: the slide's row of slides.parquet. Maps of an older model, of other tiles or features, or of an older
    refiner than the one beside the model are not current: a warning says so.
    """
    slide_id = row.slide_id
    header = read_refined_header(run.refined(name, slide_id))
    if header is None:
        return None
    card = run.model(name, row.fold) / CARD
    # a folder of predictions has no models, hence no card to compare with
    refiner = str(read_json(card)["weights_digest"]) if card.exists() else header.refiner_digest
    wanted = RefinedHeader(slide_id, row.tiles_digest, row.model_digest, refiner, row.features_digest)
    if header != wanted:
        logger().warning(
            "the refined maps of %s are of an older model or refiner, or of other tiles or features, and "
            "left out: run `wsi-mil refine` again",
            slide_id,
        )
        return None
    return refiner
