"""MNIST-bags and classic benchmarks: how bags are drawn, what is counted, and short runs of each study."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipelines import classic_mil, mnist_bags, mnist_small_bags
from pipelines.classic import protocols
from pipelines.mnist.digits import Digits, draw_bags, read_idx
from pipelines.mnist.trainings import THRESHOLDS, run, score
from wsi_mil.aggregators import Aggregator
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.contracts.outputs import AggregatorOutput
from wsi_mil.errors import DataError
from wsi_mil.tasks import TaskLoss
from wsi_mil.training import TrainSpec

ROOT = Path(__file__).parents[2]
BRIGHT = 1.34  # mean of a normalised picture: between that of an 8 and of a 9


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings in MNIST's format: the digit is the number of bright rows."""
    folder = tmp_path_factory.mktemp("idx")
    rng = np.random.default_rng(0)
    for part, count in (("train", 600), ("t10k", 300)):
        digits = rng.integers(0, 10, count)
        images = rng.integers(0, 60, (count, 28, 28))
        for image, digit in zip(images, digits, strict=True):
            image[: 2 * digit] += 180
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", digits)
    return folder


def test_idx_files(idx_folder: Path, tmp_path: Path) -> None:
    digits = Digits.load(idx_folder, "train")
    assert digits.images.shape == (600, 28, 28)
    assert (digits.images[digits.digits == 3][:, :6].min() >= 180).all()
    with pytest.raises(DataError, match="four idx files"):
        Digits.load(tmp_path, "train")
    whole = gzip.decompress((idx_folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole[:-5]))
    with pytest.raises(DataError, match="cut short"):
        read_idx(tmp_path / "cut.gz")


def test_bags_of_digits_say_what_is_in_them(idx_folder: Path) -> None:
    digits = Digits.load(idx_folder, "train")
    rng = np.random.default_rng(1)
    in_turn = draw_bags(digits, 200, 2, rng, in_turn=True)
    assert [bag.label for bag in in_turn] == [i % 2 for i in range(200)]
    two = draw_bags(digits, 400, 2, rng)
    assert np.mean([bag.label for bag in two]) == pytest.approx(1 - 0.9**9.5, abs=0.08)  # 63 of 100
    assert 9 < np.mean([len(bag) for bag in two]) < 10.5
    for bag in two:
        assert bag.instance_labels is not None
        assert bool(bag.instance_labels.any()) == bool(bag.label)
    four = draw_bags(digits, 200, 4, rng)
    assert {bag.label for bag in four} == {0, 1, 2, 3}
    small = mnist_small_bags.small_bags(digits, 50, rng)
    assert {len(bag) for bag in small} == {3}


class Oracle(Aggregator):
    """Sees the digit 9, the brightest picture, and is sure of it."""

    def forward(self, bags: PackedBags) -> AggregatorOutput:
        bright = (bags.features.mean(1) > BRIGHT).float()
        logits = torch.stack([part.amax() for part in bright.split(bags.lengths)])[:, None] * 20 - 10
        return AggregatorOutput(bags, logits, bright * 20 - 10, "logit")

    def loss(
        self, output: AggregatorOutput, targets: torch.Tensor, task_loss: TaskLoss
    ) -> dict[str, torch.Tensor]:
        return {"bag": task_loss(output.bag_logits, targets)}


def test_instances_are_counted_in_positive_bags(idx_folder: Path) -> None:
    test = draw_bags(Digits.load(idx_folder, "t10k"), 60, 2, np.random.default_rng(0))
    means = torch.cat([bag.features.mean(1) for bag in test])
    nine = torch.cat([bag.instance_labels for bag in test if bag.instance_labels is not None]) == 1
    assert means[nine].min() > BRIGHT > means[~nine].max()
    found = score(Oracle(784, 1), test)
    assert (found.auc, found.accuracy) == (1, 1)
    assert found.precision == found.recall == (1,) * len(THRESHOLDS)
    assert found.cells()["recall_0.5"] == 1


def test_mnist_bags_runs(idx_folder: Path) -> None:
    settings = yaml.safe_load((ROOT / "configs/mnist_bags.yaml").read_text())
    settings |= {"repeats": 1, "test_bags": 20, "lambdas": [0, 10]}
    settings["binary"] = {"epochs_of_training_bags": {6: 2}, "ablation": 6}
    settings["multi_class"] = {"epochs_of_training_bags": {8: 1}}
    settings["best_epoch"] = {"methods": ["mean_pool"], "test_bags": 20}
    rows = [row for job in mnist_bags.plan(settings, idx_folder) for row in run(job)]
    assert len(rows) == 2 * len(settings["methods"]) + 2
    assert {row["method"] for row in rows} == set(settings["methods"])
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    assert run(mnist_bags.plan(settings, idx_folder)[0])[0]["auc"] == rows[0]["auc"]
    watched = [row for row in rows if "auc_best_epoch" in row]
    assert [(row["method"], row["classes"]) for row in watched] == [("mean_pool", 2)]
    assert watched[0]["auc_watched"] == pytest.approx(watched[0]["auc"])  # the same bags, the last epoch
    assert watched[0]["auc_best_epoch"] >= watched[0]["auc_watched"]


def test_classic_protocols_differ_in_what_chooses_the_epoch(data_folder: Path) -> None:
    """The test fold's own best epoch cannot be below any other epoch of the same training."""
    spec = TrainSpec(epochs=6, lr=0.001, bags_per_batch=16, select_by="val_loss", params={"hidden": [16]})
    job = protocols.Job(data_folder / "mil_classic", "musk1", "abmil", "abmil", spec, 1, 5)
    rows = protocols.run(job)
    by = {p: [r.accuracy for r in rows if r.protocol == p] for p in ("published", "honest")}
    assert len(by["published"]) == len(by["honest"]) == 5
    assert np.mean(by["published"]) > np.mean(by["honest"])
    lines = classic_mil.table(rows, ["musk1"], ["abmil"])
    assert lines[1][1] == "0.892 ± 0.090"
    assert lines[1][2].startswith(f"{np.mean(by['published']):.3f}")


def test_small_bags_are_learnt(idx_folder: Path) -> None:
    value, _ = mnist_small_bags.accuracy(idx_folder, "dense", seed=0, epochs=2)
    assert value > 0.9
