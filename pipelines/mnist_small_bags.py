"""Bags of three digits: is a 1 among them? Gated attention on 1,000 training bags.

Question: does attention-based MIL solve a small task, with and without convolutions?

Data: MNIST's four idx files. The task is that of the Keras example of attention-based MIL (M. Jaber, 2021),
with its dense layers (128, 64), and with LeNet's convolutions in front. The example concatenates the
instances of a bag; here they are summed, so their order does not matter. The epoch is chosen on 300
validation bags. The 300 test bags come from MNIST's test file.

    python pipelines/mnist_small_bags.py --data FOLDER_WITH_IDX_FILES

Seeds: 0 to 4 (--seeds gives their number). Writes nothing, prints the accuracies.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from pipelines.mnist.digits import Digits, bag_of
from pipelines.mnist.front_end import ImageFrontEnd, LeNet
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.logs import setup_console
from wsi_mil.training import TrainSpec, fit

BAG_SIZE, DIGIT = 3, 1


def small_bags(digits: Digits, count: int, rng: np.random.Generator) -> list[Bag]:
    """Return bags of three different images; the label is 1 if one of them is a 1."""
    rows = [rng.choice(len(digits.digits), BAG_SIZE, replace=False) for _ in range(count)]
    return [bag_of(digits, chosen, (DIGIT,), f"bag_{number:04d}") for number, chosen in enumerate(rows)]


def build(front: str, seed: int) -> Aggregator:
    """Return gated attention on dense layers (front "dense") or on LeNet's convolutions ("lenet")."""
    if front == "dense":
        params = {"hidden": [128, 64], "attention": 256, "dropout": 0.5}
        return build_aggregator("abmil_gated", LeNet.in_features, 2, seed, params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lenet = LeNet()
    params = {"hidden": [64], "attention": 256}
    return ImageFrontEnd(lenet, build_aggregator("abmil_gated", LeNet.out_features, 2, seed, params))


def accuracy(data: Path, front: str, seed: int, epochs: int) -> tuple[float, int]:
    """Train once; return the accuracy on the test bags and the epoch chosen on the validation bags."""
    rng = np.random.default_rng(seed)
    train_digits = Digits.load(data, "train")
    train, val = small_bags(train_digits, 1000, rng), small_bags(train_digits, 300, rng)
    test = small_bags(Digits.load(data, "t10k"), 300, rng)
    model = build(front, seed)
    spec = TrainSpec(
        epochs=epochs,
        lr=0.001,
        weight_decay=0.01,
        bags_per_batch=8,
        patience=5,
        select_by="val_loss",
        seed=seed,
    )
    result = fit(model, train, val, spec)
    with torch.inference_mode():
        found = model.probabilities(model(PackedBags.pack(test)).bag_logits).argmax(1)
    return float((found == torch.tensor([bag.label for bag in test])).double().mean()), result.epoch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's four idx files")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    setup_console()
    torch.set_num_threads(1)
    for front in ("dense", "lenet"):
        started, found = time.perf_counter(), []
        for seed in range(arguments.seeds):
            found.append(accuracy(arguments.data, front, seed, arguments.epochs))
            print(
                f"{front}, seed {seed}: accuracy {found[-1][0]:.4f} on 300 test bags, epoch {found[-1][1]}",
                flush=True,
            )
        mean = np.mean([value for value, _ in found])
        print(f"{front}: mean {mean:.4f} over {len(found)} seeds, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
