"""Do the four laboratories of the lung mosaics show in labels, features and models?

Question: what does `wsi-mil audit --sites` say of a cohort whose label does not depend on the laboratory, and
of cohorts of the same slides in which it does?

Data: the run of `pipelines/lung_mosaics.py --form hard` (its slides and features). Three cohorts of its first
slides by id:

- none: all of them, split as in the study: training and validation in two laboratories, test in the others.
- half: tumour slides of two laboratories and normal slides of the others, and a third of the rest.
- full: tumour slides of two laboratories and normal slides of the others, nothing else.

Tied cohorts are split into three folds with mixed laboratories, as by a user who does not know of the tie.

    python pipelines/lung_sites.py runs/lung_mosaics/hard --out runs/lung_sites

Seeds: 1 for the slides, 0 for the third that is kept and for training. Writes OUT/<cohort>/: a run folder
with sites/sites.html. Prints the tables.
"""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wsi_mil.config import RunConfig, load_config
from wsi_mil.experiments.site_audit import run_site_audit
from wsi_mil.io.files import write_text
from wsi_mil.io.tables import csv_text, markdown_row, read_csv
from wsi_mil.logs import setup_console
from wsi_mil.report.templating import interval, number
from wsi_mil.robustness.sites.results import SiteAudit
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage

COHORTS = ("none", "half", "full")
TUMOUR_LABORATORIES = ("centre_0", "centre_2")
"""One of the two of training and validation in the study, and one of the two of test."""
MODELS = {
    "abmil_gated": {"lr": 1e-3, "bags_per_batch": 1},  # the rate that the study chose
    "mean_pool": {"lr": 1e-3, "bags_per_batch": 1},
}
COLUMNS = ("tie", "question", "of", "n", "value", "interval", "chance")
Row = Mapping[str, str]


def tied(rows: Sequence[Row], cohort: str, rng: np.random.Generator) -> list[Row]:
    """Return the slides of a cohort: all, or those whose label goes with the laboratory and a part of the
    rest."""
    expected = [(row["centre"] in TUMOUR_LABORATORIES) == (row["label"] == "1") for row in rows]
    kept = {"none": 1.0, "half": 1 / 3, "full": 0.0}[cohort]
    others = [number for number, fits in enumerate(expected) if not fits]
    chosen = set(rng.permutation(others)[: round(kept * len(others))].tolist())
    return [row for number, row in enumerate(rows) if expected[number] or number in chosen]


def make_run(source: RunConfig, folder: Path, rows: Sequence[Row], cohort: str, epochs: int) -> RunConfig:
    """Write labels, slides and features of a cohort into a run folder of its own; return its settings."""
    mosaics, old = source.slides.folder, RunFolder(source.run)
    assert isinstance(mosaics, Path)
    columns = ("slide", "label", "patient", "centre", "split")
    write_text(folder / "labels.csv", csv_text(columns, [[row[name] for name in columns] for row in rows]))
    for row in rows:
        shutil.copytree(
            old.store(row["slide"]).path, RunFolder(folder).store(row["slide"]).path, dirs_exist_ok=True
        )
        (folder / "mosaics").mkdir(exist_ok=True)
        shutil.copy2(mosaics / f"{row['slide']}.tiff", folder / "mosaics")
    values = source.model_dump(mode="json")
    values["run"] = str(folder)
    values["slides"] |= {"folder": str(folder / "mosaics"), "labels": str(folder / "labels.csv")}
    values["split"] |= {"seeds": 1} if cohort == "none" else {"kind": "kfold", "folds": 3, "seeds": 1}
    values["train"] |= {"epochs": epochs, "search": ()}
    values["models"] = MODELS
    return RunConfig(**values)


def table_rows(cohort: str, audit: SiteAudit) -> list[list[str]]:
    """Return COLUMNS of what an audit found."""
    tie, slides = audit.tie, str(sum(row.slides for row in audit.tie.centres))
    found = [
        ["Cramér's V", "label, centre", slides, number(tie.cramers_v), f"p {tie.p_value:.3f}", ""],
        ["AUC of the centre alone", "label", slides, number(tie.auc), "", "0.5"],
    ]
    for probe in audit.probes:
        value = probe.reason or number(probe.accuracy)
        cells = [probe.what, str(probe.n), value, interval(probe), number(probe.chance)]
        found.append(["centre named, balanced accuracy", *cells])
    for index in audit.indices:
        value = index.reason or f"{number(index.value)} (k {index.k})"
        found.append(["robustness index", index.what, str(index.n), value, interval(index), "0.5"])
    for model in audit.models:
        groups = [(row.centre, row.auc) for row in model.centres]
        for name, metric in (*groups, ("pairs of one centre", model.within), ("all", model.all_slides)):
            cells = [str(metric.n), metric.reason or number(metric.value), interval(metric.interval), "0.5"]
            found.append([f"slide AUC, {model.model}", name, *cells])
    found += [[check.name, check.model, "", check.verdict, "", ""] for check in audit.checks]
    return [[cohort, *row] for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the run folder of the hard form")
    parser.add_argument("--out", type=Path, default=Path("runs/lung_sites"))
    parser.add_argument("--slides", type=int, default=132, help="take the first so many slides by id")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--cohort", action="append", choices=COHORTS, help="only this cohort; repeatable")
    arguments = parser.parse_args()
    setup_console()
    source = load_config(arguments.run)
    assert source.labels_path is not None
    rows = sorted(read_csv(source.labels_path), key=lambda row: row["slide"])[: arguments.slides]
    table: list[Sequence[str]] = [COLUMNS]
    for cohort in arguments.cohort or COHORTS:
        started = time.perf_counter()
        chosen = tied(rows, cohort, np.random.default_rng(0))
        config = make_run(source, arguments.out / cohort, chosen, cohort, arguments.epochs)
        for stage in ("train", "score"):
            run_stage(config, stage)
        table += table_rows(cohort, run_site_audit(config))
        print(f"{cohort}: {len(chosen)} slides, {time.perf_counter() - started:.0f} s", flush=True)
    print("\n" + "\n".join(map(markdown_row, table)))


if __name__ == "__main__":
    main()
