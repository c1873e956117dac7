"""The poison experiment on paper: which slides are poisoned in which condition, and what the figures say of a method.

The poison set of the FocusMIL study (arXiv 2408.09449): the signal lies on normal slides of the training set and on tumour
slides of the test set. Who reads the slide's context learns "poison means normal" and calls the poisoned tumours normal.
"""

from collections.abc import Sequence
from typing import Literal

from wsi_mil.evaluation.intervals import Spread, spread

Arm = Literal["none", "normal", "tumour", "all"]
Verdict = Literal["resists", "weakened", "fooled", "not learned"]

CONDITIONS: dict[str, tuple[Arm, Arm]] = {
    "none": ("none", "none"),
    "test_only": ("none", "tumour"),
    "train_only": ("normal", "none"),
    "poison": ("normal", "tumour"),
    "alike": ("all", "all"),
}
"""Condition -> poisoned slides of the training (and validation) part, and of the test part. 'poison' is the experiment, the
others are its controls."""

TRAINING_ARMS: tuple[Arm, ...] = ("none", "normal", "all")
LEARNED_AUC = 0.7
SMALL_LOSS = 0.05


def is_poisoned(arm: Arm, label: int) -> bool:
    """Whether a slide of this label is poisoned in this arm.

    >>> [is_poisoned("normal", 0), is_poisoned("normal", 1), is_poisoned("tumour", 1)]
    [True, False, True]
    """
    return arm == "all" or (arm == "normal" and label == 0) or (arm == "tumour" and label > 0)


def loss_of_auc(clean: Sequence[float], poisoned: Sequence[float]) -> Spread:
    """Return the spread, over trainings, of slide AUC lost from the clean condition to the poisoned one, paired."""
    return spread([a - b for a, b in zip(clean, poisoned, strict=True)])


def poison_verdict(clean: Sequence[float], poisoned: Sequence[float]) -> Verdict:
    """Return what the slide AUCs of one method say, clean and poisoned, one value a training.

    not learned: below 0.7 without poison, on average, so there is nothing to lose. fooled: below 0.5 under poison: the answer
    follows the poison. resists: at most 0.05 lost. weakened: what lies between.

    >>> poison_verdict([0.9, 0.95], [0.1, 0.0]), poison_verdict([0.9, 0.95], [0.88, 0.95])
    ('fooled', 'resists')
    """
    if not spread(clean).mean >= LEARNED_AUC:
        return "not learned"
    if spread(poisoned).mean < 0.5:
        return "fooled"
    return "resists" if loss_of_auc(clean, poisoned).mean <= SMALL_LOSS else "weakened"
