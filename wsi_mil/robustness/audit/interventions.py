"""Changes to the slides of a trained model: tiles are removed, kept alone or replaced, and the prediction is
compared.

If a slide is predicted as tumour because of tumour tissue, then it must be predicted as normal without that
tissue, and as tumour with that tissue alone, and what the other tiles look like must not matter. Nothing is
trained again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.randomness import named_generator
from wsi_mil.robustness.audit.questions import Answer, Question

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
REPLACED = (0.25, 0.5, 0.75, 1.0)
TOP_FRACTION = 0.1


@dataclass(frozen=True)
class AuditedSlide:
    """One held-out slide as a model sees it.

    features (N, D), as the model takes them; scores (N,): of the tiles; tumour (N,): which tiles touch
    tumour, None where that is unknown. score: features (n, D) -> probability; the slide is called positive
    from `threshold` on.
    """

    slide_id: str
    patient: str
    label: int
    threshold: float
    features: Tensor
    scores: NDArray[np.float64]
    tumour: NDArray[np.bool_] | None
    score: Callable[[Tensor], float]

    def positive(self, features: Tensor) -> bool:
        """Return whether the model calls a slide with these features (n, D) positive."""
        return self.score(features) >= self.threshold

    @property
    def rightly_called(self) -> bool:
        """Whether the call of the unchanged slide is right."""
        return self.positive(self.features) == bool(self.label)

    @property
    def partly_tumour(self) -> bool:
        """Whether it is known which tiles touch tumour, and some do and some do not."""
        return self.tumour is not None and 0 < int(self.tumour.sum()) < len(self.tumour)

    def suspicious(self) -> NDArray[np.bool_]:
        """Return (N,) the tiles that must stay when normal tiles are changed: those that touch tumour, or
        where that is unknown the tenth with the highest scores. None on a normal slide.
        """
        if not self.label:
            return np.zeros(len(self.scores), np.bool_)
        if self.tumour is not None:
            return self.tumour
        return np.isin(np.arange(len(self.scores)), self.top(TOP_FRACTION))

    def top(self, fraction: float) -> NDArray[np.intp]:
        """Return the rows of the highest scores, highest first: this fraction of all tiles, at least one."""
        count = max(round(fraction * len(self.scores)), 1)
        return np.argsort(-self.scores, kind="stable")[:count]


@dataclass(frozen=True)
class FeatureCheck:
    """A check that needs no pixels.

    asked: which of the rightly called slides. xs: the amounts of change. change: (slide, x, tiles (M, D) of
    other normal slides, generator) -> features (n, D) of the changed slide.
    """

    question: Question
    asked: Callable[[AuditedSlide], bool]
    xs: tuple[float, ...]
    change: Callable[[AuditedSlide, float, Tensor, Generator], Tensor]


def _is_tumour(slide: AuditedSlide) -> bool:
    return bool(slide.label)


def _without(slide: AuditedSlide, rows: NDArray[np.intp]) -> Tensor:
    """The features without some rows. If none would be left, the last of `rows` stays: a bag cannot
    be empty.
    """
    kept = np.ones(len(slide.scores), np.bool_)
    kept[rows] = False
    if not kept.any():
        kept[rows[-1]] = True
    return slide.features[torch.from_numpy(kept)]


def _some_normal(slide: AuditedSlide, fraction: float, rng: Generator) -> NDArray[np.intp]:
    normal = np.flatnonzero(~slide.suspicious())
    return np.asarray(rng.permutation(normal)[: round(fraction * len(normal))], np.intp)


def _replaced(slide: AuditedSlide, fraction: float, pool: Tensor, rng: Generator) -> Tensor:
    rows = torch.from_numpy(_some_normal(slide, fraction, rng))
    features = slide.features.clone()
    features[rows] = pool[torch.from_numpy(rng.integers(0, len(pool), len(rows)))]
    return features


FEATURE_CHECKS = (
    FeatureCheck(
        Question(
            "remove_tumour",
            "tumour slides without the tiles that touch tumour",
            "flips",
            "fraction of tumour tiles removed",
            1.0,
        ),
        lambda slide: _is_tumour(slide) and slide.partly_tumour,
        (1.0,),
        lambda slide, x, pool, rng: slide.features[torch.from_numpy(~slide.suspicious())],
    ),
    FeatureCheck(
        Question(
            "remove_top",
            "tumour slides without their highest-scoring tiles",
            "flips",
            "fraction of tiles removed",
            0.8,
        ),
        lambda slide: _is_tumour(slide) and len(slide.scores) > 1,
        FRACTIONS,
        lambda slide, x, pool, rng: _without(slide, slide.top(x)),
    ),
    FeatureCheck(
        Question(
            "remove_random",
            "tumour slides without random normal tiles",
            "keeps",
            "fraction of normal tiles removed",
            0.8,
        ),
        _is_tumour,
        FRACTIONS,
        lambda slide, x, pool, rng: _without(slide, _some_normal(slide, x, rng)),
    ),
    FeatureCheck(
        Question(
            "keep_top",
            "only the highest-scoring tiles of tumour slides",
            "keeps",
            "fraction of tiles kept",
            0.1,
        ),
        _is_tumour,
        FRACTIONS,
        lambda slide, x, pool, rng: slide.features[torch.from_numpy(np.sort(slide.top(x)))],
    ),
    FeatureCheck(
        Question(
            "swap_normal",
            "normal tiles replaced by tiles of other normal slides",
            "keeps",
            "fraction of normal tiles replaced",
            1.0,
        ),
        lambda slide: True,
        REPLACED,
        _replaced,
    ),
)
PIXEL_QUESTIONS = (
    Question("stain_normal", "green noise on normal tiles", "keeps", "fraction of tiles touched", 0.15),
    Question(
        "restain",
        "weaker or stronger haematoxylin and eosin on the whole slide",
        "keeps",
        "factor of both stains",
        0.85,
    ),
)
"""The checks that change pixels; `experiments/model_audit.py` reads and encodes the changed tiles."""

QUESTIONS: dict[str, Question] = {
    question.name: question for question in (*(check.question for check in FEATURE_CHECKS), *PIXEL_QUESTIONS)
}


def ask_of_features(
    slides: Sequence[AuditedSlide], pool: Tensor, seed: int
) -> dict[str, dict[float, list[Answer]]]:
    """Return the answers of the checks that need no pixels: check -> x -> an answer of each slide that is
    asked.

    Only rightly called slides are asked. pool (M, D): tiles of other, normal slides. Every check draws from a
    generator of its own for each slide, so another check or slide changes no answer.
    """
    right = [slide for slide in slides if slide.rightly_called]
    found: dict[str, dict[float, list[Answer]]] = {}
    for check in FEATURE_CHECKS:
        asked = [slide for slide in right if check.asked(slide)]
        found[check.question.name] = {
            x: [answer(slide, _changed(check, slide, x, pool, seed)) for slide in asked] for x in check.xs
        }
    return found


def _changed(check: FeatureCheck, slide: AuditedSlide, x: float, pool: Tensor, seed: int) -> Tensor:
    return check.change(slide, x, pool, named_generator(seed, check.question.name, slide.slide_id))


def answer(slide: AuditedSlide, features: Tensor) -> Answer:
    """Return what the model says of a rightly called slide whose features are now `features` (n, D)."""
    return answer_of(slide, slide.score(features))


def answer_of(slide: AuditedSlide, probability: float) -> Answer:
    """Return the answer on a rightly called slide to which the model, after a change, gives `probability`."""
    kept = (probability >= slide.threshold) == bool(slide.label)
    return Answer(slide.slide_id, slide.patient, kept, probability)
