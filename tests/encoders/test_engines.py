"""Each engine gives the same features; incomplete batches; full memory; tiles prepared as PIL does."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from wsi_mil.encoders import Computation, EncoderSpec, build_encoder, engines
from wsi_mil.encoders.engines import TorchEngine, make_engine
from wsi_mil.encoders.networks import InputTransform, NetworkEncoder
from wsi_mil.encoders.published import IMAGENET_MEAN, IMAGENET_STD
from wsi_mil.errors import ConfigError

RESNET = EncoderSpec(name="timm:resnet10t", weights="random", input_px=64, batch_size=4)


def tiles(count: int, size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("interpolation", "filter_"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]
)
def test_tiles_are_prepared_as_pil_and_torchvision_do(interpolation: str, filter_: Image.Resampling) -> None:
    """Resized to whole grey levels (one apart at most), then (x / 255 - mean) / std."""
    encoder = NetworkEncoder(
        RESNET.model,
        Computation(),
        nn.Flatten(),
        InputTransform(48, IMAGENET_MEAN, IMAGENET_STD, interpolation),
    )
    batch = tiles(3, 80)
    found = encoder.prepare(batch).permute(0, 2, 3, 1).numpy()
    grey = (found * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)) * 255
    expected = np.stack(
        [np.asarray(Image.fromarray(tile).resize((48, 48), filter_)) for tile in batch.numpy()]
    )
    assert np.abs(grey - grey.round()).max() < 1e-3
    assert np.abs(grey - expected).max() < 1.01
    assert np.abs(grey - expected).mean() < 0.1


def test_tiles_of_the_networks_size_are_only_normalised() -> None:
    encoder = build_encoder(RESNET, "cpu")
    assert isinstance(encoder, NetworkEncoder)
    batch = tiles(2)
    config = encoder.identity
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    found = encoder.prepare(batch)
    torch.testing.assert_close(found, (batch.permute(0, 3, 1, 2) / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, tiles(2)), "the tiles themselves stay as they are"


@pytest.mark.slow
def test_openvino_gives_the_features_of_torch() -> None:
    """Its name is part of the digest."""
    pytest.importorskip("openvino")
    plain, fast = (
        build_encoder(RESNET, "cpu"),
        build_encoder(RESNET.model_copy(update={"backend": "openvino"}), "cpu"),
    )
    batch = tiles(11)  # two full batches and an incomplete one
    expected = plain.encode(batch)
    found = fast.encode(batch)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)
    assert torch.equal(fast.encode(batch[8:]), found[8:])
    assert fast.digest != plain.digest
    assert fast.dim == plain.dim


def test_openvino_is_refused_on_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"runs on the CPU, the device is cuda:1: say execution.device=cpu"):
        make_engine(Computation(device="cuda:1", backend="openvino"), nn.Identity(), 64)


class Small(nn.Module):
    """A network for which the device has memory for `most` images at a time."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.seen = most, [0]

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images.mean((2, 3))


def test_a_batch_that_does_not_fit_is_halved_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    trunk = Small(5)
    engine = TorchEngine(trunk, torch.device("cpu"), torch.float32, rows=16)
    images = torch.rand(16, 3, 4, 4)
    with caplog.at_level(logging.WARNING, "wsi_mil"):
        for _ in range(2):
            torch.testing.assert_close(engine(images), images.mean((2, 3)))
    assert trunk.seen == [0, 16, 8, 4, 4, 4, 4, 4, 4, 4, 4]
    with pytest.raises(torch.OutOfMemoryError):
        TorchEngine(Small(0), torch.device("cpu"), torch.float32, 2)(images)


def test_a_compiled_network_sees_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: module)
    trunk = Small(99)
    engine = TorchEngine(trunk, torch.device("cpu"), torch.float32, rows=4, compiled=True)
    images = torch.rand(9, 3, 4, 4)
    torch.testing.assert_close(engine(images), images.mean((2, 3)))
    assert trunk.seen == [0, 4, 4, 4]


def test_bf16_without_instructions_for_it_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for has, warnings in ((True, 0), (False, 1)):
        caplog.clear()
        monkeypatch.setattr(engines, "cpu_multiplies_bf16", lambda has=has: has)
        with caplog.at_level(logging.WARNING, "wsi_mil"):
            make_engine(Computation(precision="bf16"), nn.Identity(), 64)
        assert sum("no bf16 instructions" in record.message for record in caplog.records) == warnings


def test_bf16_features_have_the_direction_of_float32_features() -> None:
    batch = tiles(6)
    full, low = (
        build_encoder(RESNET.model_copy(update={"precision": p}), "cpu").encode(batch)
        for p in ("fp32", "bf16")
    )
    assert float(torch.nn.functional.cosine_similarity(full, low).min()) > 0.999
    assert not torch.equal(full, low)
