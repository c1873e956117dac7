"""Area under the ROC curve of each class against the others."""

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.table import MetricEntry
from wsi_mil.tasks.classes import macro_auc


def one_against_others(targets: NDArray[np.float64], class_probabilities: NDArray[np.float64]) -> float:
    """Return the AUC of each class against the others, averaged over classes; two classes: of the second.

    targets (n,): class indices. class_probabilities (n, classes). NaN if no class has slides on both sides.

    >>> one_against_others(np.array([0.0, 1.0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    1.0
    """
    import torch

    return macro_auc(torch.from_numpy(class_probabilities), targets.astype(int).tolist())


METRICS = (
    MetricEntry(
        "macro_auc",
        "slide",
        "macro AUC",
        one_against_others,
        ("targets", "class_probabilities"),
        tasks=frozenset({"classification"}),
        position=10,
    ),
)
