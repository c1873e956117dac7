"""One method on one data set, cross-validated under both protocols."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold, train_test_split

from pipelines.classic.bags import read_classic
from wsi_mil.aggregators import build_aggregator, outputs_for
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.training import Standardizer, TrainSpec, fit

Protocol = Literal["published", "honest"]


@dataclass(frozen=True)
class Job:
    """One method on one data set: all repeats and folds, under both protocols. data: folder of the bags."""

    data: Path
    dataset: str
    method: str
    aggregator: str
    spec: TrainSpec
    repeats: int
    folds: int


@dataclass(frozen=True)
class FoldResult:
    """One training: the accuracy on the test fold and the epoch of that accuracy.

    The fields are the CSV's columns.
    """

    dataset: str
    method: str
    protocol: Protocol
    repeat: int
    fold: int
    accuracy: float
    epoch: int
    seconds: float


def run(job: Job) -> list[FoldResult]:
    """Return the result of every repeat and fold under both protocols."""
    bags = read_classic(job.data / f"{job.dataset}.npz")
    labels = [bag.label for bag in bags]
    found = []
    for repeat in range(job.repeats):
        folds = StratifiedKFold(job.folds, shuffle=True, random_state=repeat).split(
            np.zeros(len(bags)), labels
        )
        for fold, (rest, test) in enumerate(folds):
            inner, val = train_test_split(
                rest, test_size=1 / (job.folds - 1), stratify=[labels[i] for i in rest], random_state=repeat
            )
            spec = job.spec.model_copy(update={"seed": 100 * repeat + fold})
            parts: tuple[tuple[Protocol, list[int], list[int]], ...] = (
                ("published", rest, test),
                ("honest", inner, val),
            )
            for protocol, train, watched in parts:
                started = time.perf_counter()
                members = ([bags[i] for i in part] for part in (train, watched, test))
                accuracy, epoch = train_and_test(job.aggregator, spec, protocol, *members)
                seconds = time.perf_counter() - started
                found.append(
                    FoldResult(job.dataset, job.method, protocol, repeat, fold, accuracy, epoch, seconds)
                )
    return found


def train_and_test(
    aggregator: str,
    spec: TrainSpec,
    protocol: Protocol,
    train: list[Bag],
    watched: list[Bag],
    test: list[Bag],
) -> tuple[float, int]:
    """Train on `train` and return the accuracy on the test fold and the epoch that it belongs to.

    published: the epoch with the best accuracy on `watched`, which is the test fold. honest: the epoch with
    the lowest loss on `watched`, which is a validation part.
    """
    standardizer = Standardizer.fit(train)
    train, watched, test = ([standardizer(bag) for bag in part] for part in (train, watched, test))
    outputs = outputs_for(aggregator, classes=2, head=spec.head)
    model = build_aggregator(aggregator, train[0].dim, outputs, spec.seed, spec.params)
    result = fit(model, train, watched, spec)
    if protocol == "published":
        best = max(result.history, key=lambda row: row["val_accuracy"])
        return best["val_accuracy"], int(best["epoch"])
    with torch.inference_mode():
        found = model.probabilities(model(PackedBags.pack(test)).bag_logits).argmax(1)
    return float((found == torch.tensor([bag.label for bag in test])).double().mean()), result.epoch
