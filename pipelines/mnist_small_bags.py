"""The small-bag example: three digits a bag, is a 1 among them? Gated attention, 1,000 training bags.

After the Keras example of attention-based MIL (M. Jaber, 2021), with a sum where that concatenates, so that the order of the
digits does not matter: with its dense layers (128, 64), and with LeNet's convolutions in front. The epoch is chosen on 300
validation bags; the 300 bags that are scored come from MNIST's test file.

    python pipelines/mnist_small_bags.py --data FOLDER_WITH_IDX_FILES
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from pipelines.mnist import Digits, bag_of
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.aggregators.front_end import ImageFrontEnd, LeNet
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.logs import setup_console
from wsi_mil.training import TrainSpec, fit

BAG_SIZE, DIGIT = 3, 1


def small_bags(digits: Digits, count: int, rng: np.random.Generator) -> list[Bag]:
    """Return bags of three different images; label 1 if one of them is a 1."""
    rows = [rng.choice(len(digits.digits), BAG_SIZE, replace=False) for _ in range(count)]
    return [bag_of(digits, chosen, (DIGIT,), f"bag_{number:04d}") for number, chosen in enumerate(rows)]


def build(front: str, seed: int) -> Aggregator:
    """Return gated attention on dense layers, or on LeNet's convolutions."""
    if front == "dense":
        params = {"hidden": [128, 64], "attention": 256, "dropout": 0.5}
        return build_aggregator("abmil_gated", LeNet.in_features, 2, seed, params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lenet = LeNet()
    params = {"hidden": [64], "attention": 256}
    return ImageFrontEnd(lenet, build_aggregator("abmil_gated", LeNet.out_features, 2, seed, params))


def accuracy(data: Path, front: str, seed: int, epochs: int) -> tuple[float, int]:
    """Return the accuracy on the test bags and the epoch that validation chose."""
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
    parser.add_argument("--seeds", type=int, default=5)
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
