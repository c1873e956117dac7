"""The warning of training that the label can be guessed from the centre."""

from collections.abc import Sequence

import numpy as np

from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.logs import logger
from wsi_mil.randomness import named_generator
from wsi_mil.robustness.sites.tie import GUESSABLE_AUC, LabelTie, label_tie
from wsi_mil.tasks import Task

SEED = 0
"""Of the permutations behind the p value: the warning does not depend on the run's seed."""


def warn_of_guessable_labels(rows: Sequence[SlideLabel], task: Task) -> None:
    """Warn if the label can be guessed from the centre, as `LabelTie.guessable` defines it.

    Of several classes, the one that the centre gives away most is named. Slides without a centre, and tasks
    without classes, are not examined.
    """
    found = _strongest_tie([row for row in rows if row.centre and row.label is not None])
    if found is None:
        return
    tie, label = found
    logger().warning(
        "the centre gives the label away: alone it has an AUC of %.2f for class %s (too much from %g on, "
        "p %.3f; Cramér's V %.2f). A model can learn the centre instead of the tissue: see `wsi-mil audit "
        "RUN --sites`, and test on other centres with split.kind=preserved_site or split.kind=centre",
        tie.auc,
        task.class_names[label],
        GUESSABLE_AUC,
        tie.p_value,
        tie.cramers_v,
    )


def _strongest_tie(rows: Sequence[SlideLabel]) -> tuple[LabelTie, int] | None:
    """Return the guessable tie of the class with the highest AUC, and that class; None if there is none."""
    labels = sorted({row.label for row in rows if row.label is not None}, reverse=True)
    if len(labels) < 2 or len({row.centre for row in rows}) < 2:
        return None
    centres, patients = [row.centre for row in rows], [row.patient for row in rows]
    found: tuple[LabelTie, int] | None = None
    for label in labels:
        of_class = np.array([row.label == label for row in rows])
        tie = label_tie(centres, of_class, patients, named_generator(SEED, "label tie", str(label)))
        if tie.guessable and (found is None or tie.auc > found[0].auc):
            found = tie, label
    return found
