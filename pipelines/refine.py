"""Does refinement find more of the tumour's pixels than the tile-level heatmap does?

Question: refiners that differ in one setting each are compared with the tile-level map on held-out slides:
Dice of pixels at two thresholds, and FROC.

Data: three synthetic cohorts with exact truth, made here, each with its own FocusMIL model. The test slides
choose nothing.

    python pipelines/refine.py configs/refine.yaml [--cohorts 11 12 13]

Seeds: 11, 12, 13 for the cohorts (--cohorts), 0 for split and weights. Writes runs/refine/cohort<seed>/ (run
folders), runs/refine/refine.json (every measure) and runs/refine/refine.md (the tables, which are also
printed).
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from pipelines.refinement.tables import by_cohort, table
from wsi_mil.bags import Split
from wsi_mil.config import RunConfig, load_config
from wsi_mil.config.loading import parse_config
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.logs import logger, setup_console
from wsi_mil.refine.evaluation_file import refinement_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_pipeline
from wsi_mil.stages.pipeline import refine_run

MODEL, OUTLINED_SLIDES = "focus_mil", 2
REFINERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, 1 µm/px": {"mpp": 1.0},
    "plain, outlines of two slides": {"polygons": "outlines"},
    "gain": {"method": "gain"},
    "gain, outlines of two slides": {"method": "gain", "polygons": "outlines"},
    "loss_attention": {"method": "loss_attention"},
}
"""Name -> settings of `refine`; "outlines" is replaced by the folder of outlines."""


def cohort_config(config: RunConfig, seed: int) -> RunConfig:
    """Return the configuration of one cohort, with its own run folder."""
    values = config.model_dump(mode="json")
    values["run"] = str(config.run / f"cohort{seed}")
    values["synthetic"]["seed"] = seed
    return parse_config(values)


def outlines_of_training_slides(run: RunFolder, count: int) -> Path:
    """Copy the true outlines of the first `count` tumour slides for training into a folder; return it."""
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
    """Run all stages, then every refiner; return the comparison of each on test slides, and its seconds."""
    run_pipeline(config)
    outlines = outlines_of_training_slides(RunFolder(config.run), OUTLINED_SLIDES)
    found = {}
    for name, changes in REFINERS.items():
        started = time.perf_counter()
        own = {key: str(outlines) if key == "polygons" else value for key, value in changes.items()}
        values = config.model_dump(mode="json")
        values["refine"] |= own
        _, row = refine_run(parse_config(values), MODEL)
        if row is None:
            raise RuntimeError("a synthetic cohort has outlines")
        found[name] = refinement_json(row) | {"seconds": time.perf_counter() - started}
        dice = row.dice_own
        logger().info("%s, %s: Dice %.3f -> %.3f", config.run.name, name, dice.second, dice.first)
    return found


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
