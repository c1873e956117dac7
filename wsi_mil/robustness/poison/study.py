"""Results of the poison experiment: one training, all trainings of a method, and the content of
poison.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wsi_mil.errors import StoreError
from wsi_mil.evaluation.intervals import Spread, spread
from wsi_mil.io.json import read_json, without_nan
from wsi_mil.robustness.json_values import number, spread_of
from wsi_mil.robustness.poison.conditions import (
    CONDITIONS,
    DIRECTIONS,
    Arm,
    Verdict,
    loss_of_auc,
    poison_verdict,
)
from wsi_mil.robustness.poison.spec import Direction, PoisonSpec
from wsi_mil.trust import refuse_untrusted

FORMAT, TRAINING_FORMAT = 2, 2
"""Format 1 had one direction, and attention without the factor of the slide's probability (ADR 22)."""
METRICS = ("slide_auc", "patch_auc", "froc", "poison_share", "poison_top")


class EarlierStudyError(StoreError):
    """A poison.json of an earlier format, which is made again and never read."""


@dataclass(frozen=True)
class Measured:
    """One training in one condition, on the test part; NaN where undefined.

    poison_share: which fraction of a slide's attention, or of its tile probabilities, lies on poisoned tiles;
    mean over the poisoned slides: tumour slides where these are poisoned, else normal slides. poison_top:
    fraction of these slides whose highest-scoring tile is poisoned.
    """

    slide_auc: float
    patch_auc: float
    froc: float
    poison_share: float
    poison_top: float
    score_kind: str


@dataclass(frozen=True)
class PoisonTrainingResult:
    """One training: a model, an arm and a fold, measured in every condition of the arm."""

    inputs_digest: str
    model: str
    aggregator: str
    arm: Arm
    fold: int
    kept_epoch: int
    train_auc: float
    val_auc: float
    last_val_auc: float
    conditions: Mapping[str, Measured]

    def as_json(self) -> dict[str, Any]:
        """Return the content of the training's file; NaN is null."""
        head = {"kind": "poison training", "format_version": TRAINING_FORMAT}
        found: dict[str, Any] = without_nan({**head, **asdict(self)})
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "PoisonTrainingResult":
        """Return the training that `as_json` gave."""
        return cls(
            inputs_digest=found["inputs_digest"],
            model=found["model"],
            aggregator=found["aggregator"],
            arm=found["arm"],
            fold=found["fold"],
            kept_epoch=found["kept_epoch"],
            train_auc=number(found["train_auc"]),
            val_auc=number(found["val_auc"]),
            last_val_auc=number(found["last_val_auc"]),
            conditions={
                condition: Measured(
                    score_kind=row["score_kind"], **{key: number(row[key]) for key in METRICS}
                )
                for condition, row in found["conditions"].items()
            },
        )


@dataclass(frozen=True)
class ConditionSpread:
    """The metrics of `Measured` in one condition, each as the spread over trainings."""

    slide_auc: Spread
    patch_auc: Spread
    froc: Spread
    poison_share: Spread
    poison_top: Spread


@dataclass(frozen=True)
class DirectionResult:
    """What one direction says of a model. loss: clean slide AUC minus the poisoned one, over trainings."""

    loss: Spread
    verdict: Verdict


@dataclass(frozen=True)
class PoisonedModel:
    """All trainings of one model. train_auc: AUC on the training part, by arm. directions: the directions
    that were measured; a verdict holds for its own direction only.
    """

    model: str
    aggregator: str
    score_kind: str
    conditions: Mapping[str, ConditionSpread]
    train_auc: Mapping[str, Spread]
    directions: Mapping[Direction, DirectionResult]

    def verdict(self, direction: Direction) -> str:
        """Return the verdict in one direction, a dash if it was not measured."""
        found = self.directions.get(direction)
        return found.verdict if found else "-"

    def metric(self, condition: str, name: str) -> Spread | None:
        """Return one metric in one condition, None if the condition was not measured."""
        found = self.conditions.get(condition)
        spread_of_metric: Spread | None = getattr(found, name) if found else None
        return spread_of_metric


@dataclass(frozen=True)
class PoisonStudy:
    """The experiment with one poison on one run: what poison.json holds. share_of_tiles: which fraction of a
    slide's tiles the poison touches, mean over slides.
    """

    poison: PoisonSpec
    share_of_tiles: float
    models: tuple[PoisonedModel, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of poison.json; NaN is null."""
        found: dict[str, Any] = without_nan(
            {
                "kind": "poison study",
                "format_version": FORMAT,
                "poison": self.poison.model_dump(mode="json"),
                "title": self.poison.title,
                "share_of_tiles": self.share_of_tiles,
                "models": [_model_json(model) for model in self.models],
            }
        )
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "PoisonStudy":
        """Return the study that `as_json` gave."""
        models = tuple(_read_model(model) for model in found["models"])
        return cls(PoisonSpec(**found["poison"]), found["share_of_tiles"], models)


def read_poison_study(path: Path) -> PoisonStudy:
    """Return what a poison.json holds. Raises EarlierStudyError for an earlier format, StoreError for another
    file, and TrustError if it names code that the user does not trust."""
    found = read_json(path, "run `wsi-mil poison` again")
    kind = (found.get("kind"), found.get("format_version"))
    if kind[0] == "poison study" and kind[1] in range(1, FORMAT):
        raise EarlierStudyError(
            f"{path} has format {kind[1]}, which has one direction only, expected {FORMAT}: "
            "run `wsi-mil poison` again"
        )
    if kind != ("poison study", FORMAT):
        raise StoreError(
            f"{path} holds {kind[0]!r} of format {kind[1]}, expected 'poison study' of format {FORMAT}: "
            "run `wsi-mil poison` again"
        )
    poison = found.get("poison")
    refuse_untrusted(str(path), {"poison.kind": poison.get("kind") if isinstance(poison, Mapping) else None})
    try:
        return PoisonStudy.from_json(found)
    except ValidationError as error:
        raise StoreError(
            f"{path} was made with settings that this installation does not know "
            f"({error.errors()[0]['msg']}): install the package that offers this kind of poison, "
            "or remove the folder"
        ) from error


def _model_json(model: PoisonedModel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": model.model,
        "aggregator": model.aggregator,
        "score_kind": model.score_kind,
        "conditions": {name: asdict(row) for name, row in model.conditions.items()},
    }
    found |= {f"train_auc_{arm}": asdict(row) for arm, row in model.train_auc.items()}
    found["directions"] = {name: asdict(row) for name, row in model.directions.items()}
    return found


def _read_model(found: Mapping[str, Any]) -> PoisonedModel:
    conditions = {
        name: ConditionSpread(*(spread_of(row[key]) for key in METRICS))
        for name, row in found["conditions"].items()
    }
    start = "train_auc_"
    return PoisonedModel(
        found["model"],
        found["aggregator"],
        found["score_kind"],
        conditions,
        {key.removeprefix(start): spread_of(row) for key, row in found.items() if key.startswith(start)},
        {
            name: DirectionResult(spread_of(row["loss"]), row["verdict"])
            for name, row in found["directions"].items()
        },
    )


def summarise_poison(
    spec: PoisonSpec, models: Sequence[str], rows: Sequence[PoisonTrainingResult], share_of_tiles: float
) -> PoisonStudy:
    """Return the study of `models` from their trainings, in the order of the names."""
    own = {name: sorted((r for r in rows if r.model == name), key=lambda r: r.fold) for name in models}
    return PoisonStudy(spec, share_of_tiles, tuple(_summarise(name, own[name]) for name in models))


def _summarise(name: str, rows: Sequence[PoisonTrainingResult]) -> PoisonedModel:
    """One model; `rows` are its trainings, sorted by fold."""
    measured = {
        condition: [row.conditions[condition] for row in rows if condition in row.conditions]
        for condition in CONDITIONS
    }
    conditions = {
        condition: ConditionSpread(*(spread([getattr(row, key) for row in found]) for key in METRICS))
        for condition, found in measured.items()
        if found
    }
    train_auc: dict[str, Spread] = {
        arm: spread([row.train_auc for row in rows if row.arm == arm])
        for arm in dict.fromkeys(row.arm for row in rows)
    }
    return PoisonedModel(
        name,
        rows[0].aggregator,
        next(iter(rows[0].conditions.values())).score_kind,
        conditions,
        train_auc,
        _directions({condition: [row.slide_auc for row in found] for condition, found in measured.items()}),
    )


def _directions(aucs: Mapping[str, Sequence[float]]) -> dict[Direction, DirectionResult]:
    """Return the result of each direction whose trainings exist. aucs: condition -> slide AUC, one per
    training."""
    clean = aucs["none"]
    return {
        direction: DirectionResult(loss_of_auc(clean, aucs[key]), poison_verdict(clean, aucs[key]))
        for direction, key in DIRECTIONS.items()
        if clean and aucs[key]
    }
