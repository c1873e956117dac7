"""Real H&E with exact lesions: lung images of 224 x 224 px as mosaic slides, in an easy and a hard form.

Question: which method classifies the slides and finds the lesions, also in slides of other laboratories?

Data: lung_he.zip (LC25000 with its groups of near-duplicates) and ImageNet weights of SqueezeNet 1.0. easy:
100 slides of one laboratory, read at 0.5 µm/px, with one to three lesions of 1 to 12 carcinoma images each.
hard: the test slides come from other laboratories, with strong differences of stain and focus. A lesion is a
single image. Slides are read at 1 µm/px in overlapping tiles, because a lesion of one image must fill a tile.

The learning rate is chosen on validation slides by each training (`train.search` of the configuration).

    python pipelines/lung_mosaics.py configs/lung_mosaics.yaml --data lung_he.zip --squeezenet WEIGHTS.npz

Seeds: 0 (easy) and 1 (hard) for the slides; the training seeds of the configuration. Writes
runs/lung_mosaics/<form>/: the slides, a run folder with reports, and strip.jpg with heatmaps of one slide.
Prints the tables.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.lung.results import COLUMNS, RATE_COLUMNS, draw_strip, rate_rows, table_rows
from pipelines.lung.slides import write_mosaics
from pipelines.lung.spec import MosaicSpec
from wsi_mil.config import RunConfig, load_config
from wsi_mil.io.tables import markdown_row
from wsi_mil.logs import setup_console
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage

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


@dataclass(frozen=True)
class Form:
    """How the slides of a form are made, and the settings of their tiles."""

    slides: MosaicSpec
    tiles: Mapping[str, float]


FORMS = {
    "easy": Form(MosaicSpec(), {"mpp": 0.5, "size_px": 224}),
    "hard": Form(HARD, {"mpp": 1.0, "size_px": 112, "stride_px": 56}),
}


def form_config(config: RunConfig, form: str, squeezenet: Path, tiles: Mapping[str, float]) -> RunConfig:
    """Return the configuration of one form: its folders, tiles and encoder."""
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
    return RunConfig(**values)


def run_stages(config: RunConfig, form: str, stages: Sequence[str]) -> None:
    """Run the stages one after another and print how long each took."""
    for stage in stages:
        started = time.perf_counter()
        run_stage(config, stage)
        print(f"{form}: {stage} took {time.perf_counter() - started:.0f} s", flush=True)


def run_form(config: RunConfig, form: str, data: Path, squeezenet: Path) -> RunFolder:
    """Make the slides of one form and run every stage; return the run."""
    started = time.perf_counter()
    write_mosaics(data, config.run / form / "mosaics", FORMS[form].slides)
    print(f"{form}: slides took {time.perf_counter() - started:.0f} s", flush=True)
    own = form_config(config, form, squeezenet, FORMS[form].tiles)
    run_stages(own, form, ("tile", "extract", "train", "score", "heatmap", "evaluate", "report"))
    return RunFolder(own.run)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="lung_he.zip")
    parser.add_argument(
        "--squeezenet", type=Path, required=True, help="ImageNet weights of SqueezeNet 1.0 (.npz)"
    )
    parser.add_argument("--form", action="append", choices=list(FORMS), help="only this form; repeatable")
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    arguments = parser.parse_intermixed_args()
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    table: list[Sequence[str]] = [COLUMNS]
    rates: list[Sequence[str]] = [RATE_COLUMNS]
    for form in arguments.form or FORMS:
        run = run_form(config, form, arguments.data, arguments.squeezenet)
        models = list(config.models)
        table += table_rows(run, form, models)
        print(f"{form}: heatmaps of one slide in {draw_strip(run, models)}")
        rates += rate_rows(run, form, models)
    for rows in (rates, table):
        print("\n" + "\n".join(map(markdown_row, rows)))


if __name__ == "__main__":
    main()
