"""train and score: models from features and labels, scores from models and features."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wsi_mil.aggregators import build_aggregator
from wsi_mil.bags import Fold, Split, SplitSpec, load_bag, make_split
from wsi_mil.bags.labels import LabelTable, SlideLabel
from wsi_mil.contracts.bags import Bag
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.base import pick_device
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import DataError, ModelError
from wsi_mil.execution import ExecutionSpec
from wsi_mil.files import digest_json
from wsi_mil.logs import logger
from wsi_mil.scoring import (
    TrainedModel,
    choose_threshold,
    load_model,
    score_features,
    write_slide_scores,
    write_tile_scores,
)
from wsi_mil.scoring.files import read_tile_scores, tile_scores_header
from wsi_mil.scoring.model import read_card
from wsi_mil.scoring.thresholds import Threshold
from wsi_mil.stages.run_folder import RunFolder
from wsi_mil.stages.slides import each
from wsi_mil.tissue import TissueSpec
from wsi_mil.training import Standardizer, TrainSpec, fit


@dataclass(frozen=True)
class TrainingSet:
    """What all models of a run share: usable labelled slides and how their features were made."""

    labels: dict[str, SlideLabel]
    class_names: tuple[str, ...]
    features_digests: dict[str, str]
    tissue: TissueSpec
    tiles: TileSpec
    encoder: EncoderSpec


def training_set(
    run: RunFolder, labels: LabelTable, tissue: TissueSpec, tiles: TileSpec, encoder: EncoderSpec
) -> TrainingSet:
    """Return the labelled slides that have features; a slide without is passed over, as its outcome says."""
    digests = {}
    for slide_id, row in sorted(labels.rows.items()):
        attributes = run.store(slide_id).features_attributes(encoder.key) if row.label is not None else None
        if attributes is not None and attributes["rows"] > 0:
            digests[slide_id] = str(attributes["digest"])
    if not digests:
        raise DataError(f"no labelled slide has {encoder.key} features in {run.path}: run `wsi-mil extract` first")
    usable = {slide_id: labels.rows[slide_id] for slide_id in digests}
    return TrainingSet(usable, labels.class_names, digests, tissue, tiles, encoder)


def load_or_make_split(run: RunFolder, data: TrainingSet, spec: SplitSpec) -> Split:
    """Return the run's saved split if it fits the slides and `spec`, else make and save a new one."""
    made = make_split(list(data.labels.values()), spec)
    if run.split.exists():
        saved = Split.load(run.split)
        if saved.spec == spec and saved.digest() == made.digest():
            return saved
        logger().info("the slides or the split settings have changed: a new split is drawn")
    made.save(run.split)
    return made


def run_train(run: RunFolder, data: TrainingSet, split: Split, models: Mapping[str, TrainSpec],
              execution: ExecutionSpec) -> int:  # fmt: skip
    """Train every model on every fold; return how many trainings were needed."""
    torch.set_num_threads(execution.resolved_threads())
    device = pick_device(execution.device)
    bags: dict[str, Bag] = {}
    trained = 0
    for name, spec in models.items():
        for number, fold in enumerate(split.folds):
            members = [*fold.train, *fold.val]
            inputs = digest_json(
                {
                    "spec": spec.model_dump(mode="json"),
                    "fold": [fold.digest("train"), fold.digest("val")],
                    "features": [data.features_digests[slide_id] for slide_id in members],
                    "labels": [data.labels[slide_id].label for slide_id in members],
                    "class_names": data.class_names,
                    "made_with": [data.tissue.digest(), data.tiles.digest(), data.encoder.digest()],
                }
            )
            folder = run.model(name, number)
            if (folder / "model.json").exists() and read_card(folder)["inputs_digest"] == inputs:
                continue
            if not bags:
                bags = _load_bags(run, data)
            _train_one(name, spec, data, split, number, bags, run, inputs, device)
            trained += 1
    return trained


def _load_bags(run: RunFolder, data: TrainingSet) -> dict[str, Bag]:
    return {
        slide_id: load_bag(run.store(slide_id).read_features(data.encoder.key), row.label or 0, row.patient)
        for slide_id, row in data.labels.items()
    }


def _train_one(name: str, spec: TrainSpec, data: TrainingSet, split: Split, number: int, bags: Mapping[str, Bag],
               run: RunFolder, inputs: str, device: torch.device) -> None:  # fmt: skip
    fold = split.folds[number]
    train, val = [bags[i] for i in fold.train], [bags[i] for i in fold.val]
    dim = train[0].features.shape[1]
    standardizer = Standardizer.fit(train) if spec.standardize else Standardizer.identity(dim)
    outputs = 1 if len(data.class_names) == 2 else len(data.class_names)
    fold_spec = spec.model_copy(update={"seed": spec.seed + 1000 * number})
    model = build_aggregator(spec.aggregator or name, dim, outputs, fold_spec.seed, spec.params)
    folder = run.model(name, number)
    result = fit(
        model,
        [standardizer(bag) for bag in train],
        [standardizer(bag) for bag in val],
        fold_spec,
        device=device,
        folder=folder,
        identity=inputs,
        label=f"train {name} fold {number}",
    )
    model.cpu().eval()
    card = TrainedModel(
        name=name,
        aggregator=model,
        standardizer=standardizer,
        class_names=data.class_names,
        tissue=data.tissue,
        tiles=data.tiles,
        encoder=data.encoder,
        encoder_digest=_encoder_digest(run, data),
        threshold=Threshold(0.5, "none yet", "none", ""),
        training={},
    )
    probabilities = [
        score_features(card, run.store(slide_id).read_features(data.encoder.key, check=False)).probability
        for slide_id in fold.val
    ]
    value = choose_threshold(probabilities, [int(bags[i].label > 0) for i in fold.val])
    threshold = Threshold(value, "largest sensitivity + specificity", "val", fold.digest("val"))
    training = {
        "spec": {**fold_spec.model_dump(mode="json"), "aggregator": spec.aggregator or name},
        "fold": number,
        "split_digest": split.digest(),
        "kept_epoch": result.epoch,
        "epochs_run": len(result.history),
        "metrics": {key: value for key, value in result.metrics.items() if value == value},
        "train_slides": len(train),
        "val_slides": len(val),
        "train_digest": fold.digest("train"),
    }
    TrainedModel(**{**card.__dict__, "threshold": threshold, "training": training}).save(folder, inputs)
    logger().info(
        "  %s fold %d: kept epoch %d of %d (val AUC %.3f, val loss %.3f), threshold %.3f",
        name, number, result.epoch, len(result.history), result.metrics["val_auc"], result.metrics["val_loss"], value,
    )  # fmt: skip


def _encoder_digest(run: RunFolder, data: TrainingSet) -> str:
    """The one digest that all slides' features share; raises ModelError if they differ."""
    found = {
        str((run.store(slide_id).features_attributes(data.encoder.key) or {}).get("encoder_digest"))
        for slide_id in data.labels
    }
    if len(found) != 1:
        raise ModelError(
            f"slides have features of {len(found)} different encoders under {data.encoder.key!r}: extract again"
        )
    return found.pop()


def scores_are_current(run: RunFolder, name: str, model: TrainedModel, slide_id: str) -> bool:
    """Whether a slide's tile scores are of this model, and of the features and tiles that its store holds now."""
    header = tile_scores_header(run.tile_scores(name, slide_id))
    features = run.store(slide_id).features_attributes(model.encoder.key)
    if header is None or features is None:
        return False
    # equal features may belong to another tile table: an edited outline can change what share of a tile is tissue
    made_from = (header["model_digest"], header["features_digest"], header["tiles_digest"])
    return made_from == (model.digest, features["digest"], features["tiles_digest"])


def score_one(run: RunFolder, name: str, model: TrainedModel, slide_id: str) -> Outcome:
    """Score one slide unless its scores are of this model and these features already."""
    started = time.perf_counter()
    store = run.store(slide_id)
    attributes = store.features_attributes(model.encoder.key)
    if attributes is None:
        return Outcome(slide_id, f"score {name}", "failed", "its features are gone: run `wsi-mil extract`")
    path = run.tile_scores(name, slide_id)
    digest = digest_json([model.digest, attributes["digest"], attributes["tiles_digest"]])
    if scores_are_current(run, name, model, slide_id):
        return Outcome(slide_id, f"score {name}", "done", "", {}, digest, reused=True)
    table: FeatureTable = store.read_features(model.encoder.key)
    model.check_tiles(store.read_tiles().spec, slide_id)
    write_tile_scores(path, score_features(model, table))
    return Outcome(slide_id, f"score {name}", "done", "", {}, digest, time.perf_counter() - started)


def run_score(
    run: RunFolder, names: Sequence[str], labels: LabelTable | None, split: Split, slide_ids: Sequence[str]
) -> int:
    """Score all slides with every model: each slide by the fold whose test part it is in (one fold: all slides).

    Returns how many slides needed work. Slides without label are scored by the first fold.
    """
    worked = 0
    for name in names:
        rows: list[dict[str, Any]] = []
        for number, fold in enumerate(split.folds):
            model = load_model(run.model(name, number))
            model.threshold.refuse_if_chosen_on(fold.digest("test"))
            # a slide without features is accounted for by the stage that could not make them
            members = {
                slide_id: part
                for slide_id, part in _members(fold, split, number, slide_ids).items()
                if run.store(slide_id).features_attributes(model.encoder.key) is not None
            }
            worked += each(f"score {name}", sorted(members), lambda i, m=model, n=name: score_one(run, n, m, i), run)  # type: ignore[misc]
            for slide_id, part in sorted(members.items()):
                if not scores_are_current(run, name, model, slide_id):
                    continue
                rows.append(score_row(run, name, model, number, slide_id, part, labels))
        header = {"model": name, "split_digest": split.digest(), "folds": len(split.folds)}
        write_slide_scores(run.slide_scores(name), rows, header)
    return worked


def _members(fold: Fold, split: Split, number: int, slide_ids: Sequence[str]) -> dict[str, str]:
    """Slide id -> part, for the slides that this fold's model scores."""
    parts = {slide_id: part for part in ("train", "val", "test") for slide_id in getattr(fold, part)}
    in_split = {s for f in split.folds for part in ("train", "val", "test") for s in getattr(f, part)}
    members = parts if len(split.folds) == 1 else dict.fromkeys(fold.test, "test")
    if number == 0:
        members |= {slide_id: "unlabelled" for slide_id in slide_ids if slide_id not in in_split}
    return members


def score_row(run: RunFolder, name: str, model: TrainedModel, number: int, slide_id: str, part: str,
               labels: LabelTable | None) -> dict[str, Any]:  # fmt: skip
    """Return one row of slides.parquet for a slide that has tile scores."""
    scores = read_tile_scores(run.tile_scores(name, slide_id))
    label = labels.rows.get(slide_id) if labels else None
    return {
        "slide_id": slide_id,
        "patient": label.patient if label else slide_id,
        "fold": number,
        "part": part,
        "label": label.label if label else None,
        "probability": scores.probability,
        "threshold": model.threshold.value,
        "predicted": scores.probability >= model.threshold.value,
        "tiles": len(scores.coords),
        "tiles_digest": scores.tiles_digest,
        "features_digest": scores.features_digest,
        "model_digest": scores.model_digest,
    }
