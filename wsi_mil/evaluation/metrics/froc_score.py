"""The Camelyon16 score of the free-response curve."""

from collections.abc import Sequence

from wsi_mil.evaluation.froc import Matches, froc_curve
from wsi_mil.evaluation.spec import FrocMode
from wsi_mil.evaluation.table import DETECTION, MetricEntry


def froc_score(matches: Sequence[Matches], froc_mode: FrocMode = "official") -> float:
    """Return the mean sensitivity at 1/4, 1/2, 1, 2, 4 and 8 false positives per slide; NaN without a lesion.

    >>> froc_score([Matches(false_positives=(), true_positives=(0.9, 0.0), n_lesions=2)], "corrected")
    0.5
    """
    return froc_curve(matches, froc_mode).score


METRICS = (
    MetricEntry(
        "score",
        "lesion",
        "FROC",
        froc_score,
        ("matches", "froc_mode"),
        tasks=DETECTION,
        position=210,
    ),
)
