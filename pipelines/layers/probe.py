"""Linear probes: tasks, folds by patient or group, and the AUC of a logistic regression in each fold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from pipelines.layers.features import Features
from pipelines.layers.sets import EPITHELIAL, Labels, Lung, Nuclei, class_numbers, halves
from wsi_mil.evaluation.metrics.auc import auc

FOLDS = 5
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Task:
    """What a probe has to tell apart.

    measures: name of a measure -> the features that its test images have; the first one also trains. rows:
    of these features (N,). labels, groups: of the rows. first: which are in the half that chooses.
    """

    measures: Mapping[str, str]
    rows: Labels
    labels: Labels
    groups: NDArray[np.generic]
    first: NDArray[np.bool_]


def make_tasks(nuclei: Nuclei, lung: Lung, seed: int) -> list[Task]:
    """Return the three tasks with four measures; `seed` divides patients and groups in halves.

    lung: images of the two carcinomas. Both tasks of the colon have the same halves of the patients.
    """
    first = halves(nuclei.patient, nuclei.cancerous, seed)
    every, typed = np.arange(len(nuclei.patient)), np.flatnonzero(nuclei.cell_type >= 0)
    epithelial = (nuclei.cell_type == EPITHELIAL).astype(np.int64)
    squamous = class_numbers(lung) - 1
    looks = {"lung": "lung_plain", "lung, changed stain": "lung_changed"}
    all_images, first_groups = np.arange(len(squamous)), halves(lung.group, class_numbers(lung), seed)
    return [
        _colon_task("colon, cancerous", nuclei, every, nuclei.cancerous, first),
        _colon_task("colon, epithelial", nuclei, typed, epithelial, first),
        Task(looks, all_images, squamous, lung.group, first_groups),
    ]


def _colon_task(name: str, nuclei: Nuclei, rows: Labels, labels: Labels, first: NDArray[np.bool_]) -> Task:
    return Task({name: "colon"}, rows, labels[rows], nuclei.patient[rows], first[rows])


def folds(labels: Labels, groups: NDArray[np.generic], repeats: int) -> list[Fold]:
    """Return the training and test rows of `repeats` x 5 folds; a group is in one of both."""
    return [
        fold
        for repeat in range(repeats)
        for fold in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat).split(
            labels, labels, groups
        )
    ]


def fold_aucs(
    task: Task, features: Mapping[str, Features], first: bool, repeats: int, c: float
) -> dict[str, list[float]]:
    """Return measure -> AUC of each fold, made of one half of a task.

    features: as in `Task.measures`, (rows of the half, D). first: the half that chooses, else the other one.
    c: inverse strength of the penalty of the logistic regression, whose features are standardised.
    """
    own = task.first == first
    labels, groups = task.labels[own], task.groups[own]
    training = features[next(iter(task.measures.values()))]
    found: dict[str, list[float]] = {name: [] for name in task.measures}
    for train, test in folds(labels, groups, repeats):
        scaler = StandardScaler().fit(training[train])
        model = LogisticRegression(C=c, max_iter=300)
        model.fit(scaler.transform(training[train]), labels[train])
        for name, key in task.measures.items():
            scores = model.decision_function(scaler.transform(features[key][test]))
            found[name].append(auc(labels[test] > 0, scores))
    return found
