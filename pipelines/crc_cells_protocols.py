"""Learning rates of three methods on the colon nuclei, under two protocols.

Question: which learning rate has the lowest validation loss, and what do the methods reach without a
validation part?

validation: train on a fold's training part and print the lowest validation loss. The test part is not used.
none: no validation part. All other patients of a fold train, and the last epoch is scored on the test part.
The first trial, with which the study is compared, was done this way.

Data: the run folder of a finished `pipelines/crc_cells.py`, with its features and its split.

    python pipelines/crc_cells_protocols.py runs/crc_cells/squeezenet1_0 validation --lr 0.0001 0.0003 0.001
    python pipelines/crc_cells_protocols.py runs/crc_cells/squeezenet1_0 none --lr 0.0003 0.001

Seeds: 1000 x fold. Writes nothing, prints a table.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_mil.aggregators import build_aggregator
from wsi_mil.bags import Fold, Split, load_bag, read_labels
from wsi_mil.config import load_config
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.score_kinds import score_kind
from wsi_mil.evaluation import read_annotations, tile_overlap
from wsi_mil.evaluation.metrics.auc import auc
from wsi_mil.run.folder import RunFolder
from wsi_mil.training import Standardizer, TrainSpec, fit

BAGS_PER_BATCH = {"focus_mil": 3, "mi_net": 1, "abmil_gated": 1}
Truth = Mapping[str, NDArray[np.bool_]]


def load(run_folder: Path) -> tuple[dict[str, Bag], Truth, Split]:
    """Return bags and patch labels by slide id, and the split of the study."""
    config, run = load_config(run_folder), RunFolder(run_folder)
    if config.labels_path is None or config.annotations is None:
        raise SystemExit(f"{run_folder} is no run of pipelines/crc_cells.py: it has no labels or annotations")
    bags, truth = {}, {}
    for slide_id, row in read_labels(config.labels_path).rows.items():
        bags[slide_id] = load_bag(run.store(slide_id).read_features(config.encoder.key), row.label or 0)
        lesions = read_annotations(config.annotations.path / f"{slide_id}.geojson", slide_id)
        truth[slide_id] = tile_overlap(run.store(slide_id).read_tiles(), lesions) >= 0.5
    return bags, truth, Split.load(run.split)


def by_validation(name: str, spec: TrainSpec, fold: Fold, bags: Mapping[str, Bag]) -> list[float]:
    """Train on the training part; return the lowest validation loss and the highest validation AUC."""
    standardizer = Standardizer.fit([bags[s] for s in fold.train])
    train, val = ([standardizer(bags[s]) for s in part] for part in (fold.train, fold.val))
    model = build_aggregator(name, train[0].features.shape[1], 1, spec.seed, {})
    history = fit(model, train, val, spec, label=f"{name} {spec.lr}").history
    return [min(row["val_loss"] for row in history), max(row["val_auc"] for row in history)]


def without_validation(
    name: str, spec: TrainSpec, fold: Fold, bags: Mapping[str, Bag], truth: Truth
) -> list[float]:
    """Train on training and validation part; return slide and patch AUC of the test part."""
    members = [*fold.train, *fold.val]
    standardizer = Standardizer.fit([bags[s] for s in members])
    train, test = ([standardizer(bags[s]) for s in part] for part in (members, fold.test))
    model = build_aggregator(name, train[0].features.shape[1], 1, spec.seed, {})
    fit(model, train, train[:2], spec.model_copy(update={"select_by": "last"}), label=f"{name} {spec.lr}")
    with torch.inference_mode():
        outputs = [model(PackedBags.pack([bag])) for bag in test]
    scores = np.array([float(output.bag_logits[0, 0]) for output in outputs])
    kind = score_kind(outputs[0].score_kind)
    tiles = [
        kind.comparable(output.instance_scores.numpy(), float(output.bag_logits[0, 0].sigmoid()))
        for output in outputs
    ]
    labels = np.array([bag.label == 1 for bag in test])
    return [auc(labels, scores), auc(np.concatenate([truth[s] for s in fold.test]), np.concatenate(tiles))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="runs/crc_cells/<features>")
    parser.add_argument("protocol", choices=["validation", "none"])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.0003])
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    bags, truth, split = load(arguments.run)
    columns = ("val loss", "val AUC") if arguments.protocol == "validation" else ("slide AUC", "patch AUC")
    print(f"| method | lr | {columns[0]} | sd | {columns[1]} | sd |\n|---|---|---|---|---|---|")
    for name, bags_per_batch in BAGS_PER_BATCH.items():
        for lr in arguments.lr:
            found = []
            for number, fold in enumerate(split.folds):
                spec = TrainSpec(
                    epochs=arguments.epochs,
                    lr=lr,
                    bags_per_batch=bags_per_batch,
                    seed=1000 * number,
                    warm_up="none",
                )
                if arguments.protocol == "validation":
                    found.append(by_validation(name, spec, fold, bags))
                else:
                    found.append(without_validation(name, spec, fold, bags, truth))
            mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
            cells = [f"{value:.3f}" for pair in zip(mean, spread, strict=True) for value in pair]
            print(f"| {name} | {lr:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
