"""All trainings of one repeat of MNIST-bags: bags, models, and their measures on the test bags."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pipelines.mnist.digits import Digits, draw_bags
from pipelines.mnist.front_end import ImageFrontEnd, LeNet
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.training import TrainSpec, fit

THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
Cells = dict[str, str | int | float]
"""A row of results.csv: column -> value."""


@dataclass(frozen=True)
class Training:
    """One model of a job. lam: the lambda of a training of the ablation of loss-attention, else None."""

    method: str
    spec: TrainSpec
    lam: float | None = None


@dataclass(frozen=True)
class Job:
    """All trainings of one repeat on the same bags.

    watched: methods whose AUC on the first `watched_bags` test bags is taken after every epoch.
    """

    data: Path
    repeat: int
    bags: int
    classes: int
    test_bags: int
    trainings: tuple[Training, ...]
    watched: tuple[str, ...] = ()
    watched_bags: int = 0


@dataclass(frozen=True)
class Measures:
    """Measures on the test bags. auc: NaN unless there are two classes. precision, recall: by threshold."""

    accuracy: float
    auc: float
    score_kind: str
    precision: tuple[float, ...]
    recall: tuple[float, ...]

    def cells(self) -> Cells:
        """Return the columns of results.csv."""
        row: Cells = {"accuracy": self.accuracy, "score_kind": self.score_kind}
        if not math.isnan(self.auc):
            row["auc"] = self.auc
        for threshold, precision, recall in zip(THRESHOLDS, self.precision, self.recall, strict=True):
            row |= {f"precision_{threshold}": precision, f"recall_{threshold}": recall}
        return row


def build(method: str, classes: int, spec: TrainSpec) -> Aggregator:
    """Return LeNet with an aggregator: one logit for mi-Net and FocusMIL on two classes, else softmax."""
    outputs = 1 if classes == 2 and method in ("mi_net", "focus_mil") else classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        front = LeNet()
    aggregator = build_aggregator(method, LeNet.out_features, outputs, spec.seed, spec.params)
    return ImageFrontEnd(front, aggregator)


def run(job: Job) -> list[Cells]:
    """Draw the bags of the job, train and score every model; return a row of results.csv per training."""
    train_digits, test_digits = (Digits.load(job.data, part) for part in ("train", "t10k"))
    rng = np.random.default_rng([job.repeat, job.bags, job.classes])
    train = draw_bags(train_digits, job.bags, job.classes, rng)
    test = draw_bags(test_digits, job.test_bags, job.classes, rng)
    rows = []
    for training in job.trainings:
        started = time.perf_counter()
        method, spec = training.method, training.spec
        model = build(method, job.classes, spec)
        watched = test[: job.watched_bags] if method in job.watched and training.lam is None else []
        history = fit(model, train, watched, spec).history
        row: Cells = {"classes": job.classes, "bags": job.bags, "repeat": job.repeat, "method": method}
        row |= {"lambda": "" if training.lam is None else training.lam, "epochs": spec.epochs}
        row |= score(model, test).cells()
        if watched:
            row["auc_watched"] = history[-1]["val_auc"]
            row["auc_best_epoch"] = max(epoch["val_auc"] for epoch in history)
        rows.append({**row, "seconds": round(time.perf_counter() - started, 1)})
    return rows


@torch.inference_mode()
def score(model: Aggregator, test: list[Bag]) -> Measures:
    """Return accuracy, AUC, and how well the instance scores find the target digits in the positive bags."""
    model.eval()
    probabilities, scores, kind = [], [], score_kind("attention")
    for start in range(0, len(test), 10):  # larger batches are slower on a CPU
        output = model(PackedBags.pack(test[start : start + 10]))
        probabilities.append(model.probabilities(output.bag_logits))
        kind = score_kind(output.score_kind)
        values = output.instance_scores.numpy()
        # The paper's thresholds are for the weights of a bag, which sum to 1: attention stays as it is.
        scores.append(kind.scale(values) if kind.is_probability else values)
    found = torch.cat(probabilities).double().numpy()
    labels = np.array([bag.label for bag in test])
    positive = np.repeat(labels > 0, [len(bag) for bag in test])
    targets = torch.cat([bag.instance_labels for bag in test if bag.instance_labels is not None])
    precision, recall = precision_and_recall(np.concatenate(scores)[positive], targets.numpy()[positive] == 1)
    return Measures(
        accuracy=float((found.argmax(1) == labels).mean()),
        auc=float(roc_auc_score(labels, found[:, 1])) if found.shape[1] == 2 else math.nan,
        score_kind=kind.name,
        precision=precision,
        recall=recall,
    )


def precision_and_recall(
    scores: NDArray[np.float32], truth: NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return precision and recall of the instances (n,) above each threshold, NaN where undefined."""
    precision, recall = [], []
    for threshold in THRESHOLDS:
        chosen = scores > threshold
        hits = int((chosen & truth).sum())
        precision.append(hits / int(chosen.sum()) if chosen.any() else math.nan)
        recall.append(hits / int(truth.sum()) if truth.any() else math.nan)
    return tuple(precision), tuple(recall)
