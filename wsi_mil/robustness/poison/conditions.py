"""The design of the poison experiment: which slides are poisoned in which condition, and what the results
mean.

The design is that of the FocusMIL study (arXiv 2408.09449): the signal lies on normal slides of the training
part and on tumour slides of the test part. A model that uses the signal learns that it means "normal", and
calls the poisoned tumour slides normal.
"""

from collections.abc import Sequence
from typing import Literal

from wsi_mil.evaluation.intervals import Spread, spread

Arm = Literal["none", "normal", "tumour", "all"]
"""Which slides of a part are poisoned."""
Verdict = Literal["resists", "weakened", "fooled", "not learned"]

CONDITIONS: dict[str, tuple[Arm, Arm]] = {
    "none": ("none", "none"),
    "test_only": ("none", "tumour"),
    "train_only": ("normal", "none"),
    "poison": ("normal", "tumour"),
    "alike": ("all", "all"),
}
"""Condition -> arm of the training and validation parts, arm of the test part. "poison" is the experiment;
the others are its controls.
"""

TRAINING_ARMS: tuple[Arm, ...] = ("none", "normal", "all")
LEARNED_AUC = 0.7
SMALL_LOSS = 0.05


def is_poisoned(arm: Arm, positive: bool) -> bool:
    """Return whether a slide, which is positive or not, is poisoned in this arm.

    >>> [is_poisoned("normal", False), is_poisoned("normal", True), is_poisoned("tumour", True)]
    [True, False, True]
    """
    return arm == "all" or arm == ("tumour" if positive else "normal")


def loss_of_auc(clean: Sequence[float], poisoned: Sequence[float]) -> Spread:
    """Return the spread, over trainings, of the clean slide AUC minus the poisoned one, both of the same
    training.
    """
    return spread([a - b for a, b in zip(clean, poisoned, strict=True)])


def poison_verdict(clean: Sequence[float], poisoned: Sequence[float]) -> Verdict:
    """Return the verdict on a method from its slide AUCs, clean and poisoned, one value per training.

    not learned: mean clean AUC below 0.7. fooled: mean poisoned AUC below 0.5, so the method follows the
    poison. resists: a mean loss of at most 0.05. weakened: everything else.

    >>> poison_verdict([0.9, 0.95], [0.1, 0.0]), poison_verdict([0.9, 0.95], [0.88, 0.95])
    ('fooled', 'resists')
    """
    if not spread(clean).mean >= LEARNED_AUC:
        return "not learned"
    if spread(poisoned).mean < 0.5:
        return "fooled"
    return "resists" if loss_of_auc(clean, poisoned).mean <= SMALL_LOSS else "weakened"
