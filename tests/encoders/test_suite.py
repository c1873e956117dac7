"""The suite of encoders: each kind of encoder passes it, and encoders that are wrong on purpose fail it."""

import pickle
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_mil.encoders import Computation, Encoder, EncoderModel, EncoderSpec, build_encoder, models
from wsi_mil.encoders.models.texture import TextureEncoder
from wsi_mil.encoders.names import ENCODERS, check_encoder
from wsi_mil.encoders.views import View
from wsi_mil.errors import ConfigError, EncoderError
from wsi_mil.testing.encoders import EncoderSuite


class TestTexture(EncoderSuite):
    def build(self, device: str = "cpu") -> Encoder:
        return build_encoder(EncoderSpec(name="texture"), device)

    def changed(self) -> Encoder:
        return build_encoder(EncoderSpec(name="texture", input_px=32), "cpu")


class NetworkSuite(EncoderSuite):
    tolerance = 1e-4
    settings: ClassVar[dict[str, Any]]

    def build(self, device: str = "cpu") -> Encoder:
        return build_encoder(EncoderSpec(**self.settings), device)

    def changed(self) -> Encoder:
        return build_encoder(EncoderSpec(**self.settings, seed=1), "cpu")


class TestTorchvision(NetworkSuite):
    settings: ClassVar = {"name": "torchvision:squeezenet1_1", "weights": "random", "input_px": 64}


class TestTimm(NetworkSuite):
    settings: ClassVar = {"name": "timm:resnet10t", "weights": "random", "input_px": 64}


@pytest.mark.slow
class TestOpenVino(NetworkSuite):
    """Batches of two: incomplete ones are filled up. The network is random, so any will do."""

    settings: ClassVar = TestTimm.settings | {"backend": "openvino", "batch_size": 2}

    @pytest.fixture(autouse=True)
    def _need_openvino(self) -> None:
        pytest.importorskip("openvino")


class Wrong(TextureEncoder):
    """A correct encoder, from which wrong ones derive."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(EncoderModel(name="texture"), Computation(device=device))


class OfItsBatch(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        return found - found.mean(0)


class OfItsPlace(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels) + torch.arange(len(pixels))[:, None]


class Noisy(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        return found + torch.rand_like(found)


class NoisyByNumpy(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels) + float(np.random.rand())  # noqa: NPY002


class RandomWeights(Wrong):
    """Not the same weights at every call."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        self._unmix = self._unmix + torch.rand(3, 3)


class Half(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels).half()


class Narrow(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels)[:, 1:]


class Infinite(Wrong):
    """Divides by the deviation of a tile, which is 0 for glass."""

    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels) / pixels.float().std((1, 2, 3))[:, None]


class Constant(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return torch.ones(len(pixels), self.dim)


class Writes(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        pixels.zero_()
        return found


class KeepsTheFirstSize(Wrong):
    """Prepares something for the first tile size and uses it for all."""

    side = 0

    def encode(self, pixels: Tensor) -> Tensor:
        self.side = self.side or pixels.shape[1]
        return super().encode(pixels.view(-1, self.side, self.side, 3))


class WiderForLargerTiles(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        found = super().encode(pixels)
        return torch.cat([found, found], 1) if pixels.shape[1] > 50 else found


class OnAnotherDevice(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return super().encode(pixels).to("meta")


class StaysOnTheCpu(Wrong):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__("cpu")


class NamesItsDevice(Wrong):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        self.identity = {**self.identity, "device": device}


class DoesNotPickle(Wrong):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        self.function = lambda: None


class PicklesToAnother(Wrong):
    def __reduce__(self) -> tuple[Any, ...]:
        return RandomWeights, ()


class TakesAnything(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return torch.zeros(len(pixels), self.dim)


class RefusesWithoutReason(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-1] != 3 or pixels.dtype != torch.uint8:
            raise EncoderError("wrong input")
        return super().encode(pixels)


class NoName(Wrong):
    def __init__(self, device: str = "cpu") -> None:
        super().__init__(device)
        self.identity = {"version": 1}


class ChangesItself(Wrong):
    """A view is set on the encoder itself instead of a copy."""

    def seen_as(self, view: View) -> Encoder:
        self.view = view
        self.identity = {**self.identity, **view.identity}
        return self


class ForgetsTheView(Wrong):
    def seen_as(self, view: View) -> Encoder:
        return self


WRONG: list[tuple[type[Wrong], str]] = [
    (Half, "test_features_are_finite_float32_of_its_size"),
    (Narrow, "test_features_are_finite_float32_of_its_size"),
    (Infinite, "test_black_and_white_tiles_have_finite_features"),
    (Constant, "test_different_tiles_have_different_features"),
    (Noisy, "test_same_tiles_same_features"),
    (NoisyByNumpy, "test_same_tiles_same_features"),
    (RandomWeights, "test_same_tiles_same_features"),
    (OfItsBatch, "test_a_tile_does_not_depend_on_the_others_of_its_batch"),
    (OfItsPlace, "test_a_tile_does_not_depend_on_the_others_of_its_batch"),
    (KeepsTheFirstSize, "test_tiles_of_mixed_sizes"),
    (WiderForLargerTiles, "test_tiles_of_mixed_sizes"),
    (Writes, "test_tiles_are_left_as_they_are"),
    (OnAnotherDevice, "test_it_moves_to_a_device"),
    (StaysOnTheCpu, "test_it_moves_to_a_device"),
    (NamesItsDevice, "test_it_moves_to_a_device"),
    (DoesNotPickle, "test_pickles_to_an_equal_encoder"),
    (PicklesToAnother, "test_pickles_to_an_equal_encoder"),
    (NoName, "test_the_digest_names_what_makes_the_values"),
    (ChangesItself, "test_a_view_has_a_digest_of_its_own"),
    (ForgetsTheView, "test_a_view_has_a_digest_of_its_own"),
    (TakesAnything, "test_what_is_no_tile_is_refused"),
    (RefusesWithoutReason, "test_what_is_no_tile_is_refused"),
]
FAILURES = (AssertionError, pytest.fail.Exception, RuntimeError, AttributeError, pickle.PicklingError)


@pytest.mark.parametrize(("kind", "check"), WRONG)
def test_the_suite_fails_on_wrong_encoders(kind: type[Wrong], check: str) -> None:
    class Suite(EncoderSuite):
        def build(self, device: str = "cpu") -> Encoder:
            return kind(device)

    with pytest.raises(FAILURES):
        getattr(Suite(), check)()


def test_each_test_of_the_suite_fails_on_some_wrong_encoder() -> None:
    tests = {name for name in vars(EncoderSuite) if name.startswith("test_")}
    assert tests == {check for _, check in WRONG}


def test_the_suite_passes_on_the_correct_encoder_that_wrong_ones_derive_from() -> None:
    class Suite(EncoderSuite):
        def build(self, device: str = "cpu") -> Encoder:
            return Wrong(device)

    for check in dict.fromkeys(check for _, check in WRONG):
        getattr(Suite(), check)()


class SameDigest(Wrong):
    def encode(self, pixels: Tensor) -> Tensor:
        return 2 * super().encode(pixels)


@pytest.mark.parametrize("changed", [SameDigest, Wrong])
def test_the_suite_fails_where_digest_and_values_disagree(changed: type[Wrong]) -> None:
    """Other values under the same digest; and a `changed` that changes nothing, which would test nothing."""

    class Suite(EncoderSuite):
        def build(self, device: str = "cpu") -> Encoder:
            return Wrong(device)

        def changed(self) -> Encoder:
            return changed()

    with pytest.raises(AssertionError):
        Suite().test_the_digest_names_what_makes_the_values()


def test_an_encoder_from_outside_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By package.module:Name, and as a file in the folder of encoders; listing names imports nothing."""
    code = (
        "from wsi_mil.encoders.models.texture import TextureEncoder\n"
        "class Ours(TextureEncoder):\n    pass\n\nBUILD = Ours\n"
        "def no_encoder(model, computation): return 3\n"
    )
    (tmp_path / "ours_of_lab.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WSI_MIL_TRUST", "ours_of_lab")
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
