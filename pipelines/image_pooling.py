"""What replaces global average pooling best on small images?

Question: ResNet-18 is trained with mean, max, attention and loss-attention pooling, and with CAL. Which is
the most accurate, and whose top position lies on the object?

Data: CIFAR-10 (cifar10_subset.zip) with few training images, and 20 classes of Tiny ImageNet with boxes of
the objects. Shi et al., Loss-based attention for deep multiple instance learning, AAAI 2020, Tables 3 to 5.
The paper reports the best test epoch, this study the last epoch.

    python pipelines/image_pooling.py --cifar FILE.zip --tiny FILE.zip --device cuda --schedule full
    python pipelines/image_pooling.py --cifar FILE.zip --tiny FILE.zip --schedule short

`short` is for a computer without GPU: a few epochs on few images. It shows that everything runs, but not how
good the methods are.

Seeds: 0 to 9 (full) or 0 (short). Writes image_pooling.json (measures, after every training) and
image_pooling.md (the table) into runs/image_pooling. A second call with the same schedule and folder
continues where the first one stopped.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from pipelines.intervals import interval
from pipelines.pooling.images import read_cifar, read_tiny_imagenet
from pipelines.pooling.models import POOLINGS
from pipelines.pooling.schedule import FULL, SHORT, Schedule
from pipelines.pooling.training import blind_position, measure, train
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.tables import markdown_table
from wsi_mil.logs import logger, progress, setup_console

Found = dict[str, dict[str, list[dict[str, float]]]]
"""Data set -> pooling -> measures by name, one per seed."""


def study(options: argparse.Namespace, schedule: Schedule) -> Found:
    """Train every pooling on every data set with every seed, and return the measures.

    Trainings whose measures are already in `<out>/image_pooling.json` are not repeated. Raises DataError if
    that file belongs to another schedule.
    """
    cifar, tiny = read_cifar(options.cifar), read_tiny_imagenet(options.tiny)
    record = options.out / "image_pooling.json"
    settings = json.loads(json.dumps(asdict(schedule)))
    done: dict[str, dict[str, float]] = {}
    if record.exists():
        written = read_json(record)
        if written["schedule"] != settings:
            raise DataError(f"{record} holds measures of another schedule: give --out another folder")
        done = written["measures"]
    jobs = [
        (name, seed, pooling)
        for name in options.sets
        for seed in range(schedule.seeds)
        for pooling in POOLINGS
    ]
    for name, seed, pooling in progress(jobs, total=len(jobs), label="poolings", unit="training"):
        key = f"{name}/{seed}/{pooling}"
        if key in done:
            continue
        generator = torch.Generator().manual_seed(seed)  # every pooling of a seed gets the same images
        training, test = tiny if name == "tiny" else cifar
        training = training.few(schedule.train[name], generator)
        test = test if schedule.test is None else test.few(schedule.test, generator)
        started = time.perf_counter()
        model = train(pooling, training, schedule.epochs[name], seed, options.device, schedule.cal_views)
        done[key] = measure(model, test, options.device).as_json()
        logger().info("  %s: %s (%.0f s)", key, done[key], time.perf_counter() - started)
        write_json(record, {"schedule": settings, "measures": done})
    return {
        name: {
            pooling: [done[f"{name}/{seed}/{pooling}"] for seed in range(schedule.seeds)]
            for pooling in POOLINGS
        }
        for name in options.sets
    }


def table(found: Mapping[str, Mapping[str, list[dict[str, float]]]]) -> str:
    """Return a Markdown table: a row per pooling, mean over seeds with its interval."""
    columns = [(name, "accuracy") for name in found]
    if "tiny" in found:
        columns.append(("tiny", "top position"))
    rows = [
        [pooling, *(interval([row[key] for row in found[name][pooling]]) for name, key in columns)]
        for pooling in POOLINGS
    ]
    return markdown_table(["pooling", *(f"{name}: {key}" for name, key in columns)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--tiny", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(FULL.epochs), default=list(FULL.epochs))
    parser.add_argument("--schedule", choices=["full", "short"], default="short")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/image_pooling"), help="folder of measures and table"
    )
    options = parser.parse_args()
    setup_console()
    started = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        found = study(options, FULL if options.schedule == "full" else SHORT)
    except WsiMilError as error:
        raise SystemExit(f"error: {error}") from None
    text = f"Schedule: {options.schedule}\n\n{table(found)}\n"
    if "tiny" in found:
        text += f"\nA position drawn blindly: {blind_position(read_tiny_imagenet(options.tiny)[1]):.3f}\n"
    write_text(options.out / "image_pooling.md", text)
    print(text)
    print(f"{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
