"""model.json: everything about a trained model except its weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wsi_mil.contracts.record import Record, require, require_file_name
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.names import is_family
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ModelError, WsiMilError
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.scoring.calibration import Calibration
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.tasks import Task, task_from_values, task_values
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import TrainSpec
from wsi_mil.training.learning import has_learned
from wsi_mil.trust import refuse_untrusted

KIND, FORMAT = "wsi_mil model", 3
"""Format 1 had no task: it is read as detection. Formats 1 and 2 do not say which classes are positive: of
detection, all but the first."""
MOST_FEATURES, MOST_OUTPUTS = 100_000, 10_000
"""A card from outside that asks for more would only fill the memory: encoders have up to 5,000 features."""
WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class TrainingRecord(Record):
    """How a model was trained, and how it did.

    spec: the settings; its `aggregator` is always given. fold, repeat, seed_number: which training of the
    run it was.
    split_digest, train_digest: of the split and of the training slides.
    kept_epoch: the epoch (from 1) whose weights were kept, of `epochs_run`. metrics: of that epoch.
    test: the slide metrics of the test part. annotated_slides: those whose outlines the training used.
    """

    spec: TrainSpec
    fold: int = 0
    repeat: int = 0
    seed_number: int = 0
    split_digest: str = ""
    train_digest: str = ""
    kept_epoch: int = 1
    epochs_run: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    train_slides: int = 0
    val_slides: int = 0
    test_slides: int = 0
    annotated_slides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"training of fold {self.fold}"
        require(
            bool(self.spec.aggregator),
            where,
            "spec",
            "settings that name the aggregator",
            self.spec,
            ModelError,
        )
        for name in ("fold", "repeat", "seed_number", "train_slides", "val_slides", "test_slides"):
            value = getattr(self, name)
            require(value >= 0, where, name, "0 or more", value, ModelError)
        for name in ("kept_epoch", "epochs_run"):
            value = getattr(self, name)
            require(value >= 1, where, name, "1 or more", value, ModelError)

    @property
    def aggregator(self) -> str:
        """The registry name of the aggregator."""
        return self.spec.aggregator or ""

    @property
    def learned(self) -> bool | None:
        """Whether the training has learned anything; None if that is not known, as of earlier versions."""
        return has_learned(self.metrics)

    def as_json(self) -> dict[str, Any]:
        """Return the record in JSON's types."""
        values = {name: value for name, value in vars(self).items() if name != "spec"}
        return {
            **values,
            "spec": self.spec.model_dump(mode="json"),
            "metrics": dict(self.metrics),
            "test": dict(self.test),
            "annotated_slides": list(self.annotated_slides),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], name: str) -> "TrainingRecord":
        """Return the record that `as_json` gave. name: the model's, which is the aggregator's if none is
        given."""
        # earlier versions had no warm-up
        spec = TrainSpec(**{"warm_up": "none", **found["spec"]})
        spec = spec if spec.aggregator else spec.model_copy(update={"aggregator": name})
        annotated = tuple(found.get("annotated_slides", ()))
        return cls(**{**found, "spec": spec, "annotated_slides": annotated})


@dataclass(frozen=True)
class ModelCard(Record):
    """What model.json says of a model.

    producer: the versions that trained it. in_features, n_outputs: of the aggregator.
    tissue, tiles, encoder: the settings that made its features. threshold: of detection only.
    calibration: of detection; None in cards of versions before 0.3.
    inputs_digest: of everything that the training depends on. weights_digest: of model.safetensors.
    """

    producer: str
    name: str
    in_features: int
    n_outputs: int
    task: Task
    tissue: TissueSpec
    tiles: TileSpec
    encoder: EncoderSpec
    encoder_digest: str
    threshold: Threshold | None
    training: TrainingRecord
    inputs_digest: str
    weights_digest: str
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        where = f"card of model {self.name!r}"
        require_file_name(self.name, where, "name", ModelError)
        for name, most in (("in_features", MOST_FEATURES), ("n_outputs", MOST_OUTPUTS)):
            value = getattr(self, name)
            valid = type(value) is int and 1 <= value <= most
            require(valid, where, name, f"a whole number from 1 to {most:,}", value, ModelError)
        valid = (self.threshold is not None) == (self.task.kind == "detection")
        expected = "given for detection, and only for detection"
        require(valid, where, "threshold", expected, self.threshold, ModelError)

    def write(self, folder: Path) -> None:
        """Write model.json into a model's folder."""
        values = {
            "kind": KIND,
            "format_version": FORMAT,
            "producer": self.producer,
            "name": self.name,
            "in_features": self.in_features,
            "n_outputs": self.n_outputs,
            "task": task_values(self.task),
            "class_names": list(self.task.class_names),
            "tissue": self.tissue.model_dump(mode="json"),
            "tiles": self.tiles.explicit(),
            "encoder": self.encoder.settled.model_dump(mode="json"),
            "encoder_digest": self.encoder_digest,
            "threshold": asdict(self.threshold) if self.threshold else None,
            "calibration": self.calibration.as_json() if self.calibration else None,
            "training": self.training.as_json(),
            "inputs_digest": self.inputs_digest,
            "weights_digest": self.weights_digest,
        }
        write_json(folder / CARD, values)


def read_card(folder: Path) -> ModelCard:
    """Return the card in a model's folder. Raises ModelError if there is none, or if it cannot be
    read, and TrustError if it names code that the user does not trust."""
    path = folder / CARD
    if not path.is_file():
        raise ModelError(
            f"no model in {folder}: expected {CARD} and {WEIGHTS}, as `wsi-mil train` writes them"
        )
    try:
        found = read_json(path, f"remove it and run `wsi-mil train`, or copy it anew together with {WEIGHTS}")
    except DamagedFileError as error:
        raise ModelError(str(error)) from error
    if found.get("kind") != KIND or found.get("format_version") not in (1, 2, FORMAT):
        raise ModelError(
            f"{path} has format {found.get('format_version')}, this version reads 1 to {FORMAT}: "
            f"train again, or use the version that made it ({found.get('producer', 'unknown')})"
        )
    _refuse_untrusted(path, found)
    try:
        return _card(found)
    except (KeyError, TypeError, ValueError, AttributeError, WsiMilError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ModelError(f"{path} is no valid model card: {what}: train again, or copy it anew") from error


def _refuse_untrusted(path: Path, found: Mapping[str, Any]) -> None:
    """Raise TrustError if the card names code that is not trusted. Its values may have any form."""

    def value(*keys: str) -> Any:
        at: Any = found
        for key in keys:
            at = at.get(key) if isinstance(at, Mapping) else None
        return at

    encoder = value("encoder", "name")
    names = {
        "training.spec.aggregator": value("training", "spec", "aggregator") or value("name"),
        "task.kind": value("task", "kind"),
        "encoder.name": None if is_family(str(encoder)) else encoder,
    }
    refuse_untrusted(str(path), names)


def _card(found: Mapping[str, Any]) -> ModelCard:
    threshold = found["threshold"]
    return ModelCard(
        producer=found["producer"],
        name=found["name"],
        in_features=found["in_features"],
        n_outputs=found["n_outputs"],
        task=task_from_values(found.get("task", {"kind": "detection", "class_names": found["class_names"]})),
        tissue=TissueSpec(**found["tissue"]),
        tiles=TileSpec(**found["tiles"]),
        encoder=EncoderSpec(**found["encoder"]),
        encoder_digest=found["encoder_digest"],
        threshold=Threshold(**threshold) if threshold else None,
        training=TrainingRecord.from_json(found["training"], found["name"]),
        inputs_digest=found["inputs_digest"],
        weights_digest=found["weights_digest"],
        calibration=Calibration.from_json(found["calibration"]) if found.get("calibration") else None,
    )
