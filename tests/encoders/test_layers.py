"""Features from inside networks: the values of the layers, in the order asked for, on every engine."""

import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from torch import Tensor, nn

from wsi_mil.encoders import Encoder, EncoderSpec, build_encoder
from wsi_mil.encoders.layers import _form, part_names
from wsi_mil.errors import ConfigError
from wsi_mil.testing.encoders import EncoderSuite

SQUEEZENET = {"name": "torchvision:squeezenet1_1", "weights": "random", "input_px": 64}
VIT = {"name": "timm:test_vit", "weights": "random", "input_px": 64}


def encoder(values: dict[str, object], *layers: str, **more: object) -> Encoder:
    return build_encoder(EncoderSpec(**values, layers=layers, **more), "cpu")  # type: ignore[arg-type]


def tiles(count: int = 3, size: int = 64) -> Tensor:
    pixels = np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def recorded(network: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    """What a hook sees of the outputs of modules: independent of how the product cuts a network."""
    found: dict[str, Tensor] = {}
    for name in names:
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
    with torch.inference_mode():
        network.eval()(images)
    return found


def images_of(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    values = pixels.permute(0, 3, 1, 2).float() / 255
    return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_maps_of_a_cnn_are_averaged_and_joined_in_the_order_asked_for() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.squeezenet1_1(weights=None)
    found = recorded(network, ["features.3", "features.7"], images_of(tiles(), *IMAGENET))
    expected = torch.cat([found["features.7"].mean((2, 3)), found["features.3"].mean((2, 3))], 1)
    torch.testing.assert_close(encoder(SQUEEZENET, "features.7", "features.3").encode(tiles()), expected)
    one = encoder(SQUEEZENET, "features.3", layer_pooling="mean+std").encode(tiles())
    maps = found["features.3"].flatten(2)
    torch.testing.assert_close(one, torch.cat([maps.mean(2), maps.std(2, correction=0)], 1))


@pytest.mark.parametrize(
    ("pooling", "width"), [("class", 1), ("mean", 1), ("class+mean", 2), ("mean+std", 2)]
)
def test_tokens_of_a_transformer_are_pooled_without_the_class_token(pooling: str, width: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_vit", num_classes=0, img_size=64, dynamic_img_size=True)
    config = timm.data.resolve_model_data_config(network)
    found = recorded(network, ["blocks.2"], images_of(tiles(), config["mean"], config["std"]))["blocks.2"]
    patches = found[:, network.num_prefix_tokens :]
    parts = {"class": found[:, 0], "mean": patches.mean(1), "std": patches.std(1, correction=0)}
    expected = torch.cat([parts[part] for part in pooling.split("+")], 1)
    made = encoder(VIT, "blocks.2", layer_pooling=pooling)
    torch.testing.assert_close(made.encode(tiles()), expected)
    assert made.dim == width * network.num_features


def test_maps_with_channels_last_are_averaged_over_positions() -> None:
    swin = {"name": "torchvision:swin_t", "weights": "random", "input_px": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.swin_t(weights=None)
    found = recorded(network, ["features.1"], images_of(tiles(), *IMAGENET))["features.1"]
    assert found.shape == (3, 16, 16, 96)
    torch.testing.assert_close(encoder(swin, "features.1").encode(tiles()), found.mean((1, 2)))


@pytest.mark.parametrize(
    ("shape", "prefix", "form"),
    [
        ((1, 512), 0, "vector"),
        ((1, 197, 192), 1, "tokens"),
        ((1, 196, 192), 1, "patches"),  # the class token joins later
        ((1, 261, 384), 5, "tokens"),
        ((1, 96, 16, 16), 0, "maps"),
        ((1, 16, 16, 96), 0, "maps_last"),
    ],
)
def test_the_shape_says_which_axes_are_positions(shape: tuple[int, ...], prefix: int, form: str) -> None:
    assert _form(shape, "x", prefix) == form


def test_a_network_that_cannot_be_traced_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"the layers blocks.2 of timm:hiera_tiny_224 cannot be read \("):
        encoder({"name": "timm:hiera_tiny_224", "weights": "random"}, "blocks.2")


@pytest.mark.parametrize(
    ("shape", "prefix"),
    [((1, 197, 192), 0), ((1, 16, 16, 16), 0), ((1, 96, 8, 16), 0), ((1, 2, 3, 4, 5), 0)],
)
def test_axes_that_are_not_known_are_refused(shape: tuple[int, ...], prefix: int) -> None:
    """A class token that the network does not declare would be averaged as a patch, channels as positions."""
    with pytest.raises(ConfigError, match=r"layer x gives .*another layer"):
        _form(shape, "x", prefix)


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("timm:resnet10t", 5, "layer4"),
        ("timm:test_vit", 6, "blocks.5"),
        ("timm:convnext_atto", 4, "stages.3"),
        ("timm:swin_tiny_patch4_window7_224", 4, "layers.3"),
        ("timm:mobilenetv2_035", 5, "blocks.6"),
        ("torchvision:resnet18", 4, "layer4"),
        ("torchvision:squeezenet1_1", 13, "features.12"),
        ("torchvision:mobilenet_v2", 19, "features.18"),
        ("torchvision:shufflenet_v2_x0_5", 3, "stage4"),
        ("torchvision:regnet_y_400mf", 4, "trunk_output.block4"),
    ],
)
def test_numbers_are_stages_and_blocks(name: str, count: int, last: str) -> None:
    family, _, model = name.partition(":")
    network = timm.create_model(model) if family == "timm" else torchvision.models.get_model(model)
    assert part_names(network)[-1] == last
    assert len(part_names(network)) == count
    values = {"name": name, "weights": "random"} | ({} if "swin" in name else {"input_px": 64})
    size = 224 if "swin" in name else 64
    by_number, by_name = encoder(values, "-1"), encoder(values, last)
    assert torch.equal(by_number.encode(tiles(1, size)), by_name.encode(tiles(1, size)))


def test_a_projection_is_a_matrix_that_the_seed_draws() -> None:
    whole = encoder(SQUEEZENET, "3", "7").encode(tiles())
    made = [encoder(SQUEEZENET, "3", "7", layer_projection=16) for _ in range(2)]
    found = made[0].encode(tiles())
    assert found.shape == (3, 16)
    assert torch.equal(found, made[1].encode(tiles()))
    matrix = torch.linalg.lstsq(whole, found).solution
    torch.testing.assert_close(whole @ matrix, found)
    many = encoder(SQUEEZENET, "3", "7", layer_projection=4096).encode(tiles())
    torch.testing.assert_close(many.norm(dim=1), whole.norm(dim=1), rtol=0.1, atol=0)


def test_layers_have_a_name_and_a_digest_of_their_own() -> None:
    plain = EncoderSpec(**SQUEEZENET).settled  # type: ignore[arg-type]
    one = plain.model_copy(update={"layers": ("3",)})
    two = one.model_copy(update={"layer_pooling": "mean+std"})
    assert len({spec.key for spec in (plain, one, two)}) == 3
    assert len({spec.digest() for spec in (plain, one, two)}) == 3
    assert len({build_encoder(spec, "cpu").digest for spec in (plain, one, two)}) == 3
    assert EncoderSpec(**one.model_dump(mode="json")) == one
    assert EncoderSpec(**SQUEEZENET, layers=[3]).settled == one  # type: ignore[arg-type]
    assert "layers" not in plain.model_dump()


def test_later_layers_are_not_computed() -> None:
    with_all, first = encoder(SQUEEZENET, "-1"), encoder(SQUEEZENET, "3")
    sizes = [len(pickle.dumps(one)) for one in (with_all, first)]
    assert sizes[1] < sizes[0] / 4


@pytest.mark.parametrize(
    ("values", "layers", "more", "message"),
    [
        (SQUEEZENET, ("features.77",), {}, "has no layer 'features.77'. Nearest: .*features"),
        (SQUEEZENET, ("13",), {}, "has no layer 13; its 13 parts are features.0, "),
        (SQUEEZENET, ("3",), {"layer_pooling": "class"}, "features.3 of .* has no class token"),
        (VIT, ("patch_embed.proj",), {"layer_pooling": "class+mean"}, "has no class token"),
        (SQUEEZENET, ("-1", "features.12"), {}, "names a layer twice: features.12, features.12"),
    ],
)
def test_what_a_network_does_not_have_is_refused(
    values: dict[str, object], layers: tuple[str, ...], more: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder(values, *layers, **more)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "texture", "layers": ["1"]}, "not of texture"),
        ({"name": "uni", "layers": ["1"]}, "not of uni"),
        (SQUEEZENET | {"layer_pooling": "mean+std"}, "give encoder.layers"),
        (SQUEEZENET | {"layer_projection": 8}, "give encoder.layers"),
        (SQUEEZENET | {"layers": ["3", "3"]}, "names one twice"),
        (SQUEEZENET | {"layers": ["../x"]}, "layers"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderSpec(**values)  # type: ignore[arg-type]


class TestLayersOfACnn(EncoderSuite):
    """Every rule of encoders, for layers of a CNN with batch normalisation."""

    tile_px = 64

    def build(self, device: str = "cpu") -> Encoder:
        values = {"name": "timm:resnet10t", "weights": "random", "input_px": 64}
        return build_encoder(EncoderSpec(**values, layers=("2", "-1")), device)  # type: ignore[arg-type]

    def changed(self) -> Encoder:
        return encoder({"name": "timm:resnet10t", "weights": "random", "input_px": 64}, "-1", "2")


class TestLayersOfATransformer(EncoderSuite):
    """Every rule of encoders, for blocks of a vision transformer."""

    tile_px = 64

    def build(self, device: str = "cpu") -> Encoder:
        spec = EncoderSpec(**VIT, layers=("2", "5"), layer_pooling="class+mean")  # type: ignore[arg-type]
        return build_encoder(spec, device)


def test_openvino_gives_the_same_layers() -> None:
    pytest.importorskip("openvino")
    found = encoder(SQUEEZENET, "3", "7", backend="openvino", batch_size=2).encode(tiles())
    torch.testing.assert_close(found, encoder(SQUEEZENET, "3", "7").encode(tiles()), rtol=1e-3, atol=1e-3)
