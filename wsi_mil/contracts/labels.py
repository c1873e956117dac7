"""What is known of one slide before a model is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from wsi_mil.contracts.record import Record, above_zero, require, require_name

TaskKind = Literal["detection", "classification", "ordinal", "regression", "survival"]
"""What a label means: see `wsi_mil.tasks`."""
Target: TypeAlias = int | float | tuple[float, float]
"""What a model is compared with: a class index, a number, or (time, 1 for an event and 0 for censored)."""


@dataclass(frozen=True)
class LabelScheme(Record):
    """What the classes of a run mean. It is made once, when labels are read, and stored with all results.

    class_names: in the order of their indices, the negative classes first. positive: the classes in which
    something was found. negative: the normal ones. Both are empty for classes of which none is normal, such
    as subtypes. decided: how that was decided, in words.

    >>> LabelScheme(("normal", "cancer"), ("cancer",), ("normal",), "by known words").line
    'labels: positive class cancer, negative class normal (by known words)'
    """

    class_names: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    decided: str

    def __post_init__(self) -> None:
        names, parts = self.class_names, (*self.negative, *self.positive)
        require(len(set(names)) == len(names), "label scheme", "class_names", "different names", names)
        expected = f"the negative classes and then the positive ones, as in {list(parts)}"
        require(not parts or names == parts, "label scheme", "class_names", expected, names)

    @classmethod
    def first_is_negative(cls, class_names: tuple[str, ...]) -> "LabelScheme":
        """Return the scheme of files that earlier versions wrote: the first class is the negative one."""
        decided = "the first class is the negative one"
        return cls(class_names, class_names[1:], class_names[:1] if len(class_names) > 1 else (), decided)

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> "LabelScheme | None":
        """Return the scheme that a file holds as JSON; None if it holds none."""
        if values is None:
            return None
        names = {key: tuple(values[key]) for key in ("class_names", "positive", "negative")}
        return cls(**names, decided=values["decided"])

    def same_meaning(self, other: "LabelScheme") -> bool:
        """Return whether both have the same classes in the same order, and the same positive ones."""
        return (self.class_names, self.positive) == (other.class_names, other.positive)

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative class, so that slides are positive or negative."""
        return bool(self.negative)

    def is_positive(self, label: int) -> bool:
        """Return whether a class index is that of a positive class.

        >>> scheme = LabelScheme(("normal", "luad", "lusc"), ("luad", "lusc"), ("normal",), "by known words")
        >>> [scheme.is_positive(label) for label in (0, 1, 2)]
        [False, True, True]
        """
        return self.class_names[label] in self.positive

    @property
    def line(self) -> str:
        """What the program says of the classes before it trains, scores or evaluates."""
        if not self.has_negative:
            return f"labels: classes {', '.join(self.class_names)}, none is positive ({self.decided})"
        several = "es" if len(self.positive) > 1 else ""
        others = "es" if len(self.negative) > 1 else ""
        return (
            f"labels: positive class{several} {', '.join(self.positive)}, "
            f"negative class{others} {', '.join(self.negative)} ({self.decided})"
        )


@dataclass(frozen=True)
class SlideLabel(Record):
    """The label of one slide.

    label: the class index. value: the number (regression) or (time, event) (survival).
    Both are None where the slide is not labelled.
    mpp: µm per level-0 pixel, or (x, y), in place of what the slide's file says.
    """

    slide_id: str
    label: int | None
    patient: str
    centre: str = ""
    split: str = ""
    mpp: float | tuple[float, float] | None = None
    value: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        where = f"label of slide {self.slide_id!r}"
        require_name(self.slide_id, where, "slide_id")
        require(self.label is None or self.label >= 0, where, "label", "a class index from 0 on", self.label)
        mpp = self.mpp if isinstance(self.mpp, tuple) else (self.mpp,)
        valid = all(number is None or above_zero(number) for number in mpp)
        require(valid, where, "mpp", "positive", self.mpp)
        value = self.value if isinstance(self.value, tuple) else (self.value,)
        valid = all(number is None or math.isfinite(number) for number in value)
        require(valid, where, "value", "finite", self.value)

    @property
    def target(self) -> Target | None:
        """What a model is compared with; None where the slide is not labelled."""
        return self.label if self.value is None else self.value
