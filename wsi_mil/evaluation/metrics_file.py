"""metrics.json: the one place that writes it and reads it.

Format 6. NaN is null. `slide`, `patch` and `froc` (lesions) each hold one level:

    "slide": {
      "metrics": ["auc", "average_precision", ...],       names of the level's metrics, in the order of tables
      "auc": 0.98,                                         one key for each of these names; null where
      undefined "intervals": {"auc": {"value": 0.98, "low": 0.93, "high": 1.0, "level": 0.95,
                            "method": "percentile bootstrap", "draws": 1000, "one_sided": false}},   null
                            for a metric without interval
      "reasons": {"f1": "..."},                            why a metric is undefined; holds undefined metrics
      only "n": 16, "n_positive": 8, "confusion": {"tp", "fp", "fn", "tn"},
      "calibration": {"brier", "interval", "brier_of_share", "expected_error", "bins": [{"from", "to",
      "slides",
                      "mean_probability", "share_positive", "low", "high"}]},
      "delong": {"auc", "variance", "interval", "logit_interval", "hanley_mcneil_se", "n_positive",
      "n_negative", "n_patients", "method", "stated": {"low", "high", "method", "level", "draws",
      "one_sided"}}, "thresholds": [[fold, threshold]],
      "folds": {"auc": [...], "mean", "std"}               with several folds only
    }
    "labels": {"class_names", "positive", "negative", "decided"}   what the classes mean; null without classes
    "classes": metrics, intervals, reasons as above, of all classes; null where slides have no probability for
               each class; "confusion": [[slides of class i predicted as class j]],
               "each": [{"name", "n", metrics, intervals, reasons of the class against all others}]
    "patch":  metrics, intervals, reasons as above, "n_slides", "n_tiles", "n_positive", "per_slide": {name:
    {"mean",
              "n_slides"}}, "truth", "predicted", "slides_without_annotation", "folds", "score_kind"
    "patch_second": the same of the model's second tile scores; null if it has none, or without annotations
    "froc":   metrics, intervals, reasons as above, "sensitivity_at_fp_per_slide", "n_lesions", "n_slides",
    "by_size",
              "false_positives_at_threshold", "mode", "lesions", "mask_mpp", "isolated_below_um", "detections"

Without annotations `patch` and `froc` hold only their metrics, which are undefined; so they do for every task
but detection. `slide` of these tasks holds its metrics and n only. Files of earlier formats
(5: no `patch_second`; 4: no `stated` interval, patch intervals from at most 200 draws) count as absent:
`wsi-mil evaluate` writes them again.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsi_mil.contracts.labels import LabelScheme, TaskKind
from wsi_mil.contracts.metric import Interval, Metric
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.evaluation.delong import AucEstimate
from wsi_mil.evaluation.results import (
    Calibration,
    CalibrationBin,
    ClassesResult,
    ClassResult,
    Confusion,
    FoldSpread,
    FrocFacts,
    FrocResult,
    Metrics,
    MetricsFile,
    PatchFacts,
    PatchResult,
    PredictionResult,
    SizeClass,
    SlideResult,
    WithinSlides,
)
from wsi_mil.evaluation.table import Level, listed_metrics
from wsi_mil.io.json import read_json, without_nan, write_json
from wsi_mil.io.seals import DamagedFileError, changed_files
from wsi_mil.logs import logger

FORMAT = 6


def write_metrics(path: Path, found: MetricsFile) -> None:
    """Write metrics.json, whole or not at all."""
    write_json(path, metrics_json(found))


def read_metrics(path: Path) -> MetricsFile | None:
    """Return what metrics.json holds; None if there is none or it is of an earlier format.

    Raises StoreError for a file that is no JSON, or is of this format and lacks a key.
    """
    if not path.exists():
        return None
    try:
        found = read_json(path, "remove it and run `wsi-mil evaluate` again")
        if found.get("format_version") != FORMAT:
            return None
        return MetricsFile(
            model=found["model"],
            inputs_digest=found["inputs_digest"],
            split_digest=found["split_digest"],
            slide=_read_slide(found["slide"])
            if found["task"] == "detection"
            else _read_predictions(found["slide"]),
            patch=_read_patch(found["patch"]),
            froc=_read_froc(found["froc"]),
            task=found["task"],
            labels=LabelScheme.from_json(found.get("labels")),
            classes=_read_classes(found.get("classes")),
            files=dict(found.get("files", {})),
            second_patch=None if found["patch_second"] is None else _read_patch(found["patch_second"]),
        )
    except DamagedFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {error}): remove it and run `wsi-mil evaluate` again"
        ) from error


def is_current(path: Path, inputs_digest: str, task: TaskKind, labels: LabelScheme | None = None) -> bool:
    """Return whether metrics.json was made from these inputs and holds every metric that the table now has.

    labels: what the classes mean, as the file must say. A damaged file is not current.
    """
    try:
        found = read_metrics(path)
    except StoreError as error:
        logger().warning("evaluate: the metrics are measured again: %s", error)
        return False
    if found is None or found.inputs_digest != inputs_digest or found.task != task:
        return False
    if found.labels != labels:
        return False
    if changed := changed_files(path.parent, found.files):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        logger().warning("evaluate: %s%s is gone or damaged: made again", path.parent / changed[0], more)
        return False
    levels: tuple[Level, ...] = ("slide", "patch", "lesion")
    return all(
        set(found.metrics(level)) == {entry.name for entry in listed_metrics(level, task)} for level in levels
    )


def metrics_json(found: MetricsFile) -> dict[str, Any]:
    """Return the JSON value of metrics.json, without NaN."""
    whole: dict[str, Any] = without_nan(
        {
            "kind": "metrics",
            "format_version": FORMAT,
            "model": found.model,
            "task": found.task,
            "inputs_digest": found.inputs_digest,
            "split_digest": found.split_digest,
            "labels": None if found.labels is None else asdict(found.labels),
            "slide": _slide(found.slide)
            if isinstance(found.slide, SlideResult)
            else _level(found.slide.metrics, {"n": found.slide.n}),
            "classes": None if found.classes is None else _classes(found.classes),
            "patch": _level(found.patch.metrics, _patch_facts(found.patch.facts)),
            "patch_second": None
            if found.second_patch is None
            else _level(found.second_patch.metrics, _patch_facts(found.second_patch.facts)),
            "froc": _level(found.froc.metrics, _froc_facts(found.froc.facts)),
            **({"files": dict(found.files)} if found.files else {}),
        }
    )
    return whole


def _calibration(found: SlideResult) -> dict[str, Any]:
    brier = found.metrics["brier"]
    keys = {"start": "from", "stop": "to", "fraction_positive": "share_positive"}
    bins = [
        {keys.get(key, key): value for key, value in asdict(part).items()} for part in found.calibration.bins
    ]
    return {
        "brier": brier.value,
        "interval": _interval(brier),
        "brier_of_share": found.calibration.brier_of_fraction,
        "expected_error": found.calibration.expected_error,
        "bins": bins,
    }


def _level(metrics: Metrics, facts: Mapping[str, Any]) -> dict[str, Any]:
    if taken := sorted({*facts, "metrics", "intervals", "reasons"} & set(metrics)):
        raise ConfigError(
            f"a metric cannot be named {taken[0]!r}: metrics.json has a key of that name. Rename it"
        )
    return {
        **facts,
        "metrics": list(metrics),
        **{name: metric.value for name, metric in metrics.items()},
        "intervals": {name: _interval(metric) for name, metric in metrics.items()},
        "reasons": {name: metric.reason for name, metric in metrics.items() if metric.reason},
    }


def _interval(metric: Metric) -> dict[str, Any] | None:
    return None if metric.interval is None else {"value": metric.value, **asdict(metric.interval)}


def _slide(found: SlideResult) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "n": found.n,
        "n_positive": found.n_positive,
        "confusion": asdict(found.confusion),
        "calibration": _calibration(found),
        "thresholds": found.thresholds,
    }
    if found.delong is not None:
        facts["delong"] = asdict(found.delong)
    if found.folds is not None:
        facts["folds"] = asdict(found.folds)
    level = _level(found.metrics, facts)
    if found.delong_reason:
        level["reasons"]["delong"] = found.delong_reason
    return level


def _classes(found: ClassesResult) -> dict[str, Any]:
    each = [{"name": one.name, **_level(one.metrics, {"n": one.n})} for one in found.classes]
    return _level(
        found.metrics,
        {"n": sum(one.n for one in found.classes), "confusion": found.confusion, "each": each},
    )


def _patch_facts(facts: PatchFacts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    found = asdict(facts)
    found["predicted"] = found.pop("called")
    if facts.folds is None:
        del found["folds"]
    return found


def _froc_facts(facts: FrocFacts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    found = asdict(facts)
    found["sensitivity_at_fp_per_slide"] = found.pop("sensitivity_at")
    return found


def _read_level(found: Mapping[str, Any], n: str) -> dict[str, Metric]:
    return {
        name: Metric(
            _number(found[name]),
            _read_interval(found["intervals"][name]),
            found["reasons"].get(name, ""),
            found.get(n, 0),
        )
        for name in found["metrics"]
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _read_interval(found: Mapping[str, Any] | None) -> Interval | None:
    if found is None:
        return None
    return Interval(
        _number(found["low"]),
        _number(found["high"]),
        found["method"],
        found["level"],
        found["draws"],
        found["one_sided"],
    )


def _read_slide(found: Mapping[str, Any]) -> SlideResult:
    shape = found["calibration"]
    bins = tuple(
        CalibrationBin(
            part["from"],
            part["to"],
            part["slides"],
            part["mean_probability"],
            part["share_positive"],
            part["low"],
            part["high"],
        )
        for part in shape["bins"]
    )
    delong = found.get("delong")
    return SlideResult(
        metrics=_read_level(found, "n"),
        n=found["n"],
        n_positive=found["n_positive"],
        confusion=Confusion(**found["confusion"]),
        calibration=Calibration(shape["brier_of_share"], shape["expected_error"], bins),
        thresholds=tuple((fold, value) for fold, value in found["thresholds"]),
        delong=_read_delong(delong) if delong is not None else None,
        delong_reason=found["reasons"].get("delong", ""),
        folds=_read_folds(found),
    )


def _read_predictions(found: Mapping[str, Any]) -> PredictionResult:
    return PredictionResult(_read_level(found, "n"), found["n"])


def _read_classes(found: Mapping[str, Any] | None) -> ClassesResult | None:
    if found is None:
        return None
    each = tuple(ClassResult(one["name"], one["n"], _read_level(one, "n")) for one in found["each"])
    return ClassesResult(_read_level(found, "n"), each, tuple(tuple(row) for row in found["confusion"]))


def _read_delong(found: Mapping[str, Any]) -> AucEstimate:
    intervals = {
        key: (_number(found[key][0]), _number(found[key][1])) for key in ("interval", "logit_interval")
    }
    return AucEstimate(**{**found, **intervals, "stated": _read_interval(found["stated"])})


def _read_folds(found: Mapping[str, Any]) -> FoldSpread | None:
    folds = found.get("folds")
    if folds is None:
        return None
    return FoldSpread(
        tuple(_number(value) for value in folds["auc"]), _number(folds["mean"]), _number(folds["std"])
    )


def _read_patch(found: Mapping[str, Any]) -> PatchResult:
    metrics = _read_level(found, "n_tiles")
    if "n_tiles" not in found:
        return PatchResult(metrics)
    per_slide = {
        name: WithinSlides(_number(one["mean"]), one["n_slides"]) for name, one in found["per_slide"].items()
    }
    facts = PatchFacts(
        found["n_slides"],
        found["n_tiles"],
        found["n_positive"],
        per_slide,
        found["truth"],
        found["predicted"],
        tuple(found["slides_without_annotation"]),
        _read_folds(found),
        found["score_kind"],
    )
    return PatchResult(metrics, facts)


def _read_froc(found: Mapping[str, Any]) -> FrocResult:
    metrics = _read_level(found, "n_lesions")
    if "n_lesions" not in found:
        return FrocResult(metrics)
    facts = FrocFacts(
        {at: _number(value) for at, value in found["sensitivity_at_fp_per_slide"].items()},
        found["n_lesions"],
        found["n_slides"],
        tuple(SizeClass(**one) for one in found["by_size"]),
        found["false_positives_at_threshold"],
        found["mode"],
        found["lesions"],
        found["mask_mpp"],
        found["isolated_below_um"],
        found["detections"],
    )
    return FrocResult(metrics, facts)
