"""Max-pooling methods with and without a warm-up, and others, on slides of which about 1 % is tumour.

Question: how often does a training learn, and does the validation loss tell when it did not?

Data: bags of real lung images in four laboratories (pipelines/lung/bags.py): 48 training, 24 validation and
60 test slides of 220 tiles, 1 to 3 of them tumour in tumour slides. Every draw has its own images,
laboratories and slides. Or, with --ucsb, the 58 bags of the UCSB breast set, or, with --crc, the texture
features of the colon nuclei, one bag for each of 98 patients: a draw is then a random division, half
training, a fifth validation, the rest test. 60 epochs; the epoch is chosen on validation slides.

    python pipelines/warm_up.py --data lung_he.zip --squeezenet WEIGHTS.npz --draws 401 402 403 404 405
    python pipelines/warm_up.py --ucsb ucsb_breast.npz --draws 401 402 403 404 405
    python pipelines/warm_up.py --crc crchisto27.npz --draws 401 402 403 404 405

Writes trainings.csv into --out, one row for each training, and continues where it was stopped. Prints the
tables.
"""

import argparse
import math
from itertools import product
from pathlib import Path

import numpy as np

from pipelines.classic.bags import divide, read_classic
from pipelines.crc.bags import patient_bags
from pipelines.lung.bags import BagForm, draw_cohort
from pipelines.lung.warm_up_tables import by_draw, flag_errors, summary
from wsi_mil.aggregators import build_aggregator, outputs_for
from wsi_mil.aggregators.instance_maximum import takes_maximum
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.evaluation.metrics.average_precision import average_precision
from wsi_mil.io.tables import Row, markdown_row, read_csv, write_csv
from wsi_mil.logs import setup_console
from wsi_mil.scoring.scores import score_bag
from wsi_mil.training import Standardizer, TrainSpec, fit
from wsi_mil.training.learning import LIMIT, UNEXPLAINED

METHODS = ("focus_mil", "mi_net", "causal_mil")
WARM_UPS = ("none", "smooth_max")
BAGS_PER_BATCH = {"focus_mil": 3}
"""As published; one bag a step for others."""
IDENTITY = ("draw", "method", "warm_up", "lr", "seed")
MEASURED = ("val_loss", UNEXPLAINED, LIMIT, "val_auc", "slide_auc", "patch_auc")
COLUMNS = (*IDENTITY, "epoch", *MEASURED)


def train_and_measure(
    bags: dict[str, list[Bag]], method: str, warm_up: str, lr: float, seed: int, epochs: int = 60
) -> dict[str, float]:
    """Return the kept epoch, its validation measures, and slide AUC, pooled patch AUC and pooled patch AUPRC
    of the test slides; NaN where tiles have no labels."""
    standardizer = Standardizer.fit(bags["train"])
    ready = {part: [standardizer(bag) for bag in members] for part, members in bags.items()}
    model = build_aggregator(method, bags["train"][0].dim, outputs_for(method, classes=2), seed)
    values = {
        "epochs": epochs,
        "lr": lr,
        "bags_per_batch": BAGS_PER_BATCH.get(method, 1),
        "warm_up": warm_up if takes_maximum(model) else "none",
        "seed": seed,
    }
    result = fit(model, ready["train"], ready["val"], TrainSpec.model_validate(values))
    positive = PackedBags.pack(ready["test"]).labels.numpy() > 0
    slides, tiles, truth = [], [], []
    for bag in ready["test"]:
        probabilities, scores, kind = score_bag(model, bag)
        slides.append(float(probabilities[1]))
        if kind == "attention":  # ADR 22
            scores = scores / scores.max() * slides[-1]
        if bag.instance_labels is not None:
            tiles.append(scores.double().numpy())
            truth.append(bag.instance_labels.numpy() > 0)
    patches = (np.concatenate(truth), np.concatenate(tiles)) if tiles else None
    return {
        "epoch": result.epoch,
        **{key: result.metrics[key] for key in ("val_loss", UNEXPLAINED, LIMIT, "val_auc")},
        "slide_auc": auc(positive, np.array(slides)),
        "patch_auc": auc(*patches) if patches else math.nan,
        "patch_auprc": average_precision(*patches) if patches else math.nan,
    }


def cohort(arguments: argparse.Namespace, draw: int) -> dict[str, list[Bag]]:
    """Return the bags of each part of a draw."""
    if arguments.crc:
        bags = patient_bags(arguments.crc, arguments.out / "features" / "colon_nuclei.npz")
        return divide(bags, (0.5, 0.2), draw)
    if arguments.ucsb:
        return divide(read_classic(arguments.ucsb), (0.5, 0.2), draw)
    return draw_cohort(arguments.data, arguments.squeezenet, arguments.out / "features", BagForm(), draw)


def make_trainings(arguments: argparse.Namespace) -> list[Row]:
    """Make the trainings that trainings.csv does not have; return the rows that were asked for."""
    path = arguments.out / "trainings.csv"
    done = {tuple(row[key] for key in IDENTITY): dict(row) for row in read_csv(path)} if path.exists() else {}
    asked: set[tuple[str, ...]] = set()
    for draw in arguments.draws:
        bags = None
        for method, warm_up, lr, seed in product(
            arguments.methods, arguments.warm_ups, arguments.lr, range(arguments.seeds)
        ):
            key = (str(draw), method, warm_up, f"{lr:g}", str(seed))
            if key not in done:
                bags = bags or cohort(arguments, draw)
                found = train_and_measure(bags, method, warm_up, lr, seed)
                numbers = (f"{found[name]:.6g}" for name in COLUMNS[len(IDENTITY) :])
                done[key] = dict(zip(COLUMNS, (*key, *numbers), strict=True))
                write_csv(path, COLUMNS, list(done.values()))
                print(*key, *(f"{name} {found[name]:.3f}" for name in MEASURED), flush=True)
            asked.add(key)
    return [row for row in read_csv(path) if tuple(row[key] for key in IDENTITY) in asked]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="lung_he.zip")
    parser.add_argument("--squeezenet", type=Path, help="ImageNet weights of SqueezeNet 1.0")
    parser.add_argument("--ucsb", type=Path, help="ucsb_breast.npz, in place of the lung images")
    parser.add_argument("--crc", type=Path, help="crchisto27.npz, in place of the lung images")
    parser.add_argument("--draws", type=int, nargs="+", required=True, help="numbers of the cohorts")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each cell")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--warm-ups", nargs="+", default=list(WARM_UPS))
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4], help="learning rates")
    parser.add_argument("--out", type=Path, default=Path("runs/warm_up"))
    arguments = parser.parse_args()
    if not (arguments.ucsb or arguments.crc) and not (arguments.data and arguments.squeezenet):
        parser.error("give --data and --squeezenet, or --ucsb, or --crc")
    setup_console()
    rows = make_trainings(arguments)
    for table in (summary(rows), by_draw(rows), flag_errors(rows)):
        print("\n" + "\n".join(map(markdown_row, table)))


if __name__ == "__main__":
    main()
