"""A trained model asked what-if questions about its own slides: tiles removed, kept, swapped, repainted. Nothing is trained again.

If a slide is positive because of positive tissue, then without that tissue it is negative, with that tissue alone it stays
positive, and what the other tiles look like does not matter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from wsi_mil.contracts.metric import Interval
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.metrics.auc import auc

CheckVerdict = Literal["pass", "fail", "not measured"]
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
SWAPPED = (0.25, 0.5, 0.75, 1.0)
TOP_SHARE = 0.1
ENOUGH = 0.8
FEWEST_SLIDES = 3


@dataclass(frozen=True)
class AuditedSlide:
    """One held-out slide as a model sees it: features (N, D) as the model takes them, tile scores (N,), which tiles touch tumour
    (None: not known). `score`: features (n, D) -> probability. Positive from `threshold` on."""

    slide_id: str
    patient: str
    label: int
    threshold: float
    features: Tensor
    scores: NDArray[np.float64]
    tumour: NDArray[np.bool_] | None
    score: Callable[[Tensor], float]

    def positive(self, features: Tensor) -> bool:
        return self.score(features) >= self.threshold

    def suspicious(self) -> NDArray[np.bool_]:
        """Return (N,) the tiles that must stay when others are changed: those that touch tumour, or where that is not known
        the tenth that scores highest; none on a normal slide."""
        if not self.label:
            return np.zeros(len(self.scores), np.bool_)
        return (
            self.tumour
            if self.tumour is not None
            else np.isin(np.arange(len(self.scores)), self.top(TOP_SHARE))
        )

    def top(self, share: float) -> NDArray[np.intp]:
        """Return the rows of the highest scores, at least one."""
        count = max(round(share * len(self.scores)), 1)
        return np.argsort(-self.scores, kind="stable")[:count]


@dataclass(frozen=True)
class Answer:
    """What one slide did at one point of a curve: whether its call stayed, and its probability."""

    slide_id: str
    patient: str
    kept: bool
    probability: float


@dataclass(frozen=True)
class Question:
    """One check: what is done to a slide, what a model that sees tumour does, at which point of the curve it is held to it."""

    name: str
    text: str
    expected: Literal["flips", "keeps"]
    axis: str
    held_at: float


QUESTIONS: dict[str, Question] = {
    q.name: q
    for q in (
        Question(
            "remove_tumour",
            "tumour slides without the tiles that touch tumour",
            "flips",
            "share of tumour tiles removed",
            1.0,
        ),
        Question(
            "remove_top", "tumour slides without their highest tiles", "flips", "share of tiles removed", 0.8
        ),
        Question(
            "remove_random",
            "tumour slides without random normal tiles",
            "keeps",
            "share of normal tiles removed",
            0.8,
        ),
        Question(
            "keep_top", "tumour slides of their highest tiles alone", "keeps", "share of tiles kept", 0.1
        ),
        Question(
            "swap_normal",
            "normal tiles replaced by those of other normal slides",
            "keeps",
            "share of normal tiles replaced",
            1.0,
        ),
        Question("stain_normal", "green noise on normal tiles", "keeps", "share of tiles touched", 0.15),
        Question(
            "restain", "haematoxylin and eosin of the whole slide weaker or stronger", "keeps", "gain", 0.85
        ),
    )
}


def right_calls(slides: Sequence[AuditedSlide], tumour_only: bool) -> list[AuditedSlide]:
    """Return the slides that the model calls rightly: only of these does a changed call say something."""
    wanted = [s for s in slides if s.label or not tumour_only]
    return [s for s in wanted if s.positive(s.features) == bool(s.label)]


def ask_of_features(
    slides: Sequence[AuditedSlide], pool: Tensor, rng: Generator
) -> dict[str, dict[float, list[Answer]]]:
    """Return the answers of the checks that need no pixels. `pool` (M, D): tiles of other, normal slides."""
    tumour, every = right_calls(slides, tumour_only=True), right_calls(slides, tumour_only=False)
    known = [s for s in tumour if s.tumour is not None and 0 < s.tumour.sum() < len(s.tumour)]
    found: dict[str, dict[float, list[Answer]]] = {
        "remove_tumour": {1.0: [_answer(s, s.features[torch.from_numpy(~s.suspicious())]) for s in known]},
        "remove_top": {},
        "remove_random": {},
        "keep_top": {},
        "swap_normal": {},
    }
    for share in SHARES:
        found["remove_top"][share] = [
            _answer(s, _without(s, s.top(share))) for s in tumour if len(s.scores) > 1
        ]
        found["remove_random"][share] = [_answer(s, _without(s, _some_normal(s, share, rng))) for s in tumour]
        found["keep_top"][share] = [
            _answer(s, s.features[torch.from_numpy(np.sort(s.top(share)))]) for s in tumour
        ]
    for share in SWAPPED:
        found["swap_normal"][share] = [_answer(s, _swapped(s, share, pool, rng)) for s in every]
    return found


def _answer(slide: AuditedSlide, features: Tensor) -> Answer:
    probability = slide.score(features)
    kept = (probability >= slide.threshold) == bool(slide.label)
    return Answer(slide.slide_id, slide.patient, kept, probability)


def _without(slide: AuditedSlide, rows: NDArray[np.intp]) -> Tensor:
    """The features without some rows; of all of them the last one stays, since a bag is not empty."""
    kept = np.ones(len(slide.scores), np.bool_)
    kept[rows] = False
    if not kept.any():
        kept[rows[-1]] = True
    return slide.features[torch.from_numpy(kept)]


def _some_normal(slide: AuditedSlide, share: float, rng: Generator) -> NDArray[np.intp]:
    normal = np.flatnonzero(~slide.suspicious())
    return np.asarray(rng.permutation(normal)[: round(share * len(normal))], np.intp)


def _swapped(slide: AuditedSlide, share: float, pool: Tensor, rng: Generator) -> Tensor:
    rows = torch.from_numpy(_some_normal(slide, share, rng))
    features = slide.features.clone()
    features[rows] = pool[torch.from_numpy(rng.integers(0, len(pool), len(rows)))]
    return features


def summarise_check(
    question: Question, points: Mapping[float, Sequence[Answer]], rng: Generator, draws: int = 1000
) -> dict[str, Any]:
    """Return one check of audit.json: the share of slides whose call did as expected at every point, with a bootstrap interval over
    patients, and a verdict at the question's point: pass from 80 % on; not measured below three slides.
    """
    rows = []
    for x, answers in sorted(points.items()):
        did = np.array([answer.kept == (question.expected == "keeps") for answer in answers], np.float64)
        row: dict[str, Any] = {
            "x": x,
            "n": len(answers),
            "share": float("nan"),
            "low": float("nan"),
            "high": float("nan"),
        }
        if len(answers):
            interval = _mean_interval(did, [a.patient for a in answers], rng, draws)
            row |= {"share": float(did.mean()), "low": interval.low, "high": interval.high}
            row["probability"] = float(np.mean([answer.probability for answer in answers]))
        rows.append(row)
    held = next((row for row in rows if row["x"] == question.held_at), None)
    verdict: CheckVerdict = "not measured"
    if held is not None and held["n"] >= FEWEST_SLIDES:
        verdict = "pass" if held["share"] >= ENOUGH else "fail"
    return {**asdict(question), "points": rows, "verdict": verdict}


def agreement(slides: Sequence[AuditedSlide], rng: Generator, draws: int = 1000) -> dict[str, Any]:
    """Return how far tile scores agree with outlines, on tumour slides whose tumour is known: mean over slides of the tile AUC, of the
    share of slides whose highest tile touches tumour, and of the score that lies on tumour; 95 % bootstrap intervals over patients."""
    known = [s for s in slides if s.label and s.tumour is not None and 0 < s.tumour.sum() < len(s.tumour)]
    found: dict[str, Any] = {"n": len(known), "verdict": "not measured"}
    if not known:
        return found
    values = {
        "tile_auc": [auc(_known(s), s.scores) for s in known],
        "top_on_tumour": [float(_known(s)[int(np.argmax(s.scores))]) for s in known],
        "tumour_share_of_tiles": [float(_known(s).mean()) for s in known],
    }
    patients = [s.patient for s in known]
    for key, numbers in values.items():
        interval = _mean_interval(np.array(numbers), patients, rng, draws)
        found[key] = {"value": float(np.mean(numbers)), "low": interval.low, "high": interval.high}
    if len(known) >= FEWEST_SLIDES:
        found["verdict"] = "pass" if found["tile_auc"]["value"] >= ENOUGH else "fail"
    return found


def _mean_interval(
    values: NDArray[np.float64], patients: Sequence[str], rng: Generator, draws: int
) -> Interval:
    return bootstrap_interval(lambda chosen: float(values[chosen].mean()), patients, rng, draws)


def _known(slide: AuditedSlide) -> NDArray[np.bool_]:
    return slide.tumour if slide.tumour is not None else np.zeros(len(slide.scores), np.bool_)


def overall(verdicts: Sequence[str]) -> CheckVerdict:
    """Return fail if any check failed, pass if any passed, else not measured."""
    return "fail" if "fail" in verdicts else "pass" if "pass" in verdicts else "not measured"
