"""What the lung mosaics study reports of a run: chosen learning rates, table rows, and a picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsi_mil.io.images import read_image, write_jpeg
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import read_csv
from wsi_mil.run.folder import RunFolder

RATE_COLUMNS = ("form", "model", "validation AUC", "validation loss", "")
COLUMNS = ("form", "method", "slide AUC", "all seeds", "patch AUC", "within slides", "patch AUPRC", "FROC")


@dataclass(frozen=True)
class RateScore:
    """A model at one learning rate: validation AUC and loss (means over seeds); whether it was chosen."""

    model: str
    val_auc: float
    val_loss: float
    chosen: bool

    def cells(self) -> list[str]:
        """Return the cells of RATE_COLUMNS after the first."""
        return [self.model, f"{self.val_auc:.3f}", f"{self.val_loss:.3f}", "chosen" if self.chosen else ""]


def choose_rates(run: RunFolder, methods: Sequence[str]) -> list[RateScore]:
    """Return every model of each method; the one with the highest validation AUC is chosen.

    If several have the same AUC, the one with the lowest validation loss is chosen.
    """
    trained = read_csv(run.comparison)
    found = []
    for method in methods:
        scores = {}
        for name in dict.fromkeys(row["model"] for row in trained if row["model"].startswith(f"{method}_lr")):
            own = [row for row in trained if row["model"] == name]
            scores[name] = tuple(
                float(np.mean([float(row[k]) for row in own])) for k in ("val_auc", "val_loss")
            )
        best = max(scores, key=lambda name: (scores[name][0], -scores[name][1]))
        found += [RateScore(name, auc, loss, name == best) for name, (auc, loss) in scores.items()]
    return found


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
