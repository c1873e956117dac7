"""A trained model as one folder that says everything: weights (safetensors), specifications, threshold, provenance."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import wsi_mil
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ModelError
from wsi_mil.io.files import digest_file, write_aside
from wsi_mil.io.json import read_json, write_json
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.tasks import Task, task_from_values, task_values
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import Standardizer, TrainSpec

FORMAT = 2
"""Format 1 had no task: it is read as detection."""
WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class TrainedModel:
    """An aggregator in evaluation mode with all that it takes to use it on a new slide."""

    name: str
    aggregator: Aggregator
    standardizer: Standardizer
    task: Task
    tissue: TissueSpec
    tiles: TileSpec
    encoder: EncoderSpec
    encoder_digest: str
    threshold: Threshold | None
    training: dict[str, Any]
    digest: str = ""

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

    def check_features(self, table: FeatureTable) -> None:
        """Raise ModelError unless the features were made as this model expects."""
        if table.encoder_digest != self.encoder_digest:
            raise ModelError(
                f"model {self.name!r} was trained on {self.encoder.name} features {self.encoder_digest}, slide "
                f"{table.slide_id!r} has {table.encoder} features {table.encoder_digest}: extract with the model's encoder"
            )
        if table.features.shape[1] != self.aggregator.in_features:
            raise ModelError(
                f"model {self.name!r} takes {self.aggregator.in_features} features, slide {table.slide_id!r} has "
                f"{table.features.shape[1]}"
            )

    def check_tiles(self, spec: TileSpec, slide_id: str) -> None:
        """Raise ModelError unless tiles have the size and scale that this model was trained on (stride may differ)."""
        asked, given = (self.tiles.mpp, self.tiles.size_px), (spec.mpp, spec.size_px)
        if asked != given:
            raise ModelError(
                f"model {self.name!r} was trained on tiles of {asked[1]} px at {asked[0]:g} µm/px, slide {slide_id!r} has "
                f"{given[1]} px at {given[0]:g}: tile again with the model's setting"
            )

    def save(self, folder: Path, inputs_digest: str) -> None:
        """Write model.safetensors and model.json; the card is written last and holds the digest of the weights."""
        from safetensors.torch import save_file

        tensors = {
            f"aggregator/{name}": value.contiguous() for name, value in self.aggregator.state_dict().items()
        }
        tensors |= {"standardizer/mean": self.standardizer.mean, "standardizer/std": self.standardizer.std}
        with write_aside(folder / WEIGHTS) as aside:
            save_file(tensors, aside, metadata={"kind": "wsi_mil model weights"})
        card = {
            "kind": "wsi_mil model",
            "format_version": FORMAT,
            "producer": f"wsi_mil {wsi_mil.__version__}, torch {torch.__version__}",
            "name": self.name,
            "in_features": self.aggregator.in_features,
            "n_outputs": self.aggregator.n_outputs,
            "task": task_values(self.task),
            "class_names": list(self.class_names),
            "tissue": self.tissue.model_dump(mode="json"),
            "tiles": self.tiles.explicit(),
            "encoder": self.encoder.model_dump(mode="json"),
            "encoder_digest": self.encoder_digest,
            "threshold": asdict(self.threshold) if self.threshold else None,
            "training": self.training,
            "inputs_digest": inputs_digest,
            "weights_digest": digest_file(folder / WEIGHTS),
        }
        write_json(folder / CARD, card)


def read_card(folder: Path) -> dict[str, Any]:
    """Return model.json of a model folder; raises ModelError if there is none or it is of another format."""
    path = folder / CARD
    if not path.is_file():
        raise ModelError(
            f"no model in {folder}: expected {CARD} and {WEIGHTS}, as `wsi-mil train` writes them"
        )
    card: dict[str, Any] = read_json(path)
    if card.get("kind") != "wsi_mil model" or card.get("format_version") not in (1, FORMAT):
        raise ModelError(
            f"{path} has format {card.get('format_version')}, this version reads 1 and {FORMAT}: train again, or use the version "
            f"that made it ({card.get('producer', 'unknown')})"
        )
    return card


def fold_folder(folder: Path) -> Path:
    """Return models/<name>/fold<k> itself, or of models/<name> its only fold. Raises ModelError if there are several."""
    if (folder / CARD).exists():
        return folder
    folds = sorted(path.parent for path in folder.glob(f"fold*/{CARD}"))
    if len(folds) > 1:
        raise ModelError(f"{folder} holds {len(folds)} folds: name one, for example {folds[0]}")
    return folds[0] if folds else folder


def load_model(folder: str | Path) -> TrainedModel:
    """Return the model in `folder`: models/<name>/fold<k>, or models/<name> if that holds one fold only."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = fold_folder(Path(folder))
    card = read_card(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read ({error}): train again") from error
    if digest_file(folder / WEIGHTS) != card["weights_digest"]:
        raise ModelError(
            f"{folder / WEIGHTS} is not the file that {CARD} describes: train again, or copy both anew"
        )
    spec = TrainSpec(**card["training"]["spec"])
    name = spec.aggregator or card["name"]
    task = task_from_values(card.get("task", {"kind": "detection", "class_names": card["class_names"]}))
    aggregator = build_aggregator(name, card["in_features"], card["n_outputs"], spec.seed, spec.params, task)
    own = {
        key.removeprefix("aggregator/"): value
        for key, value in tensors.items()
        if key.startswith("aggregator/")
    }
    try:
        aggregator.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(
            f"weights in {folder} do not fit aggregator {name!r}: {str(error).splitlines()[0]}"
        ) from error
    return TrainedModel(
        name=card["name"],
        aggregator=aggregator.eval(),
        standardizer=Standardizer(tensors["standardizer/mean"], tensors["standardizer/std"]),
        task=task,
        tissue=TissueSpec(**card["tissue"]),
        tiles=TileSpec(**card["tiles"]),
        encoder=EncoderSpec(**card["encoder"]),
        encoder_digest=card["encoder_digest"],
        threshold=Threshold(**card["threshold"]) if card["threshold"] else None,
        training=card["training"],
        digest=card["weights_digest"],
    )
