"""MUSK1, MUSK2, Fox and Tiger under two protocols on the same folds, five times ten folds.

Question: how much of the published accuracy comes from the published protocol?

published: nine folds train. The accuracy of a fold is that of the epoch with the best accuracy on the test
fold itself, as in the papers. honest: a ninth of the training bags is held out, the epoch with the lowest
loss on them is kept, and the test fold is used once.

Data: a folder with musk1.npz, musk2.npz, fox.npz and tiger.npz (`pipelines/classic/bags.py` describes the
format).

    python pipelines/classic_mil.py configs/classic_mil.yaml --data FOLDER_WITH_BAGS

Seeds: 0 to 4 for the folds; 100 x repeat + fold for the weights. Writes runs/classic_mil/results.csv, one row
per training, and prints the table of docs/studies/classic_mil.md.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import yaml

from pipelines.classic.protocols import FoldResult, Job, run
from pipelines.classic.published import PUBLISHED
from wsi_mil.execution import ExecutionSpec, run_jobs, stopped_at_the_end
from wsi_mil.io.tables import markdown_row, write_csv
from wsi_mil.logs import progress, setup_console
from wsi_mil.training import TrainSpec

COLUMNS = [field.name for field in fields(FoldResult)]


def table(found: Sequence[FoldResult], datasets: list[str], methods: list[str]) -> list[list[str]]:
    """Return head and rows: mean ± standard deviation over all folds, beside the published values."""
    head = [f"{dataset} {kind}" for dataset in datasets for kind in ("paper", "published", "honest")]
    lines = [["method", *head]]
    for method in methods:
        cells = [method]
        for dataset in datasets:
            paper = PUBLISHED.get(method)
            cells.append("{:.3f} ± {:.3f}".format(*paper[dataset]) if paper else "-")
            for protocol in ("published", "honest"):
                wanted = (method, dataset, protocol)
                own = [r.accuracy for r in found if (r.method, r.dataset, r.protocol) == wanted]
                cells.append(f"{np.mean(own):.3f} ± {np.std(own, ddof=1):.3f}")
        lines.append(cells)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with musk1.npz, musk2.npz, fox.npz, tiger.npz"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument("--method", action="append", help="only this method; repeatable (default: all)")
    arguments = parser.parse_args()
    setup_console()
    settings = yaml.safe_load(arguments.config.read_text())
    chosen = arguments.method or list(settings["methods"])
    if unknown := set(chosen) - set(settings["methods"]):
        parser.error(f"--method {min(unknown)}: the configuration has {', '.join(settings['methods'])}")
    jobs = []
    for dataset in settings["datasets"]:
        for method in chosen:
            own = dict(settings["methods"][method] or {})
            aggregator, repeats = own.pop("aggregator", method), own.pop("repeats", settings["repeats"])
            spec = TrainSpec(**{**settings["train"], **own}, select_by="val_loss")
            jobs.append(Job(arguments.data, dataset, method, aggregator, spec, repeats, settings["folds"]))
    started = time.perf_counter()
    found: list[FoldResult] = []
    results = run_jobs(run, jobs, spec=ExecutionSpec(workers=arguments.workers))
    with stopped_at_the_end(results):
        for of_job in progress(results, total=len(jobs), label="classic_mil", unit="job"):
            found += of_job
            write_csv(Path(settings["run"]) / "results.csv", COLUMNS, map(asdict, found))
    lines = table(found, settings["datasets"], chosen)
    print("\n".join(map(markdown_row, lines)))
    print(f"{len(found)} trainings in {(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
