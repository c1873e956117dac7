"""Real H&E with exact lesions: lung images of 224 x 224 px as mosaic slides, from slide labels to FROC, easy and hard.

easy: 100 slides of one laboratory, read at 0.5 µm/px, one to three lesions of 1 to 12 carcinoma images each.
hard: the test slides come from other laboratories (strong stain and focus jitter by centre), lesions are single images,
half as many training slides, read at 1 µm/px (in overlapping tiles: a lesion of one image must fill one of them).

Every method's learning rate is chosen on validation slides: the highest validation AUC, mean over seeds.

    python pipelines/lung_mosaics.py configs/lung_mosaics.yaml --data lung_he.zip --squeezenet WEIGHTS.npz
"""

import argparse
import csv
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.lung_mosaic_slides import MosaicSpec, write_mosaics
from wsi_mil.config import RunConfig, load_config
from wsi_mil.io.json import read_json
from wsi_mil.logs import setup_console
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage

RATES = (1e-4, 3e-4, 1e-3)
HARD = MosaicSpec(
    slides={"train": 48, "val": 24, "test": 60},
    lesions=(1, 3),
    lesion_images=(1, 1),
    centres=4,
    slide_jitter=0.1,
    centre_jitter=0.2,
    blur_px=(0.0, 2.0),
    seed=1,
)
# form -> how slides are made, how they are read
FORMS: dict[str, tuple[MosaicSpec, dict[str, Any]]] = {
    "easy": (MosaicSpec(), {"mpp": 0.5, "size_px": 224}),
    "hard": (HARD, {"mpp": 1.0, "size_px": 112, "stride_px": 56}),
}


def form_config(config: RunConfig, form: str, squeezenet: Path, tiles: dict[str, Any]) -> RunConfig:
    """Return the configuration of one form: its own run folder, slides, tiles; one model per method and learning rate."""
    folder = config.run / form / "mosaics"
    values = config.model_dump(mode="json")
    values["run"] = str(config.run / form)
    values["tiles"] |= tiles
    values["encoder"] |= {"weights": str(squeezenet), "input_px": tiles["size_px"]}
    values["slides"] |= {
        "folder": str(folder / "slides"),
        "labels": str(folder / "labels.csv"),
        "annotations": str(folder / "annotations"),
    }
    values["models"] = {
        f"{name}_lr{rate:g}": own | {"aggregator": name, "lr": rate}
        for name, own in config.models.items()
        for rate in RATES
    }
    return RunConfig(**values)


def run_stages(config: RunConfig, form: str, stages: Sequence[str]) -> None:
    for stage in stages:
        started = time.perf_counter()
        run_stage(config, stage)
        print(f"{form}: {stage} took {time.perf_counter() - started:.0f} s", flush=True)


def choose_rates(run: RunFolder, methods: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return each method's model with the highest mean validation AUC (of equals, the lowest loss), and a table of all."""
    with run.comparison.open(newline="") as handle:
        trained = list(csv.DictReader(handle))
    chosen, rows = [], []
    for method in methods:
        scores = {}
        for name in dict.fromkeys(row["model"] for row in trained if row["model"].startswith(f"{method}_lr")):
            own = [row for row in trained if row["model"] == name]
            scores[name] = tuple(np.mean([float(row[key]) for row in own]) for key in ("val_auc", "val_loss"))
        best = max(scores, key=lambda name: (scores[name][0], -scores[name][1]))
        chosen.append(best)
        rows += [
            [name, f"{auc:.3f}", f"{loss:.3f}", "chosen" if name == best else ""]
            for name, (auc, loss) in scores.items()
        ]
    return chosen, rows


def run_form(
    config: RunConfig, form: str, data: Path, squeezenet: Path
) -> tuple[RunFolder, list[str], list[list[str]]]:
    """Make the slides of one form and run every stage on them; return the run, the chosen models and the table of rates."""
    spec, tiles = FORMS[form]
    started = time.perf_counter()
    write_mosaics(data, config.run / form / "mosaics", spec)
    print(f"{form}: slides took {time.perf_counter() - started:.0f} s", flush=True)
    all_rates = form_config(config, form, squeezenet, tiles)
    run_stages(all_rates, form, ("tile", "extract", "train"))
    run = RunFolder(all_rates.run)
    chosen, rates = choose_rates(run, list(config.models))
    final = all_rates.model_copy(update={"models": {name: all_rates.models[name] for name in chosen}})
    run_stages(final, form, ("score", "heatmap", "evaluate", "report"))
    return run, chosen, rates


def table_rows(run: RunFolder, form: str, models: list[str]) -> list[list[str]]:
    """One row per model: the first seed with its intervals, and the slide AUC of all seeds."""
    with run.comparison.open(newline="") as handle:
        trained = list(csv.DictReader(handle))
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
                _shown(patch["auprc"], patch["intervals"]["auprc"]),
                _shown(froc["score"], froc["intervals"]["score"]),
            ]
        )
    return rows


def draw_strip(run: RunFolder, models: Sequence[str], height_px: int = 300) -> Path:
    """Write strip.jpg: the test slide with most lesions, once per model."""
    with (run.evaluation(models[0]) / "lesions.csv").open(newline="") as handle:
        counts = Counter(row["slide_id"] for row in csv.DictReader(handle))
    slide_id = min(counts, key=lambda name: (-counts[name], name))
    pictures = [cv2.imread(str(run.heatmap(name, slide_id, "png"))) for name in models]
    same = [
        cv2.resize(p, (round(p.shape[1] * height_px / p.shape[0]), height_px), interpolation=cv2.INTER_AREA)
        for p in pictures
        if p is not None
    ]
    path = run.path / "strip.jpg"
    cv2.imwrite(str(path), cv2.hconcat(same), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return path


def _shown(value: float | None, interval: dict[str, Any]) -> str:
    if value is None:
        return "-"
    return f"{value:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="lung_he.zip")
    parser.add_argument(
        "--squeezenet", type=Path, required=True, help="ImageNet weights of SqueezeNet 1.0 (.npz)"
    )
    parser.add_argument("--form", action="append", choices=list(FORMS), help="one of them only; repeatable")
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    arguments = parser.parse_intermixed_args()
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    table = [["form", "method", "slide AUC", "all seeds", "patch AUC", "patch AUPRC", "FROC"]]
    rates = [["form", "model", "validation AUC", "validation loss", ""]]
    for form in arguments.form or FORMS:
        run, chosen, tried = run_form(config, form, arguments.data, arguments.squeezenet)
        table += table_rows(run, form, chosen)
        print(f"{form}: heatmaps of one slide in {draw_strip(run, chosen)}")
        rates += [[form, *row] for row in tried]
    for rows in (rates, table):
        print("\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows))


if __name__ == "__main__":
    main()
