"""Two passes equal one: gradients, losses, scores; from disk as from memory; memory that does not grow with
the bag."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from wsi_mil.aggregators import build_aggregator
from wsi_mil.aggregators.max_pooling import NOISE_ROWS, MaxPooling
from wsi_mil.bags import BagSource, StoredBag, read_bag
from wsi_mil.contracts.bags import Bag, PackedBags
from wsi_mil.errors import ConfigError, StoreError
from wsi_mil.features.mapped import MappedFeatures
from wsi_mil.features.writing import FeatureWriter
from wsi_mil.testing.aggregators import detection_loss
from wsi_mil.training import Standardizer, TrainSpec, fit
from wsi_mil.training.loading import Buffer, chunks_of, overlapped, packed_batches
from wsi_mil.training.two_pass import backward_in_two_passes, score_in_chunks

DIM = 20
METHODS: list[tuple[str, dict[str, Any], int]] = [
    ("mi_net", {"hidden": (16, 8)}, 1),
    ("mi_net", {"hidden": (16,)}, 3),
    ("max_pool", {"hidden": (16,)}, 1),
    ("focus_mil", {"kl_over": "selected"}, 1),
    ("focus_mil", {"kl_over": "all"}, 1),
    ("focus_mil", {"kl_over": "all"}, 3),
]


def random_bags(lengths: tuple[int, ...] = (700, 1, 9000)) -> list[Bag]:
    generator = torch.Generator().manual_seed(0)
    return [Bag(f"s{i}", torch.randn(n, DIM, generator=generator), i % 2) for i, n in enumerate(lengths)]


def max_pooling(name: str, params: dict[str, Any], outputs: int) -> MaxPooling:
    model = build_aggregator(name, DIM, outputs, 0, params)
    assert isinstance(model, MaxPooling)
    model.generator = torch.Generator().manual_seed(3)
    return model


def gradients(model: MaxPooling) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "params", "outputs"), METHODS)
@pytest.mark.parametrize("chunk_rows", [64, NOISE_ROWS, 100_000])
def test_two_passes_give_the_gradients_of_one(
    name: str, params: dict[str, Any], outputs: int, chunk_rows: int
) -> None:
    bags = random_bags()
    one, two = max_pooling(name, params, outputs), max_pooling(name, params, outputs)
    packed = PackedBags.pack(bags)
    terms = one.loss(one(packed), packed.labels, detection_loss(one))
    torch.stack(list(terms.values())).sum().backward()
    found = backward_in_two_passes(two, bags, detection_loss(two), chunk_rows=chunk_rows)
    assert found.keys() == terms.keys()
    for key, term in terms.items():
        torch.testing.assert_close(found[key], term.detach(), rtol=1e-5, atol=1e-6)
    expected, got = gradients(one), gradients(two)
    assert expected.keys() == got.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=1e-4, atol=1e-5)


def test_noise_is_that_of_a_single_pass_and_not_none() -> None:
    """Without the same noise FocusMIL's deciding instances would be others."""
    bags = random_bags((9000,))
    one, two = (max_pooling("focus_mil", {"kl_over": "selected", "latent": 3}, 1) for _ in range(2))
    backward_in_two_passes(two, bags, detection_loss(two), chunk_rows=64)
    with torch.no_grad():
        for parameter in (one.logvar.bias, two.logvar.bias):  # type: ignore[union-attr]
            parameter.add_(3.0)  # type: ignore[operator]
    packed = PackedBags.pack(bags)
    one.generator = torch.Generator().manual_seed(3)
    two.generator = torch.Generator().manual_seed(4)
    first, second = one(packed).extras["top"], two(packed).extras["top"]
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("name", "params", "outputs"), METHODS)
def test_scores_in_chunks_are_the_scores(name: str, params: dict[str, Any], outputs: int) -> None:
    model = max_pooling(name, params, outputs).eval()
    for bag in random_bags():
        whole = model(PackedBags.pack([bag]))
        reduced, scores = score_in_chunks(model, bag, chunk_rows=50)
        torch.testing.assert_close(scores, whole.instance_scores)
        torch.testing.assert_close(model(reduced).bag_logits, whole.bag_logits)


@pytest.mark.parametrize("two_pass", ["always", "never"])
@pytest.mark.parametrize("kl_over", ["all", "selected"])
def test_training_in_two_passes_is_training(two_pass: str, kl_over: str) -> None:
    """The histories of both modes agree to rounding."""
    bags = random_bags((300, 40, 500, 20))
    values = {"epochs": 3, "bags_per_batch": 2, "lr": 1e-3, "two_pass": two_pass, "chunk_rows": 128}
    spec = TrainSpec.model_validate(values)
    reference = TrainSpec(epochs=3, bags_per_batch=2, lr=1e-3, two_pass="never")
    params = {"kl_over": kl_over}
    found = fit(build_aggregator("focus_mil", DIM, 1, 0, params), bags, bags[:2], spec).history
    expected = fit(build_aggregator("focus_mil", DIM, 1, 0, params), bags, bags[:2], reference).history
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)


def test_two_passes_are_refused_where_attention_reaches_every_instance() -> None:
    with pytest.raises(ConfigError, match=r"two_pass=always: ABMIL is no max-pooling"):
        fit(
            build_aggregator("abmil", DIM, 1, 0, {}),
            random_bags((3, 4)),
            random_bags((3, 4)),
            TrainSpec(two_pass="always"),
        )


def test_memory_of_a_step_does_not_grow_with_the_bag() -> None:
    """The tensors that a step allocates at most, for one bag and one of ten times its size, by torch's own
    count."""

    class Counted(torch.utils._python_dispatch.TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for value in result if isinstance(result, tuple | list) else [result]:
                if isinstance(value, torch.Tensor):
                    self.largest = max(self.largest, value.numel())
            return result

    class Endless(StoredBag):
        """Instances made when they are read: none of them lies in memory beforehand."""

        def __len__(self) -> int:
            return len(self.slide_id) * 20_000

        def __post_init__(self) -> None:
            pass

        @property
        def dim(self) -> int:
            return DIM

        def read_into(self, out: torch.Tensor, start: int = 0) -> None:
            out.copy_(torch.randn(out.shape, generator=torch.Generator().manual_seed(start)))

    largest = []
    for slide_id in ("a", "a" * 10):
        model = max_pooling("focus_mil", {}, 1)
        with Counted() as counted:
            backward_in_two_passes(
                model,
                [Endless(slide_id, None, 1)],  # type: ignore[list-item]
                detection_loss(model),
                chunk_rows=NOISE_ROWS,
            )
        largest.append(counted.largest)
    assert 0 < largest[0] == largest[1]


def write_features(
    folder: Path, rows: int, dim: int, unreadable: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    values = rng.standard_normal((rows, dim)).astype(np.float16)
    readable = ~np.isin(np.arange(rows), unreadable)
    writer = FeatureWriter(zarr.create_group(store=str(folder)), rows, dim)
    for start in range(0, rows, 1000):
        writer.append(values[start : start + 1000].astype(np.float32), readable[start : start + 1000])
    writer.finish()
    return np.where(readable[:, None], values, 0).astype(np.float16), readable


@pytest.mark.parametrize(
    ("rows", "unreadable"),
    [(1, ()), (700, ()), (2048, ()), (5000, (0, 17, 4999)), (40_000, ()), (40_000, (2048, 39_999))],
)
def test_mapped_features_are_the_stored_ones(tmp_path: Path, rows: int, unreadable: tuple[int, ...]) -> None:
    """Against Zarr's own reading, in and across chunks and shards, with and without omitted rows."""
    _, readable = write_features(tmp_path / "g", rows, 3, unreadable)
    stored = np.asarray(zarr.open_group(str(tmp_path / "g"), mode="r")["features"][:])[readable]
    mapped = MappedFeatures(tmp_path / "g" / "features", readable)
    assert (len(mapped), mapped.dim) == stored.shape
    np.testing.assert_array_equal(np.concatenate(list(mapped.blocks())), stored)
    rng = np.random.default_rng(1)
    for start, stop in np.sort(rng.integers(0, len(stored) + 1, (20, 2))).tolist():
        if start < stop:
            np.testing.assert_array_equal(
                np.concatenate(list(mapped.blocks(start, stop))), stored[start:stop]
            )


def test_a_shard_that_is_cut_short_is_told(tmp_path: Path) -> None:
    write_features(tmp_path / "g", 5000, 3)
    shard = tmp_path / "g" / "features" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(StoreError, match="make the features again"):
        MappedFeatures(tmp_path / "g" / "features", np.ones(5000, bool))


def stored_bag(folder: Path, rows: int, label: int) -> tuple[StoredBag, torch.Tensor]:
    values, readable = write_features(folder, rows, DIM, (3,) if rows > 10 else ())
    bag = StoredBag(folder.name, MappedFeatures(folder / "features", readable), label)
    return bag, torch.from_numpy(values[readable]).float()


def test_bags_from_disk_are_bags_from_memory(tmp_path: Path) -> None:
    """Whole, in chunks and in overlapping batches; standardised on reading as in advance."""
    found = [stored_bag(tmp_path / f"s{i}", rows, i % 2) for i, rows in enumerate((4000, 5, 3000, 700))]
    bags: list[BagSource] = [bag for bag, _ in found]
    memory = [Bag(bag.slide_id, values, bag.label) for bag, values in found]
    one, two = Standardizer.fit(bags), Standardizer.fit(memory)  # type: ignore[arg-type]
    torch.testing.assert_close(one.mean, two.mean)
    torch.testing.assert_close(one.std, two.std)
    from_disk, in_memory = [one(bag) for bag, _ in found], [one(bag) for bag in memory]
    for disk, kept in zip(from_disk, in_memory, strict=True):
        torch.testing.assert_close(read_bag(disk).features, kept.features)
        torch.testing.assert_close(
            torch.cat([part.clone() for _, part in chunks_of(disk, 333)]), kept.features
        )
    batches = [[0, 3], [1], [2, 1, 0]]
    for packed, batch in zip(packed_batches(from_disk, batches), batches, strict=True):
        expected = PackedBags.pack([in_memory[i] for i in batch])
        torch.testing.assert_close(packed.features, expected.features)
        assert torch.equal(packed.offsets, expected.offsets)
        assert packed.slide_ids == expected.slide_ids
    spec = TrainSpec(epochs=2, lr=1e-3)
    histories = [
        fit(build_aggregator("abmil", DIM, 1, 0, {}), kind, kind[:2], spec).history
        for kind in (from_disk, in_memory)
    ]
    for a, b in zip(*histories, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_the_next_batch_is_read_while_the_last_is_used() -> None:
    """Job n + 1 has begun before the consumer is done with n, and a buffer is not touched while in use."""
    begun: list[int] = []

    def job(number: int) -> Any:
        def read(buffer: Buffer) -> torch.Tensor:
            begun.append(number)
            return buffer.view(4, 2).fill_(number)

        return read

    for number, values in enumerate(overlapped(job(i) for i in range(5))):
        while len(begun) < min(number + 2, 5):
            pass  # the thread gets there by itself: the consumer has not asked for the next one yet
        assert torch.equal(values, torch.full((4, 2), float(number)))
    assert begun == [0, 1, 2, 3, 4]


def test_an_error_while_reading_reaches_the_consumer() -> None:
    def broken(buffer: Buffer) -> int:
        raise StoreError("gone")

    with pytest.raises(StoreError, match="gone"):
        list(overlapped([broken]))
