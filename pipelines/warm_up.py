"""Max-pooling methods with and without a warm-up, on slides of which about 1 % is tumour.

Question: how often does a training learn, and does the validation loss tell when it did not?

Data: bags of real lung images in four laboratories (pipelines/lung/bags.py): 48 training, 24 validation and
60 test slides of 220 tiles, 1 to 3 of them tumour in tumour slides. Every draw has its own images,
laboratories and slides. 60 epochs, learning rate 3e-4; the epoch is chosen on validation slides.

    python pipelines/warm_up.py --data lung_he.zip --squeezenet WEIGHTS.npz --draws 401 402 403 404 405

Writes trainings.csv into --out, one row for each training, and continues where it was stopped. Prints the
tables.
"""

import argparse
from itertools import product
from pathlib import Path

import torch

from pipelines.lung.bags import BagForm, draw_cohort
from pipelines.lung.warm_up_tables import by_draw, flag_errors, summary
from wsi_mil.aggregators import build_aggregator
from wsi_mil.aggregators.instance_maximum import takes_maximum
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.io.tables import Row, markdown_row, read_csv, write_csv
from wsi_mil.logs import setup_console
from wsi_mil.training import Standardizer, TrainSpec, fit
from wsi_mil.training.learning import UNEXPLAINED

METHODS = ("focus_mil", "mi_net", "causal_mil")
WARM_UPS = ("none", "smooth_max")
BAGS_PER_BATCH = {"focus_mil": 3}
"""As published; one bag a step for others."""
IDENTITY = ("draw", "method", "warm_up", "seed")
MEASURED = ("val_loss", UNEXPLAINED, "val_auc", "slide_auc", "patch_auc")
COLUMNS = (*IDENTITY, "epoch", *MEASURED)


def train_and_measure(bags: dict[str, list[Bag]], method: str, warm_up: str, seed: int) -> dict[str, float]:
    """Return the kept epoch, its validation measures, and slide and pooled patch AUC of the test slides."""
    standardizer = Standardizer.fit(bags["train"])
    ready = {part: [standardizer(bag) for bag in members] for part, members in bags.items()}
    model = build_aggregator(method, bags["train"][0].dim, 1, seed)
    values = {
        "epochs": 60,
        "lr": 3e-4,
        "bags_per_batch": BAGS_PER_BATCH.get(method, 1),
        "warm_up": warm_up if takes_maximum(model) else "none",
        "seed": seed,
    }
    result = fit(model, ready["train"], ready["val"], TrainSpec.model_validate(values))
    packed = PackedBags.pack(ready["test"])
    with torch.inference_mode():
        output = model(packed)
    scores = output.instance_scores.numpy()
    if output.score_kind == "attention":  # ADR 22
        parts = torch.split(output.instance_scores, packed.lengths)
        probabilities = output.bag_logits[:, 0].sigmoid()
        scores = torch.cat([p / p.max() * q for p, q in zip(parts, probabilities, strict=True)]).numpy()
    assert packed.instance_labels is not None
    return {
        "epoch": result.epoch,
        **{key: result.metrics[key] for key in ("val_loss", UNEXPLAINED, "val_auc")},
        "slide_auc": auc(packed.labels.numpy() > 0, output.bag_logits[:, 0].double().numpy()),
        "patch_auc": auc(packed.instance_labels.numpy() > 0, scores),
    }


def make_trainings(arguments: argparse.Namespace) -> list[Row]:
    """Make the trainings that trainings.csv does not have; return the rows that were asked for."""
    path = arguments.out / "trainings.csv"
    done = {tuple(row[key] for key in IDENTITY): dict(row) for row in read_csv(path)} if path.exists() else {}
    asked: set[tuple[str, ...]] = set()
    for draw in arguments.draws:
        bags = None
        for method, warm_up, seed in product(arguments.methods, arguments.warm_ups, range(arguments.seeds)):
            key = (str(draw), method, warm_up, str(seed))
            if key not in done:
                bags = bags or draw_cohort(
                    arguments.data, arguments.squeezenet, arguments.out / "features", BagForm(), draw
                )
                found = train_and_measure(bags, method, warm_up, seed)
                done[key] = dict(zip(COLUMNS, (*key, *(f"{found[c]:.6g}" for c in COLUMNS[4:])), strict=True))
                write_csv(path, COLUMNS, list(done.values()))
                print(*key, *(f"{name} {found[name]:.3f}" for name in MEASURED), flush=True)
            asked.add(key)
    return [row for row in read_csv(path) if tuple(row[key] for key in IDENTITY) in asked]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="lung_he.zip")
    parser.add_argument("--squeezenet", type=Path, required=True, help="ImageNet weights of SqueezeNet 1.0")
    parser.add_argument("--draws", type=int, nargs="+", required=True, help="numbers of the cohorts")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each cell")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--warm-ups", nargs="+", default=list(WARM_UPS))
    parser.add_argument("--out", type=Path, default=Path("runs/warm_up"))
    arguments = parser.parse_args()
    setup_console()
    rows = make_trainings(arguments)
    for table in (summary(rows), by_draw(rows), flag_errors(rows)):
        print("\n" + "\n".join(map(markdown_row, table)))


if __name__ == "__main__":
    main()
