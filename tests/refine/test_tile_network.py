"""The network learns where the tumour is, from labels of tiles or from outlines; the seed decides all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wsi_mil.errors import DataError, ModelError
from wsi_mil.refine.names import CARD, WEIGHTS
from wsi_mil.refine.network import TileNetwork, TrainingTiles, fit_tiles, tumour_maps
from wsi_mil.refine.refiner import Limits, load_refiner, save_refiner
from wsi_mil.refine.spec import RefineSpec

CPU = torch.device("cpu")
SPEC = RefineSpec(epochs=2, batch=16)


def tiles(count: int = 96, seed: int = 0, outlined: bool = False) -> TrainingTiles:
    """Grey noise; every other tile has a bright square somewhere: the tumour."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 120, (count, 64, 64, 3)).astype(np.uint8)
    masks = np.zeros((count, 64, 64), bool)
    for i in range(1, count, 2):
        y, x = rng.integers(0, 36, 2)
        masks[i, y : y + 28, x : x + 28] = True
        pixels[i][masks[i]] = rng.integers(140, 200, (784, 3))
    return TrainingTiles(pixels, np.arange(count) % 2, masks, np.full(count, outlined))


def iou(network: TileNetwork, test: TrainingTiles) -> float:
    found = tumour_maps(network, test.pixels[1::2], 64, 0) > 0.5
    truth = test.masks[1::2]
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize(
    ("method", "outlined", "least"),
    [
        pytest.param("plain", False, 0.3, marks=pytest.mark.slow),
        ("plain", True, 0.7),
        ("gain", False, 0.3),
        pytest.param("loss_attention", False, 0.3, marks=pytest.mark.slow),
        pytest.param("loss_attention", True, 0.6, marks=pytest.mark.slow),
    ],
)
def test_it_finds_the_square(method: str, outlined: bool, least: float) -> None:
    spec = RefineSpec(epochs=8, batch=16, method=method)  # type: ignore[arg-type]
    network = fit_tiles(tiles(outlined=outlined), spec, CPU)
    test = tiles(40, seed=9)
    assert iou(network, test) > least
    normal = tumour_maps(network, test.pixels[::2], 64, 0)
    assert (normal > 0.5).mean() < 0.02
    torch.manual_seed(spec.seed)
    untrained = TileNetwork(spec, network.mean, network.std).eval()  # the weights that training began with
    assert iou(untrained, test) < 0.2


def test_equal_seeds_equal_networks_and_others_not() -> None:
    one, same, other = (
        fit_tiles(tiles(32), SPEC.model_copy(update={"seed": seed}), CPU) for seed in (1, 1, 2)
    )
    state = one.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in same.state_dict().items())
    assert not torch.equal(other.state_dict()["head.2.weight"], state["head.2.weight"])


def test_a_tiles_logit_is_the_mean_of_its_positions() -> None:
    network = fit_tiles(tiles(32), SPEC, CPU)
    images = network.prepare(torch.from_numpy(tiles(4).pixels))
    with torch.no_grad():
        whole, local = network.head(network.backbone(images)), network.local_logits(images)
    torch.testing.assert_close(whole[:, 1], local.mean((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["plain", "gain", "loss_attention"])
def test_outlines_teach_positions_and_labels_those_without(method: str) -> None:
    spec, given = SPEC.model_copy(update={"method": method}), tiles(32)
    network = fit_tiles(given, spec, CPU)
    images = network.prepare(torch.from_numpy(given.pixels[:6]))
    labels, masks = torch.from_numpy(given.labels[:6]), torch.from_numpy(given.masks[:6])[:, None]
    known = torch.tensor([False, True, False, False, False, True])
    found = network.losses(images, labels, masks, known, mining=True)
    terms = {key: float(value.detach()) for key, value in found.items()}
    with torch.no_grad():
        local = network.local_logits(images).double().sigmoid().numpy()
    shares = (
        given.masks[:6].reshape(6, 16, 4, 16, 4).mean((2, 4))
    )  # of the pixels under each of 16 x 16 positions

    def cross_entropy(rows: list[int], wanted: np.ndarray) -> float:
        return float(-(wanted * np.log(local[rows]) + (1 - wanted) * np.log(1 - local[rows])).mean())

    assert terms["outlines"] == pytest.approx(cross_entropy([1, 5], shares[[1, 5]]), rel=1e-3)
    if method != "loss_attention":
        wanted = np.broadcast_to(given.labels[[0, 2, 3, 4], None, None], (4, 16, 16))
        assert terms["positions"] == pytest.approx(cross_entropy([0, 2, 3, 4], wanted), rel=1e-3)
    assert ("mining" in terms, "external" in terms) == (method == "gain",) * 2


def test_the_margin_is_cut_off() -> None:
    network = fit_tiles(tiles(32), SPEC, CPU)
    pixels = tiles(2).pixels
    whole = tumour_maps(network, pixels, 32, 0)
    np.testing.assert_allclose(tumour_maps(network, pixels, 16, 8), whole[:, 8:24, 8:24], rtol=1e-6)


def test_what_cannot_be_learned_is_told() -> None:
    given = tiles(8)
    with pytest.raises(DataError, match="surely tumour"):
        TrainingTiles(given.pixels, np.zeros(8, np.int64), given.masks, given.has_mask)
    with pytest.raises(ModelError, match=r"take a smaller refine\.lr"):
        fit_tiles(tiles(32), SPEC.model_copy(update={"lr": 1e30, "epochs": 5}), CPU)


def test_a_refiner_reads_back_and_says_when_it_cannot(tmp_path: Path) -> None:
    network = fit_tiles(tiles(32), SPEC, CPU)
    assert load_refiner(tmp_path, CPU) is None
    saved = save_refiner(tmp_path, network, SPEC, Limits(0.9, 0.2), "inputs", {"tumour": 16})
    found = load_refiner(tmp_path, CPU, "inputs")
    assert found is not None
    assert (found.spec, found.limits, found.digest) == (SPEC, saved.limits, saved.digest)
    pixels = tiles(3).pixels
    np.testing.assert_array_equal(
        tumour_maps(found.network, pixels, 8, 0), tumour_maps(network, pixels, 8, 0)
    )
    assert load_refiner(tmp_path, CPU, "others") is None
    fresh = fit_tiles(tiles(32), SPEC.model_copy(update={"seed": 5}), CPU)
    save_refiner(tmp_path / "b", fresh, SPEC, Limits(0.9, 0.2), "inputs", {})
    (tmp_path / WEIGHTS).write_bytes((tmp_path / "b" / WEIGHTS).read_bytes())
    with pytest.raises(ModelError, match="not the file that"):
        load_refiner(tmp_path, CPU)
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not the file that"):
        load_refiner(tmp_path, CPU)
    (tmp_path / CARD).write_text('{"format_version": 99}')
    assert load_refiner(tmp_path, CPU, "inputs") is None
    with pytest.raises(ModelError, match="format 99"):
        load_refiner(tmp_path, CPU)
