"""The suite of encoders: each kind of encoder passes it, and encoders that are wrong on purpose fail it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsi_mil.encoders import Computation, Encoder, EncoderModel, EncoderSpec, build_encoder, models
from wsi_mil.encoders.models.texture import TextureEncoder
from wsi_mil.encoders.names import ENCODERS, check_encoder
from wsi_mil.errors import ConfigError
from wsi_mil.testing.encoders import EncoderSuite


class TestTexture(EncoderSuite):
    def build(self) -> Encoder:
        return build_encoder(EncoderSpec(name="texture"), "cpu")

    def changed(self) -> Encoder:
        return build_encoder(EncoderSpec(name="texture", input_px=32), "cpu")


class TestTorchvision(EncoderSuite):
    tolerance = 1e-4

    def spec(self, seed: int) -> EncoderSpec:
        return EncoderSpec(name="torchvision:squeezenet1_1", weights="random", input_px=64, seed=seed)

    def build(self) -> Encoder:
        return build_encoder(self.spec(0), "cpu")

    def changed(self) -> Encoder:
        return build_encoder(self.spec(1), "cpu")


class TestTimm(TestTorchvision):
    def spec(self, seed: int) -> EncoderSpec:
        return EncoderSpec(name="timm:resnet10t", weights="random", input_px=64, seed=seed)


class Wrong(TextureEncoder):
    """A correct encoder, to be broken."""

    def __init__(self) -> None:
        super().__init__(EncoderModel(name="texture"), Computation())


class OfItsBatch(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        return found - found.mean(0)


class Noisy(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        return found + torch.rand_like(found)


class Half(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels).half()


class Narrow(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels)[:, 1:]


class Constant(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return torch.ones(len(pixels), self.dim)


class Writes(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        pixels.zero_()
        return found


class SameDigest(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return 2 * super().encode(pixels)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (OfItsBatch, "test_a_tile_does_not_depend_on_the_others_of_its_batch"),
        (Noisy, "test_same_tiles_same_features"),
        (Half, "test_features_are_finite_float32_of_its_size"),
        (Narrow, "test_features_are_finite_float32_of_its_size"),
        (Constant, "test_different_tiles_have_different_features"),
        (Writes, "test_tiles_are_left_as_they_are"),
    ],
)
def test_the_suite_fails_on_wrong_encoders(kind: type[Wrong], check: str) -> None:
    class Suite(EncoderSuite):
        def build(self) -> Encoder:
            return kind()

    with pytest.raises(AssertionError):
        getattr(Suite(), check)()


def test_the_suite_fails_where_other_values_have_the_same_digest() -> None:
    class Suite(EncoderSuite):
        def build(self) -> Encoder:
            return Wrong()

        def changed(self) -> Encoder:
            return SameDigest()

    with pytest.raises(AssertionError):
        Suite().test_the_digest_names_what_makes_the_values()


def test_an_encoder_from_outside_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By package.module:Name, and as a file in the folder of encoders, which is listed without being
    imported.
    """
    code = (
        "from wsi_mil.encoders.models.texture import TextureEncoder\n"
        "class Ours(TextureEncoder):\n    pass\n\nBUILD = Ours\n"
        "def no_encoder(model, computation): return 3\n"
    )
    (tmp_path / "ours_of_lab.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    check_encoder("ours_of_lab:Ours")
    assert build_encoder(EncoderSpec(name="ours_of_lab:Ours"), "cpu").dim == 106
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    assert "ours_of_lab" in list(ENCODERS)
    assert "wsi_mil.encoders.models.ours_of_lab" not in sys.modules
    assert build_encoder(EncoderSpec(name="ours_of_lab"), "cpu").dim == 106
    with pytest.raises(ConfigError, match="made a int: it must derive"):
        build_encoder(EncoderSpec(name="ours_of_lab:no_encoder"), "cpu")
    with pytest.raises(ConfigError, match="'texture'"):
        check_encoder("textur")
