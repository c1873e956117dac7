"""The CRC study without a validation part: all of a fold's other patients train, the last epoch is kept.

Nothing is chosen on the scored fold here either, but nothing guards against over-fitting: this is the protocol of the
first trial that the study is compared with. Needs the features of a finished `pipelines/crc_cells.py`.

    python pipelines/crc_cells_no_validation.py runs/crc_cells/squeezenet1_0 --lr 0.0003 0.001
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from wsi_mil.aggregators import build_aggregator
from wsi_mil.bags import Split, load_bag, read_labels
from wsi_mil.config import load_config
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.evaluation import read_annotations, tile_overlap
from wsi_mil.evaluation.slide_metrics import auc
from wsi_mil.stages import RunFolder
from wsi_mil.training import Standardizer, TrainSpec, fit

BAGS_PER_BATCH = {"focus_mil": 3, "mi_net": 1, "abmil_gated": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="runs/crc_cells/<features>")
    parser.add_argument("--lr", type=float, nargs="+", default=[0.0003])
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    config, run = load_config(arguments.run), RunFolder(arguments.run)
    assert config.labels_path is not None
    assert config.annotations_folder is not None
    labels = read_labels(config.labels_path).rows
    bags, truth = {}, {}
    for slide_id, row in labels.items():
        bags[slide_id] = load_bag(run.store(slide_id).read_features(config.encoder.key), row.label or 0)
        lesions = read_annotations(config.annotations_folder / f"{slide_id}.geojson", slide_id)
        truth[slide_id] = tile_overlap(run.store(slide_id).read_tiles(), lesions) >= 0.5
    print("| method | lr | slide AUC | sd | patch AUC | sd |")
    for name, bags_per_batch in BAGS_PER_BATCH.items():
        for lr in arguments.lr:
            slide, patch = [], []
            for number, fold in enumerate(Split.load(run.split).folds):
                standardizer = Standardizer.fit([bags[s] for s in (*fold.train, *fold.val)])
                train = [standardizer(bags[s]) for s in (*fold.train, *fold.val)]
                test = [standardizer(bags[s]) for s in fold.test]
                spec = TrainSpec(
                    epochs=arguments.epochs, lr=lr, bags_per_batch=bags_per_batch, select_by="last", seed=1000 * number
                )
                model = build_aggregator(name, train[0].features.shape[1], 1, spec.seed, {})
                fit(model, train, train[:2], spec, label=f"{name} {lr} fold {number}")
                with torch.inference_mode():
                    outputs = [model(PackedBags.pack([bag])) for bag in test]
                scores = np.array([float(output.bag_logits[0, 0]) for output in outputs])
                slide.append(auc(np.array([bag.label == 1 for bag in test]), scores))
                tiles = [o.instance_scores.numpy() for o in outputs]
                if outputs[0].score_kind == "attention":
                    tiles = [values / values.max() for values in tiles]
                patch.append(auc(np.concatenate([truth[s] for s in fold.test]), np.concatenate(tiles)))
            figures = (np.mean(slide), np.std(slide, ddof=1), np.mean(patch), np.std(patch, ddof=1))
            print(f"| {name} | {lr:g} | " + " | ".join(f"{value:.3f}" for value in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
