"""Real H&E with exact lesions: lung images of 224 x 224 px as mosaic slides, from slide labels to FROC, easy and hard.

easy: 100 slides of one laboratory, read at 0.5 µm/px, one to three lesions of 1 to 12 carcinoma images each.
hard: the test slides come from other laboratories (strong stain and focus jitter by centre), lesions are single images,
24 training slides, read at 2 µm/px.

    python pipelines/lung_mosaics.py configs/lung_mosaics.yaml --data lung_he.zip --squeezenet WEIGHTS.npz
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from pipelines.lung_mosaic_slides import MosaicSpec, write_mosaics
from wsi_mil.config import RunConfig, load_config
from wsi_mil.files import read_json
from wsi_mil.logs import setup_console
from wsi_mil.stages import RunFolder, run_stage

STAGES = ("tile", "extract", "train", "score", "heatmap", "evaluate", "report")
HARD = MosaicSpec(
    slides={"train": 24, "val": 12, "test": 60},
    lesions=(1, 2),
    lesion_images=(1, 1),
    centres=4,
    slide_jitter=0.1,
    centre_jitter=0.35,
    blur_px=(0.0, 3.0),
    seed=1,
)
# form -> how slides are made, how they are read
FORMS: dict[str, tuple[MosaicSpec, dict[str, Any]]] = {
    "easy": (MosaicSpec(), {"mpp": 0.5, "size_px": 224}),
    "hard": (HARD, {"mpp": 2.0, "size_px": 56}),
}


def run_form(
    config: RunConfig, form: str, data: Path, squeezenet: Path, spec: MosaicSpec, tiles: dict[str, Any]
) -> RunFolder:
    """Make the slides of one form and run every stage on them, in the form's own run folder."""
    folder = config.run / form / "mosaics"
    started = time.perf_counter()
    write_mosaics(data, folder, spec)
    print(f"{form}: slides took {time.perf_counter() - started:.0f} s", flush=True)
    values = config.model_dump(mode="json")
    values["run"] = str(config.run / form)
    values["tiles"] |= tiles
    values["encoder"] |= {"weights": str(squeezenet), "input_px": max(tiles["size_px"], 112)}
    values["slides"] |= {
        "folder": str(folder / "slides"),
        "labels": str(folder / "labels.csv"),
        "annotations": str(folder / "annotations"),
    }
    for stage in STAGES:
        started = time.perf_counter()
        run_stage(RunConfig(**values), stage)
        print(f"{form}: {stage} took {time.perf_counter() - started:.0f} s", flush=True)
    return RunFolder(config.run / form)


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
                _shown(froc["score"], froc["interval"]),
            ]
        )
    return rows


def _shown(value: float | None, interval: dict[str, Any]) -> str:
    if value is None:
        return "-"
    return f"{value:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="lung_he.zip")
    parser.add_argument("--squeezenet", type=Path, required=True, help="ImageNet weights of SqueezeNet 1.0 (.npz)")
    parser.add_argument("--form", action="append", choices=list(FORMS), help="one of them only; repeatable")
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    arguments = parser.parse_args()
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    table = [["form", "method", "slide AUC", "five seeds", "patch AUC", "patch AUPRC", "FROC"]]
    for form in arguments.form or FORMS:
        spec, tiles = FORMS[form]
        run = run_form(config, form, arguments.data, arguments.squeezenet, spec, tiles)
        table += table_rows(run, form, list(config.models))
    print("\n".join("| " + " | ".join(row) + " |" for row in table))


if __name__ == "__main__":
    main()
