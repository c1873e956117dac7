"""From features to scores."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.aggregators import Aggregator
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.bags import BagSource, load_bag, read_bag
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.scoring.model import TrainedModel
from wsi_mil.tasks import Task
from wsi_mil.training.two_pass import score_in_chunks

CHUNK_ROWS = 65536
LONE_ROWS = 4096
"""How many tiles go through the model at once, each as a bag of its own."""


@dataclass(frozen=True)
class BagScores:
    """What an aggregator says of one bag: logits (1, C) float64, and scores (N,) of all instances.

    second, second_kind: the method's second instance scores and their kind; None and "" if it has none.
    """

    logits: Tensor
    scores: Tensor
    kind: str
    second: Tensor | None = None
    second_kind: str = ""


@torch.inference_mode()
def bag_scores(aggregator: Aggregator, bag: BagSource) -> BagScores:
    """Return the bag logits and the instance scores of a bag.

    A bag of more than 65,536 instances goes through max-pooling methods in chunks, which gives the same
    numbers.
    """
    if isinstance(aggregator, MaxPooling) and len(bag) > CHUNK_ROWS:
        reduced, scores = score_in_chunks(aggregator, bag, chunk_rows=CHUNK_ROWS)
        output = aggregator(reduced)
        return BagScores(output.bag_logits.double(), scores, output.score_kind)
    output = aggregator(PackedBags.pack([read_bag(bag)]))
    return BagScores(
        output.bag_logits.double(),
        output.instance_scores,
        output.score_kind,
        output.second_scores,
        output.second_kind,
    )


@torch.inference_mode()
def score_bag(aggregator: Aggregator, bag: BagSource) -> tuple[Tensor, Tensor, str]:
    """Return class probabilities (C,) float64 of detection, instance scores (N,) and their kind."""
    found = bag_scores(aggregator, bag)
    return aggregator.probabilities(found.logits)[0], found.scores, found.kind


@dataclass(frozen=True)
class Prediction:
    """What a model of a task other than detection says of a slide.

    number: the index of the most probable class, a value or a risk. class_probabilities: of tasks with
    classes only.
    """

    number: float
    class_probabilities: tuple[float, ...] = ()


def predict_slide(task: Task, logits: Tensor) -> Prediction:
    """Return the prediction of a task for the bag logits (1, C) of one slide.

    >>> from wsi_mil.tasks.kinds.regression import Regression
    >>> predict_slide(Regression(mean=10.0, std=2.0), torch.tensor([[1.5]]))
    Prediction(number=13.0, class_probabilities=())
    """
    found = task.predict(logits)[0]
    if task.reading != "probability":
        return Prediction(float(found))
    return Prediction(float(found.argmax()), tuple(found.tolist()))


@torch.inference_mode()
def lone_probabilities(model: TrainedModel, bag: BagSource) -> Tensor:
    """Return the class probabilities (N, classes) float32 of each instance as a bag of its own.

    This has the same meaning for every method: what the model would say of a slide that has this tile only.
    For methods that take a maximum or a mean over instances, it is the instance classifier itself.
    """
    found = []
    for start in range(0, len(bag), LONE_ROWS):
        n = min(LONE_ROWS, len(bag) - start)
        rows = torch.empty(n, bag.dim)
        bag.read_into(rows, start)
        alone = PackedBags(rows, torch.arange(n + 1), torch.zeros(n, dtype=torch.int64), ("tile",) * n)
        found.append(_class_probabilities(model, model.aggregator(alone).bag_logits.double()).float())
    return torch.cat(found)


def _class_probabilities(model: TrainedModel, logits: Tensor) -> Tensor:
    """Return (B, classes) of bag logits (B, C) of a task with classes."""
    return model.aggregator.probabilities(logits) if model.detects else model.task.predict(logits)


def slide_probability(aggregator: Aggregator, bag: BagSource) -> float:
    """Return the probability of being positive: one minus that of the negative classes."""
    return float(1 - score_bag(aggregator, bag)[0][: aggregator.negative_classes].sum())


def score_features(model: TrainedModel, table: FeatureTable) -> SlideScores:
    """Return the scores of one slide. Raises ModelError if the features are not of the model's encoder.

    The positive probability of detection is one minus that of the negative classes. Other tasks have a
    prediction; their instance scores that are not attention have the kind "value".
    """
    model.check_features(table)
    bag = model.standardizer(load_bag(table, label=0))
    scored = bag_scores(model.aggregator, bag)
    kind = scored.kind
    if model.detects:
        probabilities = _class_probabilities(model, scored.logits)[0]
        negative = float(probabilities[: model.task.negative_classes].sum())
        probability, classes, number = 1 - negative, tuple(probabilities.tolist()), None
    else:
        found = predict_slide(model.task, scored.logits)
        probability, classes, number = math.nan, found.class_probabilities, found.number
        kind = score_kind(kind).of_predictions
    of_classes: NDArray[np.float32] | None = None
    if model.tile_classes:
        of_classes = np.full((len(table.coords), len(model.tile_classes)), np.nan, np.float32)
        of_classes[table.readable] = lone_probabilities(model, bag).numpy()
    return SlideScores(
        slide_id=table.slide_id,
        probability=probability,
        class_probabilities=classes,
        tile_scores=_of_all_tiles(scored.scores, table),
        score_kind=kind,
        coords=table.coords,
        tiles_digest=table.tiles_digest,
        features_digest=table.digest,
        model_digest=model.digest,
        prediction=number,
        class_names=model.tile_classes,
        tile_class_probabilities=of_classes,
        second_scores=None if scored.second is None else _of_all_tiles(scored.second, table),
        second_kind=model.second_kind,
    )


def _of_all_tiles(scores: Tensor, table: FeatureTable) -> NDArray[np.float32]:
    """Return the scores of the readable tiles as those of all tiles (N,): NaN where one could not be read."""
    tiles = np.full(len(table.coords), np.nan, np.float32)
    tiles[table.readable] = scores.float().numpy()
    return tiles
