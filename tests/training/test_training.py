"""The loop: exact resume, choice on validation only, schedules against torch's own, the same numbers from a
seed."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.aggregators.methods.mean_pool import MeanPool
from wsi_mil.bags import StoredBag, read_bag
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.errors import DataError, ModelError
from wsi_mil.features import FeatureOrigin, SlideStore
from wsi_mil.slides import ArrayReader
from wsi_mil.tasks.classes import macro_auc
from wsi_mil.testing.aggregators import detection_loss
from wsi_mil.tiles import tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue
from wsi_mil.training import Standardizer, TrainSpec, fit
from wsi_mil.training.checkpoint import Checkpoint


def bags(count: int, seed: int, signal: float = 3.0) -> list[Bag]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i in range(count):
        x = torch.randn(10 + i % 7, 6, generator=generator)
        x[0, 0] += signal * (i % 2)
        found.append(Bag(f"s{seed}_{i}", x, i % 2, f"p{i}"))
    return found


TRAIN, VAL = bags(16, 1), bags(8, 2)


def model(name: str = "focus_mil", seed: int = 0) -> Aggregator:
    return build_aggregator(name, 6, 1, seed, {})


@pytest.mark.parametrize(
    "schedule",
    [pytest.param("none", marks=pytest.mark.slow), pytest.param("cosine", marks=pytest.mark.slow), "plateau"],
)
def test_resume_gives_the_very_numbers(tmp_path: Path, schedule: str) -> None:
    spec = TrainSpec(epochs=14, lr=0.003, schedule=schedule, checkpoint_every=3, seed=5)  # type: ignore[arg-type]
    whole = fit(reference := model(), TRAIN, VAL, spec, folder=tmp_path / "whole", identity="x")
    for stop in (4, 9):
        fit(model(), TRAIN, VAL, spec, folder=tmp_path / "parts", identity="x", stop_after=stop)
    torch.manual_seed(12345)  # what the process did in between does not matter
    resumed = fit(again := model(), TRAIN, VAL, spec, folder=tmp_path / "parts", identity="x")
    assert resumed.history == whole.history
    assert resumed.epoch == whole.epoch
    for name, value in reference.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (
        tmp_path / "parts" / "metrics.csv"
    ).read_bytes()


def test_layers_of_torch_draw_from_the_seed_of_the_training(tmp_path: Path) -> None:
    """nn.Dropout of an outside aggregator draws from torch's own generator, whose state differs between
    processes."""

    def trained(state_of_the_process: int, folder: str) -> dict[str, torch.Tensor]:
        net = build_aggregator("mean_pool", 6, 1, 0, {})
        assert isinstance(net, MeanPool)
        net.embed.append(torch.nn.Dropout(0.5))
        torch.manual_seed(state_of_the_process)
        before = torch.get_rng_state()
        fit(net, TRAIN, VAL, TrainSpec(epochs=3, seed=5), folder=tmp_path / folder)
        assert torch.equal(torch.get_rng_state(), before), "the state of the process is not touched"
        return net.state_dict()

    first, second = trained(1, "first"), trained(2, "second")
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    one, other = (Checkpoint.load(tmp_path / name / "checkpoint.safetensors") for name in ("first", "second"))
    assert one.values == other.values
    for group, tensors in one.tensors.items():
        for name, value in tensors.items():
            assert torch.equal(value, other.tensors[group][name]), (group, name)


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    spec = TrainSpec(epochs=4)
    fit(model(), TRAIN, VAL, spec, folder=tmp_path, identity="one")
    fresh = fit(model(), TRAIN, VAL, spec, identity="two")
    assert fit(model(), TRAIN, VAL, spec, folder=tmp_path, identity="two").history == fresh.history


def test_the_epoch_is_chosen_on_validation_and_its_weights_are_kept(tmp_path: Path) -> None:
    """Validation labels are turned round: the better the training, the worse; an early epoch must be kept."""
    against = [Bag(b.slide_id, b.features, 1 - b.label) for b in VAL]
    spec = TrainSpec(epochs=30, lr=0.01, select_by="val_loss", patience=5, warm_up="none")
    result = fit(trained := model("mi_net"), TRAIN, against, spec, folder=tmp_path)
    losses = [row["val_loss"] for row in result.history]
    assert result.epoch == 1 + losses.index(min(losses))
    assert len(result.history) == result.epoch + 5 < 30
    with torch.inference_mode():
        again = [
            float(trained.loss(trained(p := PackedBags.pack([b])), p.labels, detection_loss(trained))["bag"])
            for b in against
        ]
    assert sum(again) / len(again) == pytest.approx(min(losses), rel=1e-6)


def test_training_does_not_see_validation() -> None:
    spec = TrainSpec(epochs=5)
    one = fit(model(), TRAIN, VAL, spec).history
    two = fit(model(), TRAIN, bags(8, 77, signal=-9), spec).history
    assert [row["train_loss"] for row in one] == [row["train_loss"] for row in two]


@pytest.mark.slow
def test_it_learns_and_shuffled_labels_teach_nothing() -> None:
    spec = TrainSpec(epochs=40, lr=0.0005)
    train, val, test = bags(40, 11, signal=6), bags(16, 12, signal=6), bags(200, 9, signal=6)
    aucs = []
    for labels in ([b.label for b in train], [0, 0, 1, 1] * 10):
        told = [Bag(b.slide_id, b.features, y) for b, y in zip(train, labels, strict=True)]
        fit(trained := model("mi_net"), told, val, spec.model_copy(update={"select_by": "last"}))
        with torch.inference_mode():
            logits = trained(PackedBags.pack(test)).bag_logits
        aucs.append(macro_auc(trained.probabilities(logits), [b.label for b in test]))
    assert aucs[0] > 0.95
    assert aucs[1] < 0.8


@pytest.mark.slow
def test_cosine_and_plateau_follow_torch() -> None:
    spec = TrainSpec(epochs=8, lr=0.01, schedule="cosine")
    found = [row["lr"] for row in fit(model(), TRAIN, VAL, spec).history]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx(expected)

    history = fit(model("mi_net"), TRAIN, VAL, TrainSpec(epochs=60, lr=0.3, schedule="plateau")).history
    optimizer = torch.optim.AdamW([parameter], lr=0.3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=10)
    expected = []
    for row in history:
        expected.append(optimizer.param_groups[0]["lr"])
        plateau.step(row["train_loss"])
    assert [row["lr"] for row in history] == pytest.approx(expected)
    assert history[-1]["lr"] < 0.3, "the case never reaches a plateau: it shows nothing"


def test_the_gradient_is_clipped() -> None:
    spec = TrainSpec(epochs=1, clip_norm=1e-12, weight_decay=0, lr=0.1)
    before = {k: v.clone() for k, v in model("mi_net").state_dict().items()}
    fit(trained := model("mi_net"), TRAIN, VAL, spec)
    # AdamW divides by the gradient's size; only its epsilon (1e-8) lets a clipped gradient show
    assert max(float((trained.state_dict()[k] - v).abs().max()) for k, v in before.items()) < 1e-3


def test_files_of_a_training(tmp_path: Path) -> None:
    fit(model(), TRAIN, VAL, TrainSpec(epochs=3), folder=tmp_path)
    with (tmp_path / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert set(rows[0]) == {
        "epoch",
        "train_loss",
        "train_bag",
        "train_kl",
        "val_loss",
        "val_unexplained",
        "val_unexplained_limit",
        "val_auc",
        "val_accuracy",
        "lr",
    }
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [round(e.value, 5) for e in events.Scalars("val_loss")] == [
        round(float(r["val_loss"]), 5) for r in rows
    ]


def test_checkpoints_are_never_unpickled(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(ModelError, match="no readable checkpoint"):
        Checkpoint.load(path)


def test_a_loss_that_is_not_finite_names_the_slides() -> None:
    broken = [Bag("slide_x", torch.full((3, 6), float("inf")), 0), *TRAIN]
    with pytest.raises(DataError, match=r"slide_x"):
        fit(model(), broken, VAL, TrainSpec(epochs=1, bags_per_batch=20))


def test_standardizer_equals_numpy() -> None:
    standardizer = Standardizer.fit(TRAIN)
    stacked = torch.cat([b.features for b in TRAIN]).double()
    torch.testing.assert_close(standardizer.mean, stacked.mean(0).float())
    torch.testing.assert_close(standardizer.std, stacked.std(0, correction=0).float())
    assert torch.cat([standardizer(b).features for b in TRAIN]).mean().abs() < 1e-6


def test_auc_of_several_classes() -> None:
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    p = torch.rand(40, 3, generator=generator).softmax(1)
    labels = [i % 3 for i in range(40)]
    assert macro_auc(p, labels) == pytest.approx(roc_auc_score(labels, p.numpy(), multi_class="ovr"))
    assert math.isnan(macro_auc(p[:, :2], [1] * 40))


def test_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="0 and 8"):
        fit(model(), [], VAL, TrainSpec())


@pytest.mark.gpu
def test_mixed_precision_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu = fit(model(), TRAIN, VAL, TrainSpec(epochs=5)).history
    gpu = fit(model(), TRAIN, VAL, TrainSpec(epochs=5), device="cuda").history
    assert gpu[-1]["train_loss"] == pytest.approx(cpu[-1]["train_loss"], rel=0.05)


def test_a_bag_shows_each_of_its_views(tmp_path: Path) -> None:
    """Drawn by the training's own generator: all are met, none by the bag without views, and sizes that
    differ are refused."""
    store = SlideStore(tmp_path / "s.zarr", "s")
    reader = ArrayReader(np.full((64, 96, 3), 90, np.uint8), mpp=1.0, slide_id="s")
    table = tile_slide(
        reader.info, find_tissue(reader, TissueSpec(method="whole")), TileSpec(mpp=1.0, size_px=32)
    )
    store.write_tiles(table, reader.info, "x")
    for key, value in (("plain", 0), ("one", 1), ("two", 2)):
        with store.write_features(key, 3, FeatureOrigin({"name": key}, "x")) as writer:
            writer.append(np.full((6, 3), value, np.float16), np.ones(6, bool))
    plain, one, two = (store.map_features(key) for key in ("plain", "one", "two"))
    bag = StoredBag("s", plain, 1, views=(one, two))
    generator = torch.Generator().manual_seed(0)
    drawn = [float(read_bag(bag.drawn(generator)).features[0, 0]) for _ in range(60)]
    assert all(drawn.count(value) > 8 for value in (0, 1, 2))
    alone = StoredBag("s", plain, 1)
    assert alone.drawn(generator) is alone
    with store.write_features("wide", 4, FeatureOrigin({"name": "wide"}, "x")) as writer:
        writer.append(np.zeros((6, 4), np.float16), np.ones(6, bool))
    with pytest.raises(DataError, match="a view holds 6 x 4 features, the plain ones are 6 x 3"):
        StoredBag("s", plain, 1, views=(store.map_features("wide"),))


def test_checkpoints_are_equal_whatever_torch_drew_before(tmp_path: Path) -> None:
    spec = TrainSpec(epochs=2, lr=0.003, seed=5)
    for name, seed in (("first", 1), ("second", 2)):
        torch.manual_seed(seed)
        torch.rand(seed)
        fit(model("transmil"), bags(4, 1), bags(4, 2), spec, folder=tmp_path / name, identity="x")
    one, other = ((tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("first", "second"))
    assert one == other


def test_every_flipped_byte_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    fit(model("mi_net"), bags(4, 1), bags(4, 2), TrainSpec(epochs=1, seed=5), folder=tmp_path, identity="x")
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 97, 1)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ModelError, match=r"checkpoint\.safetensors is .*remove it to start"):
            Checkpoint.load(path)
