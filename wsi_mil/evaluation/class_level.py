"""Slide level, class by class: each class against all others, and the table of confusions.

It is measured where slides have a probability for each class: in classification, ordinal classes, and
detection with more than two classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.evaluation.measure import measure, measure_all
from wsi_mil.evaluation.observations import SlideObservations
from wsi_mil.evaluation.predictions import PredictedSlides
from wsi_mil.evaluation.results import ClassesResult, ClassResult
from wsi_mil.evaluation.table import metrics_at
from wsi_mil.randomness import named_generator

OF_A_CLASS = ("auc", "average_precision", "f1")
"""The slide metrics of detection that are measured for each class against the others."""


def classes_result(
    rows: Sequence[SlideScoreRow], class_names: Sequence[str], *, seed: int, model: str, draws: int = 1000
) -> ClassesResult | None:
    """Return the results of labelled slides by class; None if they have no class probabilities.

    rows: of slides.parquet. The class that a model predicts is the most probable one. Intervals are 95 %
    bootstrap intervals over patients.
    """
    if not rows or not all(row.class_probabilities for row in rows):
        return None
    patients = tuple(row.patient for row in rows)
    targets = np.array([row.class_index for row in rows])
    probabilities = np.array([row.class_probabilities for row in rows], np.float64)
    predicted = probabilities.argmax(1)
    slides = PredictedSlides(
        patients, targets.astype(np.float64), predicted.astype(np.float64), probabilities, "probability"
    )
    classes = []
    for index, name in enumerate(class_names):
        one = SlideObservations(patients, targets == index, probabilities[:, index], predicted == index)
        metrics = {
            entry.name: measure(
                entry, one, named_generator(seed, model, "class", name, entry.name), entry.draws(draws)
            )
            for entry in metrics_at("slide", "detection")
            if entry.name in OF_A_CLASS
        }
        classes.append(ClassResult(name, int((targets == index).sum()), metrics))
    return ClassesResult(
        measure_all(slides, seed, f"{model} classes", draws, "classification"),
        tuple(classes),
        confusion_table(targets, predicted, len(class_names)),
    )


def confusion_table(
    targets: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> tuple[tuple[int, ...], ...]:
    """Return the number of slides of class i (row) that are predicted as class j (column).

    targets, predicted (n,): class indices.

    >>> confusion_table(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    ((1, 0), (1, 1))
    """
    found = np.zeros((n_classes, n_classes), int)
    np.add.at(found, (targets, predicted), 1)
    return tuple(tuple(map(int, row)) for row in found)
