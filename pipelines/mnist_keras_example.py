"""The Keras example of attention-based MIL (M. Jaber, 2021), as it is and on bags that chose nothing.

Question: does the example's accuracy of 99 % hold on new bags, and what does the mean of several models add?

Data: MNIST's four idx files. Bags of three different images; the label says whether a 1 is among them. 1,000
training and 300 validation bags. As in the example: dense layers 128 and 64, gated attention of 256 without
biases, L2 of 0.01 on the attention, concatenated instances, Adam at 1e-3, one bag a step, class weights,
at most 20 epochs, ended after 10 without a lower validation loss. The example reports the bags that chose the
epoch; here 1,000 bags of MNIST's test file are scored as well. Pixels are standardised, where the example
divides them by 255.

    python pipelines/mnist_keras_example.py --data FOLDER_WITH_IDX_FILES

Seeds: 0 to 4 (--seeds gives their number), each with its own bags and --models models. Writes nothing, prints
the accuracies: of each model (mean) and of the mean of their probabilities.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from pipelines.mnist.digits import Digits
from pipelines.mnist.keras_example import ConcatenatedAttention, mean_probabilities
from pipelines.mnist_small_bags import small_bags
from wsi_mil.contracts.bags import Bag
from wsi_mil.io.tables import markdown_table
from wsi_mil.logs import setup_console
from wsi_mil.training import TrainSpec, fit

TEST_BAGS = 1000


def train(data: Sequence[Bag], watched: Sequence[Bag], epochs: int, seed: int) -> ConcatenatedAttention:
    """Return a model of the epoch with the lowest validation loss."""
    spec = TrainSpec(
        epochs=epochs,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0,
        clip_norm=0,
        bags_per_batch=1,
        class_weight="balanced",
        patience=10,
        select_by="val_loss",
        standardize=False,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ConcatenatedAttention(data[0].dim)
    fit(model, data, watched, spec)
    return model


def accuracy(models: Sequence[ConcatenatedAttention], bags: Sequence[Bag]) -> float:
    """Return the fraction of the bags whose class the mean of the models gives."""
    found = mean_probabilities(models, bags).argmax(1)
    return float((found == torch.tensor([bag.label for bag in bags])).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four idx files")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--models", type=int, default=5, help="models of each seed, whose mean is scored")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    setup_console()
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows: list[list[float]] = []
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        digits = Digits.load(arguments.data, "train")
        data, watched = small_bags(digits, 1000, rng), small_bags(digits, 300, rng)
        test = small_bags(Digits.load(arguments.data, "t10k"), TEST_BAGS, rng)
        models = [train(data, watched, arguments.epochs, 100 * seed + n) for n in range(arguments.models)]
        own = [[accuracy([model], bags) for model in models] for bags in (watched, test)]
        rows.append([fmean(own[0]), fmean(own[1]), accuracy(models, watched), accuracy(models, test)])
        print(f"seed {seed}: " + ", ".join(f"{value:.4f}" for value in rows[-1]), flush=True)
    columns = ["", "validation bags", "test bags", "mean of models, validation", "mean of models, test"]
    table = [[f"seed {seed}", *(f"{value:.4f}" for value in row)] for seed, row in enumerate(rows)]
    table.append(["mean", *(f"{value:.4f}" for value in np.mean(rows, axis=0))])
    print(markdown_table(columns, table))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
