"""One cohort, several trainings: features once, then a run per seed, and a table over the seeds."""

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from wsi_mil.config import RunConfig
from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.json import read_json
from wsi_mil.io.tables import markdown_row
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage

COLUMNS = ("slide AUC", "accuracy", "F1", "patch AUC", "patch AUPRC", "patch F1", "FROC")


def run_seeds(config: RunConfig, cohort: Path, seeds: Sequence[int]) -> list[RunFolder]:
    """Tile and extract once, train, score and evaluate once per seed; return a run folder per seed.

    The seed decides the split and the initial weights. Features are in `<run>/features`. The folders
    `<run>/seed_<n>` have hard links to them. Heatmaps are drawn for the first seed only.
    """
    values = config.model_dump(mode="json")
    values["slides"] |= {
        "folder": str(cohort / "slides"),
        "labels": str(cohort / "labels.csv"),
        "annotations": str(cohort / "annotations"),
    }
    features = RunConfig(**(values | {"run": str(config.run / "features")}))
    for stage in ("tile", "extract"):
        run_stage(features, stage)
    runs = []
    for seed in seeds:
        folder = config.run / f"seed_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("slides", "tissue", "previews"):
            if not (folder / name).exists():
                # hard links: a symbolic link out of a run folder is refused
                shutil.copytree(folder.parent / "features" / name, folder / name, copy_function=os.link)
        seeded = {block: values[block] | {"seed": seed} for block in ("split", "train", "evaluation")}
        one = RunConfig(**(values | seeded | {"run": str(folder), "seed": seed}))
        for stage in ("train", "score", "evaluate", "heatmap", "report"):
            if stage != "heatmap" or seed == seeds[0]:
                run_stage(one, stage)
        runs.append(RunFolder(folder))
    return runs


def metrics_of(run: RunFolder, model: str) -> list[float]:
    """Return the values of COLUMNS for one run; NaN where a metric is undefined."""
    found = read_json(run.evaluation(model) / "metrics.json")
    slide, patch, froc = found["slide"], found["patch"], found["froc"]
    values = [
        slide["auc"],
        slide["accuracy"],
        slide["f1"],
        patch["auc"],
        patch["auprc"],
        patch.get("f1"),
        froc["score"],
    ]
    return [math.nan if value is None else float(value) for value in values]


def table_over_seeds(runs: Sequence[RunFolder], models: Sequence[str]) -> str:
    """Return a Markdown table: mean over seeds and its 95 % t interval, as the FocusMIL protocol reports."""
    lines = [markdown_row(["method", *COLUMNS]), "|---" * (len(COLUMNS) + 1) + "|"]
    for model in models:
        cells = []
        for values in zip(*(metrics_of(run, model) for run in runs), strict=True):
            found = spread(values)
            interval = f" ({found.low:.3f} to {found.high:.3f})" if found.count > 1 else ""
            cells.append(f"{found.mean:.3f}{interval}" if found.count else "-")
        lines.append(markdown_row([model, *cells]))
    return "\n".join(lines)
