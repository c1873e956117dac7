"""The design of the poison experiment: which slides are poisoned in which condition, and what the results
mean.

There are two directions, named after the class that carries the signal in training.

normal: the design of the FocusMIL study (arXiv 2408.09449). The signal lies on normal slides of the training
part and on tumour slides of the test part. A model that uses the signal learns that it means "normal", and
calls the poisoned tumour slides normal.
tumour: the same, mirrored. The signal lies on tumour slides of the training part and on normal slides of the
test part. A model that uses the signal learns that it means "tumour", and calls the poisoned normal slides
tumour. A score of the best instance ignores a signal of normal slides, because normal instances do not decide
it; it can follow one of tumour slides.
"""

from collections.abc import Sequence
from typing import Literal

from wsi_mil.evaluation.intervals import Spread, spread
from wsi_mil.robustness.poison.spec import Direction

Arm = Literal["none", "normal", "tumour", "all"]
"""Which slides of a part are poisoned."""
Verdict = Literal["resists", "weakened", "fooled", "not learned"]

CONDITIONS: dict[str, tuple[Arm, Arm]] = {
    "none": ("none", "none"),
    "test_only": ("none", "tumour"),
    "train_only": ("normal", "none"),
    "poison": ("normal", "tumour"),
    "mirrored_test_only": ("none", "normal"),
    "mirrored_train_only": ("tumour", "none"),
    "mirrored": ("tumour", "normal"),
    "alike": ("all", "all"),
}
"""Condition -> arm of the training and validation parts, arm of the test part. "poison" and "mirrored" are
the experiments of the two directions; the others are their controls.
"""

DIRECTIONS: dict[Direction, str] = {"normal": "poison", "tumour": "mirrored"}
"""Direction -> the condition that decides its verdict."""

TRAINING_ARMS: tuple[Arm, ...] = ("none", "normal", "tumour", "all")
LEARNED_AUC = 0.7
SMALL_LOSS = 0.05


def training_arms(directions: Sequence[Direction], control: bool = True) -> tuple[Arm, ...]:
    """Return the trainings that the directions need. control: with those on slides that are all poisoned.

    >>> training_arms(["tumour"]), training_arms(["normal", "tumour"], control=False)
    (('none', 'tumour', 'all'), ('none', 'normal', 'tumour'))
    """
    asked = {"none", *directions, *(("all",) if control else ())}
    return tuple(arm for arm in TRAINING_ARMS if arm in asked)


def conditions_of(arm: Arm) -> dict[str, Arm]:
    """Return the conditions in which a training of `arm` is measured, each with the arm of its test part.

    >>> conditions_of("tumour")
    {'mirrored_train_only': 'none', 'mirrored': 'normal'}
    """
    return {name: test for name, (train, test) in CONDITIONS.items() if train == arm}


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
    """Return the verdict on a method in one direction, from its slide AUCs, clean and poisoned, one value per
    training. It says nothing about the other direction.

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
