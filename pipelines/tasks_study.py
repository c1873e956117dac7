"""Regression and survival on generated bags with known truth: how close do methods come to the optimum?

A slide is a bag of 40 instances with 16 features. A fraction of them (its burden, between 0 and 0.5) is
tumour: shifted in the first two features. Another fraction, drawn independently, is inflammation: shifted in
two other features, it means nothing. The labels follow from the burden alone:

    regression  value = 100 burden + normal noise of deviation 5
    survival    time ~ exponential with hazard exp(6 burden); about a third is censored, at a uniform time

The best possible prediction is the burden itself ("truth" in the tables). 200 training, 100 validation and
300 test bags for each seed, the same for all methods. The epoch is chosen on validation bags; metrics are of
test bags.

    python pipelines/tasks_study.py --out runs/tasks_study
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from wsi_mil.aggregators import build_aggregator, outputs_for
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.labels import Target
from wsi_mil.evaluation.intervals import spread
from wsi_mil.evaluation.measure import measure_all, values
from wsi_mil.evaluation.predictions import PredictedSlides
from wsi_mil.io.tables import write_csv
from wsi_mil.logs import setup_console
from wsi_mil.randomness import named_generator
from wsi_mil.tasks import Task, task_class
from wsi_mil.training import TrainSpec, fit

METHODS = ("mean_pool", "abmil_gated", "max_pool", "mi_net")
TASKS = ("regression", "survival", "discrete_survival")
METRICS = {"regression": ("r2", "mae"), "survival": ("concordance",)}
SIZES = {"train": 200, "val": 100, "test": 300}
INSTANCES, FEATURES, LARGEST_BURDEN = 40, 16, 0.5
SPEC = TrainSpec(epochs=30, lr=1e-3, bags_per_batch=20, patience=10, warm_up="none")


def draw_bag(kind: str, name: str, rng: np.random.Generator) -> tuple[Bag, float]:
    """Return a bag with its label, and its burden."""
    burden, inflammation = rng.uniform(0, LARGEST_BURDEN, 2)
    features = rng.normal(size=(INSTANCES, FEATURES)).astype(np.float32)
    rows = rng.permutation(INSTANCES)
    tumour = round(burden * INSTANCES)
    features[rows[:tumour], 0:2] += 2
    features[rows[tumour : tumour + round(inflammation * INSTANCES)], 2:4] += 2
    label: Target = 100 * burden + float(rng.normal(0, 5))
    if kind == "survival":
        event, censored = float(rng.exponential(np.exp(-6 * burden))), float(rng.uniform(0, 1))
        label = (max(min(event, censored), 1e-6), float(event <= censored))
    return Bag(name, torch.from_numpy(features), label), burden


def draw(kind: str, part: str, seed: int) -> tuple[list[Bag], list[float]]:
    """Return the bags of one part and their burdens."""
    rng = named_generator(seed, "tasks study", kind, part)
    drawn = [draw_bag(kind, f"{part}_{number:03d}", rng) for number in range(SIZES[part])]
    return [bag for bag, _ in drawn], [burden for _, burden in drawn]


def measure(task: Task, bags: list[Bag], predictions: list[float]) -> dict[str, float]:
    """Return the metrics of predictions for bags; those of the product, without intervals."""
    slides = PredictedSlides.of(
        [bag.slide_id for bag in bags],
        [bag.label for bag in bags],
        predictions,
        [()] * len(bags),
        task.reading,
    )
    return values(measure_all(slides, 0, "study", draws=0, task=task.kind))


def train_and_measure(name: str, task: Task, seed: int) -> dict[str, float]:
    """Return the test metrics of one method, trained once, and the epoch that validation chose."""
    train, val, test = (draw(task.kind, part, seed)[0] for part in SIZES)
    model = build_aggregator(name, FEATURES, outputs_for(name, task), seed, task=task)
    result = fit(model, train, val, SPEC.model_copy(update={"seed": seed}), task=task)
    with torch.inference_mode():
        found = result.task.predict(model(PackedBags.pack(test)).bag_logits.double())[:, 0].tolist()
    return {**measure(task, test, found), "epoch": float(result.epoch)}


def truth(task: Task, seed: int) -> dict[str, float]:
    """Return the test metrics of the burden itself: in the unit of the label, or as the log risk."""
    bags, burdens = draw(task.kind, "test", seed)
    scale = 100 if task.kind == "regression" else 6
    return {**measure(task, bags, [scale * burden for burden in burdens]), "epoch": 0.0}


def rows(tasks: tuple[str, ...], methods: tuple[str, ...], seeds: int) -> Iterator[dict[str, object]]:
    """Yield one row for each task, method and seed."""
    for task_name in tasks:
        task = task_class(task_name)()
        for name in ("truth", *methods):
            for seed in range(seeds):
                started = time.process_time()
                found = truth(task, seed) if name == "truth" else train_and_measure(name, task, seed)
                for metric in METRICS[task.kind]:
                    yield {
                        "task": task_name,
                        "method": name,
                        "seed": seed,
                        "metric": metric,
                        "value": found[metric],
                        "epoch": int(found["epoch"]),
                        "cpu_seconds": round(time.process_time() - started, 2),
                    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tasks_study"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments = parser.parse_args()
    setup_console()
    torch.set_num_threads(1)
    found = []
    for row in rows(tuple(arguments.tasks), tuple(arguments.methods), arguments.seeds):
        found.append(row)
        print(*row.values(), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(arguments.out / "results.csv", list(found[0]), found)
    for key in dict.fromkeys((row["task"], row["metric"], row["method"]) for row in found):
        own = [float(str(r["value"])) for r in found if (r["task"], r["metric"], r["method"]) == key]
        over = spread(own)
        print(f"{key[0]:<18} {key[1]:<12} {key[2]:<12} {over.mean:7.3f} ± {over.std:.3f}")
    print(f"{time.process_time():.0f} s of CPU time")


if __name__ == "__main__":
    main()
