"""MNIST-bags: seven methods at 50 to 200 training bags, whether they find the instances, and the ablation of lambda.

Every model trains for a fixed number of epochs and the last one is scored on 1,000 test bags: nothing is chosen on
them. For the methods under `best_epoch` the AUC of the best epoch on the test bags, which the paper's code reports,
stands beside it, from the same trainings. One repeat = new bags and new weights, the same bags for all methods.

    python pipelines/mnist_bags.py configs/mnist_bags.yaml --data FOLDER_WITH_IDX_FILES
"""

import argparse
import csv
import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.metrics import roc_auc_score

from pipelines.mnist import Digits, draw_bags
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.aggregators.front_end import ImageFrontEnd, LeNet
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.execution import ExecutionSpec, run_jobs
from wsi_mil.io.files import write_text
from wsi_mil.logs import progress, setup_console
from wsi_mil.training import TrainSpec, fit

THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """All trainings of one repeat on the same bags: `runs` are (row's own columns, method, spec).

    `watched`: methods whose AUC on the first `watched_bags` test bags is taken after every epoch.
    """

    data: Path
    repeat: int
    bags: int
    classes: int
    test_bags: int
    runs: tuple[tuple[Row, str, TrainSpec], ...]
    watched: tuple[str, ...] = ()
    watched_bags: int = 0


def build(method: str, classes: int, spec: TrainSpec) -> Aggregator:
    """Return LeNet in front of the method, softmax head for the attention methods, as in the paper's table."""
    outputs = 1 if classes == 2 and method in ("mi_net", "focus_mil") else classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        front = LeNet()
    aggregator = build_aggregator(method, LeNet.out_features, outputs, spec.seed, spec.params)
    return ImageFrontEnd(front, aggregator)


def run(job: Job) -> list[Row]:
    """Train and score; one row per training."""
    train_digits, test_digits = (Digits.load(job.data, part) for part in ("train", "t10k"))
    rng = np.random.default_rng([job.repeat, job.bags, job.classes])
    train = draw_bags(train_digits, job.bags, job.classes, rng)
    test = draw_bags(test_digits, job.test_bags, job.classes, rng)
    rows = []
    for columns, method, spec in job.runs:
        started = time.perf_counter()
        model = build(method, job.classes, spec)
        watched = test[: job.watched_bags] if method in job.watched and columns["lambda"] == "" else []
        history = fit(model, train, watched, spec).history
        shape = {"classes": job.classes, "bags": job.bags, "repeat": job.repeat, "method": method}
        row = {**shape, **columns, **score(model, test)}
        if watched:
            row |= {
                "auc_watched": history[-1]["val_auc"],
                "auc_best_epoch": max(e["val_auc"] for e in history),
            }
        rows.append({**row, "seconds": round(time.perf_counter() - started, 1)})
    return rows


@torch.inference_mode()
def score(model: Aggregator, test: list[Bag]) -> Row:
    """Return AUC (two classes), accuracy, and how the instance scores find the targets in positive bags."""
    model.eval()
    probabilities, scores, kind = [], [], score_kind("attention")
    for start in range(0, len(test), 10):  # larger batches are slower on a CPU
        output = model(PackedBags.pack(test[start : start + 10]))
        probabilities.append(model.probabilities(output.bag_logits))
        scores.append(output.instance_scores.numpy())
        kind = score_kind(output.score_kind)
    found = torch.cat(probabilities).double().numpy()
    labels = np.array([bag.label for bag in test])
    row: Row = {"accuracy": float((found.argmax(1) == labels).mean()), "score_kind": kind.name}
    if found.shape[1] == 2:
        row["auc"] = float(roc_auc_score(labels, found[:, 1]))
    positive = np.repeat(labels > 0, [len(bag) for bag in test])
    values = np.concatenate(scores)[positive]
    values = kind.scale(values) if kind.is_probability else values
    truth = (
        torch.cat([bag.instance_labels for bag in test if bag.instance_labels is not None]).numpy()[positive]
        == 1
    )
    for threshold in THRESHOLDS:
        chosen = values > threshold
        hits = int((chosen & truth).sum())
        row[f"precision_{threshold}"] = hits / chosen.sum() if chosen.any() else float("nan")
        row[f"recall_{threshold}"] = hits / truth.sum()
    return row


def plan(settings: dict[str, Any], data: Path) -> list[Job]:
    """Return the jobs of both tasks; at the ablation's number of bags the ablation and `best_epoch` run as well."""
    jobs = []
    best = settings["best_epoch"]
    for classes, task in ((2, settings["binary"]), (4, settings["multi_class"])):
        for repeat in range(settings["repeats"]):
            for bags, epochs in task["epochs_of_training_bags"].items():
                runs = [run_of(settings, epochs, name, {}, repeat) for name in settings["methods"]]
                job = Job(data, repeat, bags, classes, settings["test_bags"], tuple(runs))
                if bags == task.get("ablation"):
                    runs += [
                        run_of(settings, epochs, "loss_attention", {"lam": v}, repeat)
                        for v in settings["lambdas"]
                    ]
                    job = replace(
                        job, runs=tuple(runs), watched=tuple(best["methods"]), watched_bags=best["test_bags"]
                    )
                jobs.append(job)
    return jobs


def run_of(
    settings: dict[str, Any], epochs: int, name: str, params: Row, repeat: int
) -> tuple[Row, str, TrainSpec]:
    own = settings["methods"][name] or {}
    values = {**settings["train"], **own, "epochs": epochs, "seed": repeat, "select_by": "last"}
    values["params"] = {**own.get("params", {}), **params}
    return ({"lambda": params.get("lam", ""), "epochs": epochs}, name, TrainSpec(**values))


def write_table(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, sorted({key for row in rows for key in row}), restval="", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four idx files")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one per core")
    arguments = parser.parse_args()
    setup_console()
    settings = yaml.safe_load(arguments.config.read_text())
    jobs = plan(settings, arguments.data)
    started = time.perf_counter()
    results = run_jobs(run, jobs, spec=ExecutionSpec(workers=arguments.workers))
    path, rows = Path(settings["run"]) / "results.csv", []
    for found in progress(results, total=len(jobs), label="mnist_bags", unit="job"):
        rows += found
        write_table(path, rows)
    print(f"{len(rows)} trainings in {(time.perf_counter() - started) / 60:.1f} minutes: {path}")


if __name__ == "__main__":
    main()
