"""What the lung mosaics study reports of a run: chosen learning rates, table rows, and a picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsi_mil.io.images import read_image, write_jpeg
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import read_csv
from wsi_mil.run.folder import RunFolder

RATE_COLUMNS = ("form", "method", "rate", "validation AUC", "validation loss", "chosen")
COLUMNS = ("form", "method", "slide AUC", "all seeds", "patch AUC", "within slides", "patch AUPRC", "FROC")


def rate_rows(run: RunFolder, form: str, models: Sequence[str]) -> list[list[str]]:
    """Return RATE_COLUMNS for each model and learning rate that was tried; none without `train.search`.

    Measures are means over the seeds; in each seed its validation slides choose the rate.
    """
    seeds = sorted({int(row["fold"]) for row in read_csv(run.comparison)})
    rows = []
    for name in models:
        files = [run.model(name, seed) / "search.csv" for seed in seeds]
        tried = [row for file in files if file.exists() for row in read_csv(file)]
        for rate in dict.fromkeys(row["lr"] for row in tried):
            own = [row for row in tried if row["lr"] == rate]
            auc, loss = (np.mean([row.number(key) for row in own]) for key in ("val_auc", "val_loss"))
            chosen = sum(row["chosen"] == "1" for row in own)
            rows.append([form, name, rate, f"{auc:.3f}", f"{loss:.3f}", f"{chosen} of {len(own)}"])
    return rows


def table_rows(run: RunFolder, form: str, models: Sequence[str]) -> list[list[str]]:
    """Return COLUMNS per model: the first seed with its intervals, and the slide AUC of all seeds."""
    trained = read_csv(run.comparison)
    rows = []
    for name in models:
        metrics = read_json(run.evaluation(name) / "metrics.json")
        seeds = [float(row["test_auc"]) for row in trained if row["model"] == name]
        slide, patch, froc = metrics["slide"], metrics["patch"], metrics["froc"]
        rows.append(
            [
                form,
                name,
                _shown(slide["auc"], slide["intervals"]["auc"]),
                f"{min(seeds):.3f} to {max(seeds):.3f}",
                _shown(patch["auc"], patch["intervals"]["auc"]),
                f"{patch['per_slide']['auc']['mean']:.3f}",
                _shown(patch["auprc"], patch["intervals"]["auprc"]),
                _shown(froc["score"], froc["intervals"]["score"]),
            ]
        )
    return rows


def draw_strip(run: RunFolder, models: Sequence[str], height_px: int = 300) -> Path:
    """Write strip.jpg, the heatmaps of all models on the test slide with most lesions; return its path."""
    counts = Counter(row["slide_id"] for row in read_csv(run.evaluation(models[0]) / "lesions.csv"))
    slide_id = min(counts, key=lambda name: (-counts[name], name))
    files = [run.heatmap(name, slide_id, "png") for name in models]
    pictures = [read_image(path) for path in files if path.exists()]
    scaled = [
        cv2.resize(p, (round(p.shape[1] * height_px / p.shape[0]), height_px), interpolation=cv2.INTER_AREA)
        for p in pictures
    ]
    path = run.path / "strip.jpg"
    write_jpeg(path, np.asarray(cv2.hconcat(scaled), np.uint8), 80)
    return path


def _shown(value: float | None, interval: dict[str, Any]) -> str:
    if value is None:
        return "-"
    if interval["low"] is None:  # all bootstrap draws gave the same value
        return f"{value:.3f}"
    return f"{value:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"
