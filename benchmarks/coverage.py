"""How often the 95 % intervals of the slide AUC hold the true AUC, in cohorts that are drawn.

python benchmarks/coverage.py [--runs N] [--draws N] [--seed N]

Scores are normal, with one standard deviation for both classes, so that the true AUC is known. Where patients
have several slides, 0.7 of the variance is between patients. The settings are those of the independent check
of 2026-11-25. `bootstrap`: percentile bootstrap over patients. `DeLong, clipped` and `DeLong, logit`: slides
taken as independent. `stated`: the interval that metrics.json states: on the logit scale, over patients, and
the one-sided exact bound for an AUC of 1. An interval without limits counts as a miss.
"""

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wsi_mil.evaluation.delong import estimate_auc
from wsi_mil.evaluation.intervals import bootstrap_interval
from wsi_mil.evaluation.metrics.auc import ROC_AREA
from wsi_mil.io.tables import markdown_table

BETWEEN_PATIENTS = 0.7
METHODS = ("bootstrap", "DeLong, clipped", "DeLong, logit", "stated")


@dataclass(frozen=True)
class Setting:
    """Slides of each class, the true AUC, and how many slides each patient has."""

    positive: int
    negative: int
    auc: float
    slides_per_patient: int = 1

    def __str__(self) -> str:
        several = f", {self.slides_per_patient} slides a patient" if self.slides_per_patient > 1 else ""
        return f"{self.positive} / {self.negative}, {self.auc:g}{several}"

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[str]]:
        """Return truth, scores and patients of the slides of one cohort."""
        truth = np.arange(self.positive + self.negative) < self.positive
        scores = rng.normal(size=len(truth))
        patient = np.arange(len(truth)) // self.slides_per_patient
        if self.slides_per_patient > 1:
            shared = rng.normal(size=patient.max() + 1)[patient]
            scores = math.sqrt(BETWEEN_PATIENTS) * shared + math.sqrt(1 - BETWEEN_PATIENTS) * scores
        # the difference of two scores has variance 2
        shift = math.sqrt(2) * NormalDist().inv_cdf(self.auc)
        return truth, scores + shift * truth, [str(one) for one in patient]


SETTINGS = (
    Setting(30, 30, 0.85),
    Setting(30, 30, 0.95),
    Setting(49, 80, 0.95),
    Setting(18, 18, 0.97),
    Setting(40, 40, 0.85, slides_per_patient=4),
)


@dataclass(frozen=True)
class Coverage:
    """Fractions of cohorts whose interval holds the true AUC, by method; of cohorts with an AUC of 1; and the
    mean width of the stated interval."""

    covered: dict[str, float]
    perfect: float
    width: float


def coverage(setting: Setting, runs: int, draws: int, rng: np.random.Generator) -> Coverage:
    """Return the coverage in `runs` cohorts; draws: of each bootstrap."""
    hits = dict.fromkeys(METHODS, 0)
    perfect, widths = 0, []
    for _ in range(runs):
        truth, scores, patients = setting.draw(rng)
        statistic = ROC_AREA.over_draws(
            [truth[[i]] for i in range(len(truth))], [scores[[i]] for i in range(len(truth))]
        )
        alone = estimate_auc(truth, scores)
        stated = estimate_auc(truth, scores, patients=patients).stated
        drawn = bootstrap_interval(statistic, patients, rng, draws)
        limits = (
            (drawn.low, drawn.high),
            alone.clipped_interval,
            alone.logit_interval,
            (stated.low, stated.high),
        )
        for name, (low, high) in zip(METHODS, limits, strict=True):
            hits[name] += low <= setting.auc <= high
        perfect += alone.auc == 1
        widths.append(stated.high - stated.low)
    return Coverage({name: hits[name] / runs for name in METHODS}, perfect / runs, float(np.nanmean(widths)))


def main() -> None:
    """Print one row for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000, help="cohorts of each setting")
    parser.add_argument("--draws", type=int, default=500, help="of each bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    rows = []
    for setting in SETTINGS:
        found = coverage(setting, asked.runs, asked.draws, rng)
        cells = [f"{found.covered[name]:.3f}" for name in METHODS]
        rows.append([str(setting), *cells, f"{found.width:.3f}", f"{found.perfect:.3f}"])
    header = ["n+ / n-, true AUC", *METHODS, "mean width of stated", "AUC of 1"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
