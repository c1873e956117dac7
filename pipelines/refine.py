"""Does refinement find more of the tumour's pixels than tiles do? Three synthetic cohorts, held-out slides, exact truth.

Every cohort gets slides, a FocusMIL model and refiners that differ in one thing each; the slides that score them chose nothing.

    python pipelines/refine.py configs/refine.yaml [--cohorts 11 12 13]
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_mil.bags import Split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.config.loading import parse_config
from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.logs import logger, setup_console
from wsi_mil.refine.evaluation_file import refinement_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_pipeline
from wsi_mil.stages.pipeline import refine_run

MODEL, OUTLINED_SLIDES = "focus_mil", 2
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, 1 µm/px": {"mpp": 1.0},
    "plain, outlines of two slides": {"polygons": "outlines"},
    "gain": {"method": "gain"},
    "gain, outlines of two slides": {"method": "gain", "polygons": "outlines"},
    "loss_attention": {"method": "loss_attention"},
}
FIGURES = {
    "Dice, model's threshold": ("dice", "own"),
    "Dice, validation's threshold": ("dice", "validation"),
    "FROC": ("froc",),
}


def cohort_config(config: RunConfig, seed: int) -> RunConfig:
    """Return the configuration of one cohort in a run folder of its own."""
    values = config.model_dump(mode="json")
    values["run"] = str(config.run / f"cohort{seed}")
    values["synthetic"]["seed"] = seed
    return parse_config(values)


def outlines_of_training_slides(run: RunFolder, count: int) -> Path:
    """Copy the truth of the first `count` tumour slides of the training part into a folder, as a user's outlines."""
    folder = run.path / "outlines"
    folder.mkdir(exist_ok=True)
    truth = [
        run.path / "cohort" / "annotations" / f"{slide}.geojson"
        for slide in Split.load(run.split).folds[0].train
    ]
    for path in [path for path in truth if path.exists()][:count]:
        shutil.copy(path, folder / path.name)
    return folder


def run_cohort(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Return what every variant found on the cohort's held-out slides, with its seconds."""
    run_pipeline(config)
    outlines = outlines_of_training_slides(RunFolder(config.run), OUTLINED_SLIDES)
    found = {}
    for name, changes in VARIANTS.items():
        started = time.perf_counter()
        own = {key: str(outlines) if key == "polygons" else value for key, value in changes.items()}
        values = config.model_dump(mode="json")
        values["refine"] |= own
        _, row = refine_run(parse_config(values), MODEL)
        if row is None:
            raise RuntimeError("a synthetic cohort has outlines")
        found[name] = refinement_json(row) | {"seconds": time.perf_counter() - started}
        logger().info(
            "%s, %s: Dice %.3f -> %.3f",
            config.run.name,
            name,
            row.dice_own.second,
            row.dice_own.first,
        )
    return found


def figure(row: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for key in path:
        row = row[key]
    return row


def table(found: Sequence[dict[str, dict[str, Any]]]) -> str:
    """Return one line a variant: mean over cohorts of tiles -> refined, and the mean difference with its t interval over cohorts."""
    lines = ["| refiner | " + " | ".join(FIGURES) + " | seconds |", "|---|" + "---|" * (len(FIGURES) + 1)]
    for name in VARIANTS:
        cells = []
        for path in FIGURES.values():
            rows = [figure(cohort[name], path) for cohort in found]
            before, after = (sum(row[key] for row in rows) / len(rows) for key in ("second", "first"))
            change = spread([row["difference"] for row in rows])
            cells.append(
                f"{before:.3f} → {after:.3f}, {change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
            )
        seconds = sum(cohort[name]["seconds"] for cohort in found) / len(found)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def by_cohort(found: Sequence[dict[str, dict[str, Any]]], names: Sequence[int], variant: str) -> str:
    """Return one line a cohort for one variant: the difference with its bootstrap interval over patients."""
    lines = ["| cohort | test slides | " + " | ".join(FIGURES) + " |", "|---|---|" + "---|" * len(FIGURES)]
    for name, cohort in zip(names, found, strict=True):
        rows = [figure(cohort[variant], path) for path in FIGURES.values()]
        cells = [f"{r['second']:.3f} → {r['first']:.3f} ({r['low']:+.3f} to {r['high']:+.3f})" for r in rows]
        lines.append(f"| {name} | {cohort[variant]['test_slides']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--cohorts", type=int, nargs="+", default=[11, 12, 13], help="seeds of the cohorts")
    options = parser.parse_args()
    setup_console()
    started = time.perf_counter()
    config = load_config(options.config, tuple(options.overrides))
    found = [run_cohort(cohort_config(config, seed)) for seed in options.cohorts]
    text = f"{table(found)}\n\n`plain` by cohort\n\n{by_cohort(found, options.cohorts, 'plain')}\n"
    write_json(config.run / "refine.json", dict(zip(map(str, options.cohorts), found, strict=True)))
    write_text(config.run / "refine.md", text)
    print(text)
    print(f"{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
