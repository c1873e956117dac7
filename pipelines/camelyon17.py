"""Camelyon17 in the folders as downloaded: trained on centres 0 to 2, tested on centres 3 and 4.

Question: how well do the methods work on slides of centres that they were not trained on, and how well do the
pN-stages of patients that follow from their scores agree with the truth?

Data: slides patient_*_node_*.tif, stage_labels.csv, and outlines <slide>.xml, in any folders below DATA. A
folder center_<n> gives the centre; without one it follows from the patient's number. The FocusMIL protocol:
10x, ResNet-18, three bags per step, 80 % training and 20 % validation slides of centres 0 to 2.

    python pipelines/camelyon17.py configs/camelyon17.yaml --data CAMELYON17

Seeds: 2021 to 2025 (--seeds). Writes runs/camelyon17/: cohort (labels.csv and links), features, and one run
folder per seed, with the patients' stages in evaluation/<model>/stages.json. Prints a table of means over the
seeds, and the quadratic weighted kappa of the challenge.
"""

import re
from pathlib import Path

import numpy as np

from pipelines.camelyon.arguments import read_arguments
from pipelines.camelyon.download import SlideRow, exclude, find_files, find_one, lay_out
from pipelines.camelyon.patients import patient_stages, stage_agreement
from pipelines.camelyon.seeds import run_seeds, table_over_seeds
from wsi_mil.bags import read_labels
from wsi_mil.bags.camelyon import read_stages
from wsi_mil.config import load_config
from wsi_mil.errors import WsiMilError
from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.json import write_json
from wsi_mil.logs import setup_console

SEEDS = (2021, 2022, 2023, 2024, 2025)
NAMES = r"patient_\d+_node_\d+"


def rows_of(data: Path) -> list[SlideRow]:
    """Return a row per labelled slide below `data`.

    Slides without a label (those of the challenge's own test set) are left out, and their number is printed.
    """
    labels = read_labels(find_one(data, "stage_labels.csv"), ("negative", "tumor")).rows
    slides = find_files(data, NAMES).slides
    rows = []
    for name, path in slides.items():
        if name not in labels:
            continue
        folder = re.search(r"cent(?:er|re)_(\d)", path.parent.as_posix())
        centre = folder[1] if folder else labels[name].centre
        label = "tumor" if labels[name].label else "negative"
        rows.append(SlideRow(name, label, labels[name].patient, centre, ""))
    if without := len(slides) - len(rows):
        print(f"left out: {without} slides without a label in stage_labels.csv")
    return rows


def main() -> None:
    arguments = read_arguments(__doc__, SEEDS, "leave a slide out; repeatable")
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    rows = exclude(rows_of(arguments.data), arguments.exclude or (), {})
    cohort = config.run / "cohort"
    lay_out(cohort, find_files(arguments.data, NAMES), rows)
    runs = run_seeds(config, cohort, arguments.seeds)
    tested = sum(row.centre in config.split.test_centres for row in rows)
    counts = f"{len(rows) - tested} training slides, {tested} of held-out centres, {len(runs)} seeds"
    print(f"\n{counts}: mean (95 % t-interval)\n")
    print(table_over_seeds(runs, list(config.models)))
    truth = read_stages(find_one(arguments.data, "stage_labels.csv"))
    print("\n| method | patients | quadratic weighted kappa of pN-stages |\n|---|---|---|")
    for name in config.models:
        kappas = []
        for run in runs:
            found = stage_agreement(patient_stages(run, name, truth), np.random.default_rng(config.seed))
            write_json(run.evaluation(name) / "stages.json", found.as_json())
            kappas.append(found.kappa)
        mean = spread(kappas)
        cells = f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"
        print(f"| {name} | {len(found.stages)} | {cells} |")


if __name__ == "__main__":
    try:
        main()
    except WsiMilError as error:
        raise SystemExit(f"error: {error}") from None
