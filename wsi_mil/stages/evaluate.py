"""evaluate: metrics.json and curves of every model, on the test slides only."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from wsi_mil.bags import Split
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.scores import SlideScores
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation import (
    bootstrap_interval,
    evaluation_mask,
    froc_curve,
    match_detections,
    slide_metrics,
    tile_overlap,
)
from wsi_mil.evaluation.annotations import find_annotation, read_annotations
from wsi_mil.evaluation.froc import FP_PER_SLIDE, OFFICIAL_MPP, FrocCurve, Matches
from wsi_mil.evaluation.patch_metrics import LabelledTiles, patch_metrics
from wsi_mil.evaluation.slide_metrics import auc, average_precision
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.files import digest_file, digest_json, read_json, write_json
from wsi_mil.logs import logger, progress
from wsi_mil.raster import rasterize
from wsi_mil.report.curves import draw_curves
from wsi_mil.scoring import find_detections, read_slide_scores, read_tile_scores
from wsi_mil.stages.heatmaps import check_scores
from wsi_mil.stages.run_folder import RunFolder

FORMAT = 1


def run_evaluate(run: RunFolder, name: str, split: Split, annotations: Path | None, spec: EvaluationSpec) -> bool:
    """Write evaluation/<name>/metrics.json, curves.json and curves.png; return whether there was work to do."""
    rows, header = read_slide_scores(run.slide_scores(name))
    if header["split_digest"] != split.digest():
        raise DataError(f"scores of {name!r} were made for another split: run `wsi-mil score` again")
    rows = [row for row in rows if row["part"] == "test" and row["label"] is not None]
    if not rows:
        raise DataError(f"no test slide of model {name!r} has both a label and a score: see outcomes.csv")
    folder = run.evaluation(name)
    truth_files = {row["slide_id"]: _annotation(annotations, row) for row in rows}
    inputs = digest_json(
        {
            "rows": [
                [row["slide_id"], row["label"], row["probability"], row["threshold"], row["tiles_digest"]]
                for row in rows
            ],
            "models": sorted({row["model_digest"] for row in rows}),
            "truth": {key: digest_file(path) for key, path in truth_files.items() if path},
            "spec": spec.digest(),
        }
    )
    done = folder / "metrics.json"
    if done.exists() and (folder / "curves.png").exists() and read_json(done).get("inputs_digest") == inputs:
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
    curves: dict[str, Any] = {"slide": _slide_curves(rows)}
    if annotations is None:
        reason = "no annotations: give slides.annotations=FOLDER"
        metrics["patch"] = {"auc": math.nan, "auprc": math.nan, "reasons": {"auc": reason, "auprc": reason}}
        metrics["froc"] = {"score": math.nan, "reasons": {"score": reason}}
    else:
        patch, froc, curve = _annotated_levels(run, name, rows, truth_files, spec, rng)
        metrics["patch"], metrics["froc"] = patch, froc
        curves["froc"] = {
            "false_positives_per_slide": curve.false_positives.tolist(),
            "sensitivity": curve.sensitivity.tolist(),
        }
    write_json(folder / "curves.json", without_nan(curves))
    (folder / "curves.png").unlink(missing_ok=True)
    draw_curves({name: without_nan(curves)}, folder / "curves.png")
    write_json(done, without_nan(metrics))
    return True


def without_nan(value: Any) -> Any:
    """Return `value` with NaN as None: JSON has no NaN, and a reason stands beside each."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _annotation(folder: Path | None, row: dict[str, Any]) -> Path | None:
    return find_annotation(folder, row["slide_id"]) if folder is not None and row["label"] > 0 else None


def _slide_level(rows: Sequence[dict[str, Any]], spec: EvaluationSpec, rng: np.random.Generator) -> dict[str, Any]:
    """Pooled over all test slides, and for several folds also fold by fold."""
    result = slide_metrics(
        [row["label"] for row in rows],
        [row["probability"] for row in rows],
        [row["predicted"] for row in rows],
        [row["patient"] for row in rows],
        rng,
        spec.bootstrap,
    )
    result["thresholds"] = sorted({(row["fold"], row["threshold"]) for row in rows})
    folds = sorted({row["fold"] for row in rows})
    if len(folds) > 1:
        per_fold = [[row for row in rows if row["fold"] == fold] for fold in folds]
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


def _truth_and_scores(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row["label"] > 0 for row in rows]), np.array([row["probability"] for row in rows])


def _slide_curves(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    truth, scores = _truth_and_scores(rows)
    if truth.all() or not truth.any():
        return {}
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(truth, scores)
    return {
        "fpr": fpr.tolist(),
        "tpr": tpr.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "auc": auc(truth, scores),
        "average_precision": average_precision(truth, scores),
    }


def _annotated_levels(run: RunFolder, name: str, rows: Sequence[dict[str, Any]], truth_files: dict[str, Path | None],
                      spec: EvaluationSpec, rng: np.random.Generator
                      ) -> tuple[dict[str, Any], dict[str, Any], FrocCurve]:  # fmt: skip
    """Patch metrics and FROC over the slides whose truth is known: normal ones, and tumour ones with annotations."""
    labelled, matches, groups, folds, without = [], [], [], [], []
    for row in progress(rows, total=len(rows), label=f"evaluate {name}"):
        slide_id, path = row["slide_id"], truth_files[row["slide_id"]]
        if row["label"] > 0 and path is None:
            without.append(slide_id)
            continue
        store = run.store(slide_id)
        info, table, scores = store.read_info(), store.read_tiles(), read_tile_scores(run.tile_scores(name, slide_id))
        try:
            check_scores(scores, table)
            lesions = read_annotations(path, slide_id, info) if path else []
        except WsiMilError as error:
            logger().warning("evaluate: %s is left out of patch metrics and FROC: %s", slide_id, error)
            without.append(slide_id)
            continue
        overlap = tile_overlap(table, lesions)
        labelled.append(
            LabelledTiles(slide_id, row["patient"], overlap >= spec.patch_overlap, comparable_scores(scores))
        )
        matches.append(match_slide(scores, table, info, lesions, spec))
        groups.append(row["patient"])
        folds.append(row["fold"])
    patch = patch_metrics(labelled, rng, min(spec.bootstrap, 200))
    patch["overlap"] = spec.patch_overlap
    patch["slides_without_annotation"] = without
    if len(set(folds)) > 1:
        parts = [[s for s, f in zip(labelled, folds, strict=True) if f == fold] for fold in sorted(set(folds))]
        per_fold = [patch_metrics(part, rng, draws=0)["auc"] for part in parts]
        patch["folds"] = mean_and_spread(per_fold)
    curve = froc_curve(matches)
    interval = bootstrap_interval(
        lambda chosen: froc_curve([matches[i] for i in chosen]).score, groups, rng, spec.bootstrap
    )
    froc: dict[str, Any] = {
        "score": curve.score,
        "interval": asdict(interval),
        "sensitivity_at_fp_per_slide": dict(zip(map(str, FP_PER_SLIDE), curve.at, strict=True)),
        "n_lesions": curve.n_lesions,
        "n_slides": curve.n_slides,
        "mode": "official",
        "detections": f"local maxima of tile probability > {spec.min_probability}, {spec.detection_radius_um:g} µm apart",
        "reasons": {"score": curve.reason} if curve.reason else {},
    }
    return patch, froc, curve


def comparable_scores(scores: SlideScores) -> np.ndarray:
    """Tile scores that may be pooled over slides: logits and probabilities as they are; attention, which sums to 1 in
    each slide, divided by its largest weight."""
    values = scores.tile_probabilities() if scores.score_kind == "attention" else scores.tile_scores
    return np.asarray(values, np.float64)


def match_slide(
    scores: SlideScores, table: TileTable, info: SlideInfo, lesions: Sequence[Lesion], spec: EvaluationSpec
) -> Matches:
    """Return the FROC matches of one slide on a mask of the official scale, 7.776 µm per pixel."""
    import shapely

    scale_x, scale_y = OFFICIAL_MPP / info.mpp_x, OFFICIAL_MPP / info.mpp_y
    detections = find_detections(
        scores, table, radius_um=spec.detection_radius_um, min_probability=spec.min_probability
    )
    points = [(d.probability, d.y0_px / scale_y, d.x0_px / scale_x) for d in detections]
    if not lesions:
        return match_detections(points, None, scores.slide_id)
    shape = (math.ceil(info.height_px / scale_y), math.ceil(info.width_px / scale_x))
    area = shapely.union_all([lesion.geometry for lesion in lesions])
    return match_detections(points, evaluation_mask(rasterize(area, shape, scale_x, scale_y)), scores.slide_id)
