"""What an audit of sites found: verdicts, and the content of sites.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.errors import StoreError
from wsi_mil.io.json import read_json, without_nan
from wsi_mil.robustness.audit.model_audit import CheckVerdict, overall
from wsi_mil.robustness.json_values import number
from wsi_mil.robustness.sites.index import RobustnessIndex
from wsi_mil.robustness.sites.performance import WORSE_BY, CentreAuc, ModelSites
from wsi_mil.robustness.sites.probe import Probe
from wsi_mil.robustness.sites.tie import GUESSABLE_AUC, SIGNIFICANT, CentreCounts, LabelTie

KIND = "audit of sites"
FORMAT = 1


@dataclass(frozen=True)
class Sampling:
    """How tiles were drawn. slides: how many gave tiles. tiles_a_slide: at most so many of each."""

    seed: int
    slides: int
    tiles: int
    tiles_a_slide: int


@dataclass(frozen=True)
class SiteCheck:
    """One question of the audit and its answer. model: "" for a question to the cohort."""

    name: str
    verdict: CheckVerdict
    why: str
    model: str = ""


@dataclass(frozen=True)
class SiteAudit:
    """How labels, features and models depend on the centre: the content of sites.json.

    encoder: key of the features. without_centre: labelled slides that no centre is known of; they are left
    out. probes: first of slide means, then of tiles; each of all slides and of negative slides.
    """

    encoder: str
    tie: LabelTie
    probes: tuple[Probe, ...]
    indices: tuple[RobustnessIndex, ...]
    models: tuple[ModelSites, ...]
    sampling: Sampling
    without_centre: int = 0

    @property
    def site_signal(self) -> Probe | None:
        """The probe that says whether the features of slides name the centre.

        That of negative slides where it could be measured, since there the label gives nothing away; else
        that of all slides; None if neither could be measured.
        """
        measured = [probe for probe in self.probes if not probe.reason and probe.what.startswith("slide")]
        return measured[-1] if measured else None

    @property
    def checks(self) -> tuple[SiteCheck, ...]:
        """The questions that decide the verdict."""
        return (self._shortcut(), *(check for row in self.models for check in _model_checks(row)))

    @property
    def verdict(self) -> CheckVerdict:
        """fail if any check failed, else pass if any passed."""
        return overall([check.verdict for check in self.checks])

    def _shortcut(self) -> SiteCheck:
        name, auc = "shortcut_possible", self.tie.auc
        if math.isnan(auc):
            return SiteCheck(name, "not measured", "no two patients differ in their label")
        alone = f"the centre alone has an AUC of {auc:.3f} for the label"
        if not self.tie.high:
            return SiteCheck(name, "pass", f"{alone}, less than {GUESSABLE_AUC}")
        if not self.tie.guessable:
            chance = f"p {self.tie.p_value:.3f}: it may be due to chance"
            return SiteCheck(name, "not measured", f"{alone}, but {chance}")
        signal = self.site_signal
        if signal is None:
            return SiteCheck(name, "fail", f"{alone}; whether features name the centre was not measured")
        named = f"features name the centre with a balanced accuracy of {signal.accuracy:.3f}"
        guessing = f"(chance {signal.chance:.3f})"
        if signal.names_the_centre:
            return SiteCheck(name, "fail", f"{alone}, and {named} {guessing}")
        return SiteCheck(name, "pass", f"{alone}, but {named} {guessing}: not above chance")

    def as_json(self) -> dict[str, Any]:
        """Return the content of sites.json; NaN is null."""
        signal = self.site_signal
        found: dict[str, Any] = without_nan(
            {
                "kind": KIND,
                "format_version": FORMAT,
                "encoder": self.encoder,
                "verdict": self.verdict,
                "checks": [asdict(check) for check in self.checks],
                "thresholds": {
                    "guessable_auc": GUESSABLE_AUC,
                    "p_value": SIGNIFICANT,
                    "worse_by": WORSE_BY,
                },
                "tie": {**asdict(self.tie), "guessable": self.tie.guessable},
                "probes": [{**asdict(probe), "chance": probe.chance} for probe in self.probes],
                "site_signal": signal.what if signal else None,
                "robustness_index": [asdict(index) for index in self.indices],
                "models": [_model_json(row) for row in self.models],
                "sampling": asdict(self.sampling),
                "without_centre": self.without_centre,
            }
        )
        return found


def _model_checks(row: ModelSites) -> list[SiteCheck]:
    """Return whether a model is right within centres, and in its worst centre."""
    whole = row.all_slides
    if not whole.defined:
        return [SiteCheck("within_centres", "not measured", whole.reason, row.model)]
    found = [_compare("within_centres", "pairs within centres", row.within, whole, row.model)]
    worst = row.worst
    if worst is not None and sum(centre.auc.defined for centre in row.centres) > 1:
        found.append(_compare("worst_centre", worst.centre, worst.auc, whole, row.model))
    return found


def _compare(name: str, what: str, metric: Metric, whole: Metric, model: str) -> SiteCheck:
    """Return fail if a metric is lower by `WORSE_BY` and its whole interval lies below the AUC of all."""
    if not metric.defined:
        return SiteCheck(name, "not measured", f"{what}: {metric.reason}", model)
    interval = metric.interval
    certain = interval is not None and interval.high < whole.value
    bad = metric.value <= whole.value - WORSE_BY and certain
    why = f"{what}: AUC {metric.value:.3f}, all test slides {whole.value:.3f}"
    return SiteCheck(name, "fail" if bad else "pass", why, model)


def read_site_audit(path: Path) -> SiteAudit:
    """Return what a sites.json holds. Raises StoreError for another file, or one of another version."""
    found = read_json(path, "run `wsi-mil audit RUN --sites` again")
    kind = (found.get("kind"), found.get("format_version"))
    if kind != (KIND, FORMAT):
        raise StoreError(
            f"{path} holds {kind[0]!r} of format {kind[1]}, expected {KIND!r} of format {FORMAT}: "
            "run `wsi-mil audit RUN --sites` again"
        )
    tie = found["tie"]
    return SiteAudit(
        found["encoder"],
        LabelTie(
            tuple(CentreCounts(**row) for row in tie["centres"]),
            *(number(tie[key]) for key in ("auc", "cramers_v", "p_value")),
        ),
        tuple(_probe(row) for row in found["probes"]),
        tuple(_index(row) for row in found["robustness_index"]),
        tuple(_model(row) for row in found["models"]),
        Sampling(**found["sampling"]),
        found["without_centre"],
    )


def _numbers(row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, float]:
    return {key: number(row[key]) for key in keys}


def _probe(row: Mapping[str, Any]) -> Probe:
    values = {key: value for key, value in row.items() if key != "chance"}
    lists = {key: tuple(values[key]) for key in ("centres", "left_out")}
    return Probe(**{**values, **lists, **_numbers(row, ("accuracy", "low", "high"))})


def _index(row: Mapping[str, Any]) -> RobustnessIndex:
    return RobustnessIndex(**{**row, **_numbers(row, ("value", "low", "high", "accuracy"))})


def _model_json(row: ModelSites) -> dict[str, Any]:
    worst = row.worst
    return {
        "model": row.model,
        "digests": list(row.digests),
        "all_slides": asdict(row.all_slides),
        "within": asdict(row.within),
        "worst": worst.centre if worst else None,
        "centres": [asdict(centre) for centre in row.centres],
    }


def _model(row: Mapping[str, Any]) -> ModelSites:
    centres = [
        CentreAuc(centre["centre"], centre["slides"], centre["positive"], _metric(centre["auc"]))
        for centre in row["centres"]
    ]
    all_slides, within = _metric(row["all_slides"]), _metric(row["within"])
    return ModelSites(row["model"], tuple(row["digests"]), all_slides, within, tuple(centres))


def _metric(row: Mapping[str, Any]) -> Metric:
    interval = row["interval"]
    if interval is not None:
        interval = Interval(**{**interval, **_numbers(interval, ("low", "high"))})
    return Metric(number(row["value"]), interval, row["reason"], row["n"])
