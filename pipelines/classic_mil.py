"""MUSK1, MUSK2, Fox and Tiger under two protocols side by side, five times ten folds.

published: nine folds train, the accuracy reported for a fold is that of the epoch with the best accuracy on the test fold
itself, as the papers did it. honest: a ninth of the training bags is held out, the epoch with the lowest loss on them is
kept, and the test fold is looked at once.

    python pipelines/classic_mil.py configs/classic_mil.yaml --data FOLDER_WITH_BAGS
"""

import argparse
import csv
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.model_selection import StratifiedKFold, train_test_split

from wsi_mil.aggregators import build_aggregator, outputs_for
from wsi_mil.bags.classic import read_classic
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.execution import ExecutionSpec, run_jobs
from wsi_mil.io.files import write_text
from wsi_mil.logs import progress, setup_console
from wsi_mil.training import Standardizer, TrainSpec, fit

PUBLISHED = {  # Shi et al., AAAI 2020, Table 1: accuracy and standard deviation
    "mi_net": {
        "musk1": (0.889, 0.088),
        "musk2": (0.858, 0.110),
        "fox": (0.613, 0.078),
        "tiger": (0.824, 0.076),
    },
    "mi_net_embedding": {
        "musk1": (0.887, 0.091),
        "musk2": (0.859, 0.102),
        "fox": (0.622, 0.084),
        "tiger": (0.830, 0.072),
    },
    "mi_net_ds": {
        "musk1": (0.894, 0.093),
        "musk2": (0.874, 0.097),
        "fox": (0.630, 0.080),
        "tiger": (0.845, 0.087),
    },
    "mi_net_rc": {
        "musk1": (0.898, 0.097),
        "musk2": (0.873, 0.098),
        "fox": (0.619, 0.104),
        "tiger": (0.836, 0.083),
    },
    "abmil": {
        "musk1": (0.892, 0.090),
        "musk2": (0.858, 0.106),
        "fox": (0.615, 0.096),
        "tiger": (0.839, 0.054),
    },
    "abmil_gated": {
        "musk1": (0.900, 0.088),
        "musk2": (0.863, 0.094),
        "fox": (0.603, 0.068),
        "tiger": (0.845, 0.046),
    },
    "loss_attention": {
        "musk1": (0.917, 0.066),
        "musk2": (0.911, 0.063),
        "fox": (0.712, 0.074),
        "tiger": (0.897, 0.065),
    },
}


@dataclass(frozen=True)
class Job:
    """One method on one data set: all repeats and folds, under both protocols."""

    data: Path
    dataset: str
    method: str
    aggregator: str
    spec: TrainSpec
    repeats: int
    folds: int


def run(job: Job) -> list[dict[str, Any]]:
    """Return one row per protocol, repeat and fold."""
    bags = read_classic(job.data / f"{job.dataset}.npz")
    labels = [bag.label for bag in bags]
    rows = []
    for repeat in range(job.repeats):
        folds = StratifiedKFold(job.folds, shuffle=True, random_state=repeat).split(
            np.zeros(len(bags)), labels
        )
        for fold, (rest, test) in enumerate(folds):
            inner, val = train_test_split(
                rest, test_size=1 / (job.folds - 1), stratify=[labels[i] for i in rest], random_state=repeat
            )
            spec = job.spec.model_copy(update={"seed": 100 * repeat + fold})
            for protocol, train, watched in (("published", rest, test), ("honest", inner, val)):
                started = time.perf_counter()
                accuracy, epoch = one(
                    job, spec, protocol, *([bags[i] for i in part] for part in (train, watched, test))
                )
                row = {
                    "dataset": job.dataset,
                    "method": job.method,
                    "protocol": protocol,
                    "repeat": repeat,
                    "fold": fold,
                }
                rows.append(
                    {**row, "accuracy": accuracy, "epoch": epoch, "seconds": time.perf_counter() - started}
                )
    return rows


def one(
    job: Job, spec: TrainSpec, protocol: str, train: list[Bag], watched: list[Bag], test: list[Bag]
) -> tuple[float, int]:
    """Return the accuracy on the test fold and the epoch that it belongs to."""
    standardizer = Standardizer.fit(train)
    train, watched, test = ([standardizer(bag) for bag in part] for part in (train, watched, test))
    outputs = outputs_for(job.aggregator, classes=2, head=spec.head)
    model = build_aggregator(job.aggregator, train[0].dim, outputs, spec.seed, spec.params)
    result = fit(model, train, watched, spec)
    if protocol == "published":
        best = max(result.history, key=lambda row: row["val_accuracy"])
        return best["val_accuracy"], int(best["epoch"])
    with torch.inference_mode():
        found = model.probabilities(model(PackedBags.pack(test)).bag_logits).argmax(1)
    return float((found == torch.tensor([bag.label for bag in test])).double().mean()), result.epoch


def table(rows: list[dict[str, Any]], datasets: list[str], methods: list[str]) -> list[list[str]]:
    """Return mean and deviation over all folds, per protocol, beside the published table."""
    head = [f"{dataset} {kind}" for dataset in datasets for kind in ("paper", "published", "honest")]
    lines = [["method", *head]]
    for method in methods:
        cells = [method]
        for dataset in datasets:
            cells.append(
                "{:.3f} ± {:.3f}".format(*PUBLISHED[method][dataset]) if method in PUBLISHED else "-"
            )
            for protocol in ("published", "honest"):
                mine = (method, dataset, protocol)
                own = [r["accuracy"] for r in rows if (r["method"], r["dataset"], r["protocol"]) == mine]
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
    arguments = parser.parse_args()
    setup_console()
    settings = yaml.safe_load(arguments.config.read_text())
    jobs = []
    for dataset in settings["datasets"]:
        for method, own in settings["methods"].items():
            own = dict(own or {})
            aggregator, repeats = own.pop("aggregator", method), own.pop("repeats", settings["repeats"])
            spec = TrainSpec(**{**settings["train"], **own}, select_by="val_loss")
            jobs.append(Job(arguments.data, dataset, method, aggregator, spec, repeats, settings["folds"]))
    started = time.perf_counter()
    rows: list[dict[str, Any]] = []
    results = run_jobs(run, jobs, spec=ExecutionSpec(workers=arguments.workers))
    for found in progress(results, total=len(jobs), label="classic_mil", unit="job"):
        rows += found
        write_csv(Path(settings["run"]) / "results.csv", rows)
    lines = table(rows, settings["datasets"], list(settings["methods"]))
    print("\n".join("| " + " | ".join(line) + " |" for line in lines))
    print(f"{len(rows)} trainings in {(time.perf_counter() - started) / 60:.1f} minutes")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


if __name__ == "__main__":
    main()
