"""What an audit asks about a slide, and what the model answers. The report reads it: no torch here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """One slide after one change: whether its call stayed the same, and its probability."""

    slide_id: str
    patient: str
    kept: bool
    probability: float


@dataclass(frozen=True)
class Question:
    """One check. text: the slides and what is changed. expected: whether the call of a model that reacts to
    tumour flips or stays. axis: the meaning of x, the amount of change. held_at: the x that decides the
    verdict.
    """

    name: str
    text: str
    expected: Literal["flips", "keeps"]
    axis: str
    held_at: float
