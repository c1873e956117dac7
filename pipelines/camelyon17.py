"""Camelyon17 from the folders as downloaded: trained on centres 0 to 2, tested on centres 3 and 4.

Slides patient_*_node_*.tif with stage_labels.csv, outlines as <slide>.xml, in any folders below DATA (center_<n> folders, if
there are any, say the centre). The FocusMIL protocol: 10x, ResNet-18, three bags a step, five seeds, 80/20 training and
validation among centres 0 to 2. Then the patients' pN-stages and the quadratic weighted kappa of the challenge.

    python pipelines/camelyon17.py configs/camelyon17.yaml --data CAMELYON17
"""

import re
from pathlib import Path

import numpy as np

from pipelines.camelyon import Row, arguments_of, exclude, find_files, find_one, lay_out, run_seeds, table
from wsi_mil.bags import read_labels
from wsi_mil.bags.camelyon import read_stages
from wsi_mil.config import load_config
from wsi_mil.errors import WsiMilError
from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.json import without_nan, write_json
from wsi_mil.logs import setup_console
from wsi_mil.stages.patients import patient_stages, stage_agreement

SEEDS = (2021, 2022, 2023, 2024, 2025)
NAMES = r"patient_\d+_node_\d+"


def rows_of(data: Path) -> list[Row]:
    """Return a row per labelled slide on disk. Slides without a label (the challenge's own test) are left out and counted."""
    labels = read_labels(find_one(data, "stage_labels.csv"), ("negative", "tumor")).rows
    slides = find_files(data, NAMES).slides
    rows: list[Row] = []
    for name, path in slides.items():
        if name not in labels:
            continue
        folder = re.search(r"cent(?:er|re)_(\d)", path.parent.as_posix())
        centre = folder[1] if folder else labels[name].centre
        rows.append((name, "tumor" if labels[name].label else "negative", labels[name].patient, centre, ""))
    if without := len(slides) - len(rows):
        print(f"left out: {without} slides without a label in stage_labels.csv")
    return rows


def main() -> None:
    arguments = arguments_of(__doc__, SEEDS, "leave a slide out; repeatable")
    setup_console()
    config = load_config(arguments.config, tuple(arguments.overrides))
    rows = exclude(rows_of(arguments.data), arguments.exclude or (), {})
    cohort = config.run / "cohort"
    lay_out(cohort, find_files(arguments.data, NAMES), rows)
    runs = run_seeds(config, cohort, arguments.seeds)
    tested = sum(row[3] in config.split.test_centres for row in rows)
    print(
        f"\n{len(rows) - tested} training slides, {tested} of held-out centres, {len(runs)} seeds: mean (95 % t-interval)\n"
    )
    print(table(runs, list(config.models)))
    truth = read_stages(find_one(arguments.data, "stage_labels.csv"))
    print("\n| method | patients | quadratic weighted kappa of pN-stages |\n|---|---|---|")
    for name in config.models:
        kappas = []
        for run in runs:
            found = stage_agreement(patient_stages(run, name, truth), np.random.default_rng(config.seed))
            write_json(run.evaluation(name) / "stages.json", {"kind": "pN-stages", **without_nan(found)})
            kappas.append(found["kappa"]["value"])
        s = spread(kappas)
        print(f"| {name} | {found['patients']} | {s.mean:.3f} ({s.low:.3f} to {s.high:.3f}) |")


if __name__ == "__main__":
    try:
        main()
    except WsiMilError as error:
        raise SystemExit(f"error: {error}") from None
