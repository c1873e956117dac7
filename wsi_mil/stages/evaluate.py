"""evaluate: metrics.json and curves of every model, on the test slides only."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from wsi_mil.bags import Split
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.errors import DataError
from wsi_mil.evaluation import AnnotationFolder, bootstrap_interval, froc_curve, slide_metrics
from wsi_mil.evaluation.bands import FALSE_POSITIVES, SHARES, band, froc_at, precision_at, roc_at
from wsi_mil.evaluation.calibration import calibration
from wsi_mil.evaluation.delong import estimate_auc
from wsi_mil.evaluation.detection_files import write_detections
from wsi_mil.evaluation.froc import FP_PER_SLIDE
from wsi_mil.evaluation.lesion_tables import (
    LESION_COLUMNS,
    POINT_COLUMNS,
    SHOWN,
    false_positive_rows,
    found_by_size,
    lesion_rows,
    write_table,
)
from wsi_mil.evaluation.patch_metrics import patch_metrics
from wsi_mil.evaluation.slide_metrics import auc, average_precision
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.io.files import read_json, write_json
from wsi_mil.io.json import without_nan
from wsi_mil.report.curves import draw_curves
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.held_out import HeldOut, held_out, read_truth

FORMAT = 2
BAND_DRAWS = 200  # bands are looked at, not quoted


def run_evaluate(
    run: RunFolder, name: str, split: Split, annotations: AnnotationFolder | None, spec: EvaluationSpec
) -> bool:
    """Write evaluation/<name>/metrics.json, curves.json and curves.png; return whether there was work to do."""
    found = held_out(run, name, split, annotations, spec)
    rows, inputs, folder = found.rows, found.inputs_digest, run.evaluation(name)
    done = folder / "metrics.json"
    if done.exists() and (folder / "curves.png").exists() and _same(read_json(done), inputs):
        return False
    rng = np.random.default_rng(spec.seed)
    metrics: dict[str, Any] = {
        "kind": "metrics",
        "format_version": FORMAT,
        "model": name,
        "inputs_digest": inputs,
        "split_digest": split.digest(),
        "slide": _slide_level(rows, spec, rng),
    }
    curves: dict[str, Any] = {"slide": _slide_curves(rows, spec, rng)}
    if annotations is None:
        reason = "no annotations: give slides.annotations=FOLDER"
        metrics["patch"] = {"auc": math.nan, "auprc": math.nan, "reasons": {"auc": reason, "auprc": reason}}
        metrics["froc"] = {"score": math.nan, "reasons": {"score": reason}}
    else:
        patch, froc, curve = _annotated_levels(run, name, found, spec, rng)
        metrics["patch"], metrics["froc"] = patch, froc
        curves["froc"] = curve
    write_json(folder / "curves.json", without_nan(curves))
    (folder / "curves.png").unlink(missing_ok=True)
    draw_curves(
        {name: without_nan(curves | {"calibration": metrics["slide"]["calibration"]})}, folder / "curves.png"
    )
    write_json(done, without_nan(metrics))
    return True


def _same(found: dict[str, Any], inputs: str) -> bool:
    return found.get("inputs_digest") == inputs and found.get("format_version") == FORMAT


def _slide_level(
    rows: Sequence[SlideScoreRow], spec: EvaluationSpec, rng: np.random.Generator
) -> dict[str, Any]:
    """Pooled over all test slides, and for several folds also fold by fold."""
    result = slide_metrics(
        [row.class_index for row in rows],
        [row.probability for row in rows],
        [row.predicted for row in rows],
        [row.patient for row in rows],
        rng,
        spec.bootstrap,
    )
    try:
        result["delong"] = asdict(estimate_auc(*_truth_and_scores(rows)))
    except DataError as error:
        result["reasons"]["delong"] = str(error)
    truth, scores = _truth_and_scores(rows)
    result["calibration"] = calibration(truth, scores, [row.patient for row in rows], rng, spec.bootstrap)
    result["thresholds"] = sorted({(row.fold, row.threshold) for row in rows})
    folds = sorted({row.fold for row in rows})
    if len(folds) > 1:
        per_fold = [[row for row in rows if row.fold == fold] for fold in folds]
        result["folds"] = mean_and_spread([auc(*_truth_and_scores(part)) for part in per_fold])
    return result


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """Return values, mean and standard deviation (n - 1) of the defined ones."""
    defined = [value for value in values if not math.isnan(value)]
    return {
        "auc": list(values),
        "mean": float(np.mean(defined)) if defined else math.nan,
        "std": float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan,
    }


def _truth_and_scores(rows: Sequence[SlideScoreRow]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row.positive for row in rows]), np.array([row.probability for row in rows])


def _slide_curves(
    rows: Sequence[SlideScoreRow], spec: EvaluationSpec, rng: np.random.Generator
) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    truth, scores = _truth_and_scores(rows)
    if truth.all() or not truth.any():
        return {}
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(truth, scores)
    patients, draws = [row.patient for row in rows], min(spec.bootstrap, BAND_DRAWS)
    roc_low, roc_high = band(lambda chosen: roc_at(truth[chosen], scores[chosen]), patients, rng, draws)
    pr_low, pr_high = band(lambda chosen: precision_at(truth[chosen], scores[chosen]), patients, rng, draws)
    return {
        "roc_band": {"fpr": SHARES.tolist(), "low": roc_low, "high": roc_high},
        "pr_band": {"recall": SHARES.tolist(), "low": pr_low, "high": pr_high},
        "fpr": fpr.tolist(),
        "tpr": tpr.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "auc": auc(truth, scores),
        "average_precision": average_precision(truth, scores),
    }


def _annotated_levels(
    run: RunFolder, name: str, found: HeldOut, spec: EvaluationSpec, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Patch metrics and FROC over the slides whose truth is known; their detections go to files as the script reads them."""
    slides, without = read_truth(run, name, found, spec)
    tiles = [slide.tiles for slide in slides]
    patch = patch_metrics(tiles, rng, min(spec.bootstrap, 200))
    patch["truth"] = "centre of the tile in a lesion"
    if spec.patch_truth == "overlap":
        patch["truth"] = f"at least {spec.patch_overlap:g} of the tile's area in a lesion"
    patch["predicted"] = "tile probability from the slide's threshold on; attention: more than an equal share"
    patch["slides_without_annotation"] = without
    folds = sorted({slide.fold for slide in slides})
    if len(folds) > 1:
        parts = [[slide.tiles for slide in slides if slide.fold == fold] for fold in folds]
        patch["folds"] = mean_and_spread([patch_metrics(part, rng, draws=0)["auc"] for part in parts])
    matches = [slide.matches for slide in slides]
    patients = [slide.patient for slide in slides]
    curve = froc_curve(matches, spec.froc_mode)
    interval = bootstrap_interval(
        lambda chosen: froc_curve([matches[i] for i in chosen], spec.froc_mode).score,
        patients,
        rng,
        spec.bootstrap,
    )
    low, high = band(
        lambda chosen: froc_at([matches[i] for i in chosen], spec.froc_mode),
        patients,
        rng,
        min(spec.bootstrap, BAND_DRAWS),
    )
    curves = {
        "false_positives_per_slide": curve.false_positives.tolist(),
        "sensitivity": curve.sensitivity.tolist(),
        "band": {"false_positives_per_slide": FALSE_POSITIVES.tolist(), "low": low, "high": high},
    }
    lesions, called = lesion_rows(slides), false_positive_rows(slides)
    write_table(run.evaluation(name) / "lesions.csv", LESION_COLUMNS, lesions)
    write_table(run.evaluation(name) / "false_positives.csv", POINT_COLUMNS, called[:SHOWN])
    for slide in slides:
        write_detections(run.evaluation(name) / "detections" / f"{slide.slide_id}.csv", slide.detections)
    froc: dict[str, Any] = {
        "score": curve.score,
        "interval": asdict(interval),
        "sensitivity_at_fp_per_slide": dict(zip(map(str, FP_PER_SLIDE), curve.at, strict=True)),
        "n_lesions": curve.n_lesions,
        "n_slides": curve.n_slides,
        "by_size": found_by_size(lesions),
        "false_positives_at_threshold": len(called),
        "mode": spec.froc_mode,
        "lesions": spec.froc_truth,
        "mask_mpp": spec.froc_mask_mpp if spec.froc_truth == "mask" else None,
        "isolated_below_um": spec.isolated_below_um,
        "detections": DETECTIONS[spec.detections].format(spec=spec),
        "reasons": {"score": curve.reason} if curve.reason else {},
    }
    return patch, froc, curves


DETECTIONS = {
    "maxima": "local maxima of tile probability > {spec.min_probability}, {spec.detection_radius_um:g} µm apart",
    "components": "centroids of connected tiles of probability > {spec.min_probability}",
    "tiles": "every tile of probability > {spec.min_probability}",
}
