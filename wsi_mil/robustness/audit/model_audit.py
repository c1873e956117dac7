"""What an audit of a trained model found: fractions of slides with intervals, verdicts, and the content of
audit.json.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.metric import Interval
from wsi_mil.errors import StoreError
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.io.json import read_json, without_nan
from wsi_mil.randomness import named_generator
from wsi_mil.robustness.audit.questions import Answer, Question
from wsi_mil.robustness.json_values import number

if TYPE_CHECKING:
    from wsi_mil.robustness.audit.interventions import AuditedSlide

CheckVerdict = Literal["pass", "fail", "not measured"]

KIND = "audit of a model"
FORMAT = 1
ENOUGH = 0.8
FEWEST_SLIDES = 3
AGREEMENT = ("tile_auc", "top_on_tumour", "tumour_share_of_tiles")


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % bootstrap interval over patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CheckPoint:
    """One point of a check's curve: of `n` slides, which fraction did as expected, with its interval; and the
    mean probability of these slides. NaN without slides.
    """

    x: float
    n: int
    share: float
    low: float
    high: float
    probability: float = math.nan


@dataclass(frozen=True)
class CheckResult:
    """One check. The verdict is taken at `question.held_at`."""

    question: Question
    points: tuple[CheckPoint, ...]

    @property
    def decisive(self) -> CheckPoint | None:
        """The point at which the verdict is taken."""
        return next((point for point in self.points if point.x == self.question.held_at), None)

    @property
    def verdict(self) -> CheckVerdict:
        """pass: at least 80 % of at least three slides did as expected."""
        point = self.decisive
        if point is None or point.n < FEWEST_SLIDES:
            return "not measured"
        return "pass" if point.share >= ENOUGH else "fail"


@dataclass(frozen=True)
class Agreement:
    """How far tile scores agree with outlines: means over the `n` tumour slides whose tumour tiles are known.

    tile_auc: of tile scores for finding tumour tiles. top_on_tumour: fraction of slides whose highest-scoring
    tile touches tumour. tumour_share_of_tiles: fraction of tiles that touch tumour. None without slides.
    """

    n: int
    tile_auc: Estimate | None = None
    top_on_tumour: Estimate | None = None
    tumour_share_of_tiles: Estimate | None = None

    @property
    def verdict(self) -> CheckVerdict:
        """pass: a mean tile AUC of at least 0.8 over at least three slides."""
        if self.tile_auc is None or self.n < FEWEST_SLIDES:
            return "not measured"
        return "pass" if self.tile_auc.value >= ENOUGH else "fail"


@dataclass(frozen=True)
class ModelAudit:
    """The audit of one model: what audit.json holds. skipped: slide id -> why its pixels could not be
    changed.
    """

    model: str
    model_digests: tuple[str, ...]
    slides: int
    rightly_called: int
    tumour_rightly_called: int
    checks: tuple[CheckResult, ...]
    agreement: Agreement
    skipped: Mapping[str, str]

    @property
    def verdict(self) -> CheckVerdict:
        """fail if any check failed, else pass if any passed."""
        return overall([*(check.verdict for check in self.checks), self.agreement.verdict])

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the failed checks."""
        names = [check.question.name for check in self.checks if check.verdict == "fail"]
        return (*names, "agreement") if self.agreement.verdict == "fail" else tuple(names)

    def as_json(self) -> dict[str, Any]:
        """Return the content of audit.json; NaN is null."""
        found: dict[str, Any] = without_nan(
            {
                "kind": KIND,
                "format_version": FORMAT,
                "model": self.model,
                "model_digests": list(self.model_digests),
                "slides": self.slides,
                "rightly_called": self.rightly_called,
                "tumour_rightly_called": self.tumour_rightly_called,
                "verdict": self.verdict,
                "failed": list(self.failed),
                "checks": {check.question.name: _check_json(check) for check in self.checks},
                "agreement": _agreement_json(self.agreement),
                "skipped": dict(self.skipped),
            }
        )
        return found


def read_model_audit(path: Path) -> ModelAudit:
    """Return what an audit.json of a model holds. Raises StoreError for another file, or one of another
    version.
    """
    found = read_json(path, "run `wsi-mil audit` again")
    kind = (found.get("kind"), found.get("format_version"))
    if kind != (KIND, FORMAT):
        raise StoreError(
            f"{path} holds {kind[0]!r} of format {kind[1]}, expected {KIND!r} of format {FORMAT}: "
            "run `wsi-mil audit` again"
        )
    return ModelAudit(
        found["model"],
        tuple(found["model_digests"]),
        found["slides"],
        found["rightly_called"],
        found["tumour_rightly_called"],
        tuple(_read_check(name, found["checks"][name]) for name in found["checks"]),
        _read_agreement(found["agreement"]),
        found["skipped"],
    )


def _check_json(check: CheckResult) -> dict[str, Any]:
    points = [asdict(point) for point in check.points]
    for point in points:
        if not point["n"]:
            del point["probability"]
    return {**asdict(check.question), "points": points, "verdict": check.verdict}


def _read_check(name: str, found: Mapping[str, Any]) -> CheckResult:
    points = [
        CheckPoint(p["x"], p["n"], *(number(p.get(key)) for key in ("share", "low", "high", "probability")))
        for p in found["points"]
    ]
    question = Question(name, found["text"], found["expected"], found["axis"], found["held_at"])
    return CheckResult(question, tuple(points))


def _agreement_json(found: Agreement) -> dict[str, Any]:
    values = {key: asdict(value) for key in AGREEMENT if (value := getattr(found, key)) is not None}
    return {"n": found.n, "verdict": found.verdict, **values}


def _read_agreement(found: Mapping[str, Any]) -> Agreement:
    values = {
        key: Estimate(*(number(found[key][part]) for part in ("value", "low", "high")))
        for key in AGREEMENT
        if key in found
    }
    return Agreement(found["n"], **values)


def summarise_check(
    question: Question, points: Mapping[float, Sequence[Answer]], seed: int, draws: int = 1000
) -> CheckResult:
    """Return one check from its answers: x -> the answers of all slides asked. draws: of the bootstrap."""
    rows = []
    for x, answers in sorted(points.items()):
        if not answers:
            rows.append(CheckPoint(x, 0, math.nan, math.nan, math.nan))
            continue
        did = np.array([answer.kept == (question.expected == "keeps") for answer in answers], np.float64)
        rng = named_generator(seed, question.name, f"interval at {x:g}")
        interval = _mean_interval(did, [answer.patient for answer in answers], rng, draws)
        probability = float(np.mean([answer.probability for answer in answers]))
        rows.append(CheckPoint(x, len(answers), float(did.mean()), interval.low, interval.high, probability))
    return CheckResult(question, tuple(rows))


def agreement(slides: "Sequence[AuditedSlide]", seed: int, draws: int = 1000) -> Agreement:
    """Return how far tile scores agree with outlines, on the tumour slides whose tumour tiles are known."""
    known = [
        (slide, slide.tumour)
        for slide in slides
        if slide.label and slide.tumour is not None and slide.partly_tumour
    ]
    if not known:
        return Agreement(0)
    values = {
        "tile_auc": [auc(tumour, slide.scores) for slide, tumour in known],
        "top_on_tumour": [float(tumour[int(np.argmax(slide.scores))]) for slide, tumour in known],
        "tumour_share_of_tiles": [float(tumour.mean()) for _, tumour in known],
    }
    patients = [slide.patient for slide, _ in known]
    estimates = {}
    for key, numbers in values.items():
        rng = named_generator(seed, "agreement", key)
        interval = _mean_interval(np.array(numbers), patients, rng, draws)
        estimates[key] = Estimate(float(np.mean(numbers)), interval.low, interval.high)
    return Agreement(len(known), **estimates)


def _mean_interval(
    values: NDArray[np.float64], patients: Sequence[str], rng: np.random.Generator, draws: int
) -> Interval:
    return bootstrap_interval(lambda chosen: float(values[chosen].mean()), patients, rng, draws)


def overall(verdicts: Sequence[CheckVerdict]) -> CheckVerdict:
    """Return fail if any verdict is fail, else pass if any is pass, else not measured.

    >>> overall(["pass", "not measured"]), overall(["pass", "fail"])
    ('pass', 'fail')
    """
    return "fail" if "fail" in verdicts else "pass" if "pass" in verdicts else "not measured"
