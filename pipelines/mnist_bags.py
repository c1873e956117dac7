"""MNIST-bags: seven methods at 50 to 200 training bags, and the instances that they find.

Question: do the methods classify bags as published, and do their instance scores find the target digits?

Data: MNIST's four idx files. Every model trains for a fixed number of epochs, and the last epoch is scored on
1,000 test bags: nothing is chosen on them. For the methods under `best_epoch` the AUC of the best epoch on
the test bags, which the paper's code reports, is taken from the same trainings. A repeat has new bags and new
weights; all methods of a repeat have the same bags.

    python pipelines/mnist_bags.py configs/mnist_bags.yaml --data FOLDER_WITH_IDX_FILES

Seeds: the numbers of the repeats, 0 to 9. Writes runs/mnist_bags/results.csv, one row per training;
`pipelines/mnist_bags_tables.py` prints its tables.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pipelines.mnist.trainings import Cells, Job, Training, run
from wsi_mil.execution import ExecutionSpec, run_jobs, stopped_at_the_end
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import progress, setup_console
from wsi_mil.training import TrainSpec


def plan(settings: Mapping[str, Any], data: Path) -> list[Job]:
    """Return the jobs of both tasks: one per task, repeat and number of training bags.

    The ablation of lambda and `best_epoch` are part of the jobs with the ablation's number of training bags.
    """
    jobs = []
    best = settings["best_epoch"]
    for classes, task in ((2, settings["binary"]), (4, settings["multi_class"])):
        for repeat in range(settings["repeats"]):
            for bags, epochs in task["epochs_of_training_bags"].items():
                runs = [training_of(settings, epochs, name, repeat) for name in settings["methods"]]
                job = Job(data, repeat, bags, classes, settings["test_bags"], tuple(runs))
                if bags == task.get("ablation"):
                    for lam in settings["lambdas"]:
                        runs.append(training_of(settings, epochs, "loss_attention", repeat, lam))
                    job = replace(
                        job,
                        trainings=tuple(runs),
                        watched=tuple(best["methods"]),
                        watched_bags=best["test_bags"],
                    )
                jobs.append(job)
    return jobs


def training_of(
    settings: Mapping[str, Any], epochs: int, method: str, repeat: int, lam: float | None = None
) -> Training:
    """Return one training with the settings of its method, and with `lam` as its lambda if given."""
    own = settings["methods"][method] or {}
    values = {**settings["train"], **own, "epochs": epochs, "seed": repeat, "select_by": "last"}
    values["params"] = {**own.get("params", {}), **({} if lam is None else {"lam": lam})}
    return Training(method, TrainSpec(**values), lam)


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
    path = Path(settings["run"]) / "results.csv"
    rows: list[Cells] = []
    with stopped_at_the_end(results):
        for found in progress(results, total=len(jobs), label="mnist_bags", unit="job"):
            rows += found
            write_csv(path, sorted({column for row in rows for column in row}), rows)
    print(f"{len(rows)} trainings in {(time.perf_counter() - started) / 60:.1f} minutes: {path}")


if __name__ == "__main__":
    main()
