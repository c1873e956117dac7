"""A trained model as a folder of two files: its weights (safetensors) and its card (JSON)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import wsi_mil
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ModelError, one_line
from wsi_mil.io.files import digest_file, write_aside
from wsi_mil.io.seals import current_digest
from wsi_mil.paths import require_text
from wsi_mil.scoring.calibration import Calibration
from wsi_mil.scoring.card import CARD, WEIGHTS, ModelCard, TrainingRecord, read_card
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.tasks import Task
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import Standardizer
from wsi_mil.training.learning import not_learned_line


@dataclass(frozen=True)
class TrainedModel:
    """An aggregator in evaluation mode, with everything that is needed to use it on a new slide.

    tissue, tiles, encoder: the settings that made its features. digest: of its weights. calibration: of
    detection; None of models of versions before 0.3.
    """

    name: str
    aggregator: Aggregator
    standardizer: Standardizer
    task: Task
    tissue: TissueSpec
    tiles: TileSpec
    encoder: EncoderSpec
    encoder_digest: str
    threshold: Threshold | None
    training: TrainingRecord
    digest: str = ""
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if (self.threshold is None) == self.detects:
            raise ModelError(
                f"model {self.name!r}: detection, and only detection, has a threshold; got {self.threshold}"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of their indices; empty for regression and survival."""
        return self.task.class_names

    @property
    def detects(self) -> bool:
        """Whether the task is detection."""
        return self.task.kind == "detection"

    @property
    def tile_classes(self) -> tuple[str, ...]:
        """The classes of which each tile has a probability: none of two classes of detection, where the tile
        score says it."""
        return self.class_names if not self.detects or len(self.class_names) > 2 else ()

    def refuse_unlearned(self, folder: Path) -> None:
        """Raise ModelError for a model whose training has learned nothing."""
        if self.training.learned is False:
            raise ModelError(
                f"model {self.name!r} in {folder} "
                f"{not_learned_line(self.training.metrics)}: train it again (train.restarts=3 "
                "tries other seeds), or add --not-learned to use it all the same"
            )

    @property
    def second_kind(self) -> str:
        """The kind of the second score of each tile, as files name it; "" if the method has one score."""
        kind = self.aggregator.second_kind
        return kind if self.detects or not kind else score_kind(kind).of_predictions

    def check_features(self, table: FeatureTable) -> None:
        """Raise ModelError unless the features were made as this model expects."""
        if table.encoder_digest != self.encoder_digest:
            raise ModelError(
                f"model {self.name!r} was trained on {self.encoder.name} features {self.encoder_digest}, "
                f"slide {table.slide_id!r} has {table.encoder} features {table.encoder_digest}: "
                "extract with the model's encoder"
            )
        if table.features.shape[1] != self.aggregator.in_features:
            raise ModelError(
                f"model {self.name!r} takes {self.aggregator.in_features} features, "
                f"slide {table.slide_id!r} has {table.features.shape[1]}: extract with the model's encoder"
            )

    def check_tiles(self, spec: TileSpec, slide_id: str) -> None:
        """Raise ModelError unless tiles have the size and scale that the model was trained on. The stride
        may differ."""
        expected, found = (self.tiles.mpp, self.tiles.size_px), (spec.mpp, spec.size_px)
        if expected != found:
            raise ModelError(
                f"model {self.name!r} was trained on tiles of {expected[1]} px at {expected[0]:g} µm/px, "
                f"slide {slide_id!r} has {found[1]} px at {found[0]:g}: tile again with the model's setting"
            )

    def save(self, folder: Path, inputs_digest: str) -> None:
        """Write model.safetensors and model.json; the card is written last and holds the digest of the
        weights."""
        from safetensors.torch import save_file

        tensors = {
            f"aggregator/{name}": value.contiguous() for name, value in self.aggregator.state_dict().items()
        }
        tensors |= {"standardizer/mean": self.standardizer.mean, "standardizer/std": self.standardizer.std}
        with write_aside(folder / WEIGHTS) as aside:
            save_file(tensors, aside, metadata={"kind": "wsi_mil model weights"})
        ModelCard(
            producer=f"wsi_mil {wsi_mil.__version__}, torch {torch.__version__}",
            name=self.name,
            in_features=self.aggregator.in_features,
            n_outputs=self.aggregator.n_outputs,
            task=self.task,
            tissue=self.tissue,
            tiles=self.tiles,
            encoder=self.encoder,
            encoder_digest=self.encoder_digest,
            threshold=self.threshold,
            training=self.training,
            inputs_digest=inputs_digest,
            weights_digest=digest_file(folder / WEIGHTS),
            calibration=self.calibration,
        ).write(folder)


def fold_folder(folder: Path) -> Path:
    """Return the folder of a model: models/<name>/fold<k>, or models/<name> if it holds one fold only.

    Raises ModelError if there are several.
    """
    if (folder / CARD).exists():
        return folder
    folds = sorted(path.parent for path in folder.glob(f"fold*/{CARD}"))
    if len(folds) > 1:
        raise ModelError(f"{folder} holds {len(folds)} folds: name one, for example {folds[0]}")
    return folds[0] if folds else folder


def load_model(folder: str | Path) -> TrainedModel:
    """Return the model in a folder: models/<name>/fold<k>, or models/<name> if it holds one fold only.

    Raises DataError for a path that is not UTF-8; ModelError if there is none, if a file is broken, or if
    card and weights do not belong together.
    """
    require_text(Path(folder), "model folder")
    folder = fold_folder(Path(folder))
    card = read_card(folder)
    tensors = _read_weights(folder, card)
    spec, name = card.training.spec, card.training.aggregator
    prefix = "aggregator/"
    weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        aggregator = build_aggregator(
            name, card.in_features, card.n_outputs, spec.seed, spec.params, card.task
        )
        aggregator.load_state_dict(weights)
        standardizer = Standardizer(tensors["standardizer/mean"], tensors["standardizer/std"])
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"weights in {folder} do not fit aggregator {name!r} with the settings in {CARD}: "
            f"{one_line(str(error), 300)}: train again, or copy both anew"
        ) from error
    return TrainedModel(
        name=card.name,
        aggregator=aggregator.eval(),
        standardizer=standardizer,
        task=card.task,
        tissue=card.tissue,
        tiles=card.tiles,
        encoder=card.encoder,
        encoder_digest=card.encoder_digest,
        threshold=card.threshold,
        training=card.training,
        digest=card.weights_digest,
        calibration=card.calibration,
    )


def _read_weights(folder: Path, card: ModelCard) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_weights(folder, card)
    path = folder / WEIGHTS
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}): train again") from error
    return tensors


def check_weights(folder: Path, card: ModelCard) -> None:
    """Raise ModelError unless model.safetensors in a folder is the file that its card describes."""
    path, found = folder / WEIGHTS, current_digest(folder / WEIGHTS)
    if found is None:
        raise ModelError(f"{path} is missing: run `wsi-mil train`, or copy it anew together with {CARD}")
    if found != card.weights_digest:
        raise ModelError(
            f"{path} is not the file that {CARD} describes, expected digest {card.weights_digest}, found "
            f"{found}: remove both and run `wsi-mil train`, or copy both anew"
        )
