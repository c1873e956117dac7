"""Texture features measure what they should; networks have the weights and pooling of their families."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wsi_mil.encoders import EncoderSpec, build_encoder, list_encoders
from wsi_mil.encoders.weights import read_checkpoint
from wsi_mil.errors import ConfigError, EncoderError


def tiles(count: int = 3, size: int = 64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def stained(h: float, e: float, size: int = 64, grain: float = 0.0, seed: int = 0) -> torch.Tensor:
    """A tile of given haematoxylin and eosin density, with grain in the haematoxylin."""
    rng = np.random.default_rng(seed)
    amount = h * (1 + grain * rng.standard_normal((size, size, 1)))
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    density = amount * vectors[0] + e * vectors[1]
    return torch.from_numpy(np.clip(256 * 10**-density - 1, 0, 255).round().astype(np.uint8))[None]


def test_texture_is_deterministic_and_a_batch_is_its_tiles() -> None:
    encoder = build_encoder(EncoderSpec(), "cpu")
    batch = tiles()
    found = encoder.encode(batch)
    assert found.shape == (3, encoder.dim)
    assert 64 <= encoder.dim <= 256
    assert torch.isfinite(found).all()
    alone = torch.cat([encoder.encode(batch[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [16, 27, 64, 224])
def test_texture_of_any_size(size: int) -> None:
    found = build_encoder(EncoderSpec(), "cpu").encode(tiles(2, size))
    assert found.shape == (2, 106)
    assert torch.isfinite(found).all()


def test_texture_measures_stains() -> None:
    """The features at 18 to 20, means of haematoxylin, eosin and density, follow the amounts of stain."""
    encoder = build_encoder(EncoderSpec(), "cpu")
    mean = slice(18, 21)  # after six statistics of three channels
    for h, e in ((0.2, 0.4), (0.6, 0.1)):
        found = encoder.encode(stained(h, e))[0, mean]
        assert float(found[0]) == pytest.approx(h, abs=0.02)
        assert float(found[1]) == pytest.approx(e, abs=0.02)


def test_texture_tells_smooth_from_clumped() -> None:
    encoder = build_encoder(EncoderSpec(), "cpu")
    smooth, clumped = (encoder.encode(stained(0.5, 0.2, grain=g))[0] for g in (0.0, 0.3))
    assert float(clumped[0]) > float(smooth[0]) + 0.05  # the deviation of haematoxylin
    flips = tiles(1)
    torch.testing.assert_close(
        encoder.encode(flips)[0, 18:21], encoder.encode(flips.flip(1, 2))[0, 18:21], rtol=0, atol=1e-5
    )


def test_texture_refuses_tiles_that_are_too_small() -> None:
    with pytest.raises(EncoderError, match="at least 16 px"):
        build_encoder(EncoderSpec(), "cpu").encode(tiles(1, 15))


@pytest.mark.gpu
def test_texture_is_the_same_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batch = tiles(8, 128)
    cpu, gpu = (build_encoder(EncoderSpec(), device).encode(batch).cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(cpu, gpu, rtol=0, atol=1e-4)


def test_texture_in_double_is_the_same_to_1e_4() -> None:
    """Another device differs by rounding only, and double precision shows how large that is."""
    from wsi_mil.encoders.models.texture import texture_statistics

    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        texture_statistics(x).double(), texture_statistics(x.double()), rtol=0, atol=1e-4
    )


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A folder with a checkpoint of timm's resnet10t in each format, classification head included."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    model = timm.create_model("resnet10t", num_classes=7).eval()
    folder = tmp_path_factory.mktemp("weights")
    state = model.state_dict()
    save_file(state, folder / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "w.pth")
    np.savez(folder / "w.npz", **{k: v.numpy() for k, v in state.items()})
    return folder, model


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "npz"])
def test_timm_with_local_weights_equals_timm_itself(
    resnet: tuple[Path, torch.nn.Module], suffix: str
) -> None:
    folder, model = resnet
    encoder = build_encoder(
        EncoderSpec(name="timm:resnet10t", weights=str(folder / f"w.{suffix}"), input_px=64), "cpu"
    )
    batch = tiles(2, 64)
    config = model.pretrained_cfg  # type: ignore[attr-defined]
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    images = (batch.permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        maps = model.forward_features(images)  # type: ignore[operator]
        expected = model.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(encoder.encode(batch), expected, rtol=1e-4, atol=1e-4)
    assert encoder.dim == expected.shape[1]


def test_resizing_goes_to_the_models_own_size() -> None:
    encoder = build_encoder(EncoderSpec(name="timm:resnet10t", weights="random"), "cpu")
    assert encoder.identity["input_px"] == 176
    batch = tiles(1, 64)
    resized = F.interpolate(batch.permute(0, 3, 1, 2).float(), (176, 176), mode="bicubic", antialias=True)
    whole = resized.clamp(0, 255).permute(0, 2, 3, 1)
    found = encoder.encode(batch)
    encoder_same = encoder.encode(whole.round().to(torch.uint8))
    assert float((found - encoder_same).abs().max()) < 0.05 * float(found.abs().max())


def test_random_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    digests = [
        build_encoder(
            EncoderSpec(name="torchvision:squeezenet1_1", weights="random", input_px=64, seed=s), "cpu"
        ).digest
        for s in (0, 0, 1)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert digests[0] == digests[1] != digests[2]


def test_identity_changes_with_whatever_changes_the_values() -> None:
    spec = EncoderSpec(name="torchvision:squeezenet1_1", weights="random", input_px=64)
    digest = build_encoder(spec, "cpu").digest
    for change in ({"input_px": 96}, {"precision": "bf16"}):
        assert build_encoder(spec.model_copy(update=change), "cpu").digest != digest
    assert build_encoder(spec.model_copy(update={"batch_size": 3}), "cpu").digest == digest


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        pytest.param("densenet121", marks=pytest.mark.slow),
        "vit_b_32",
        "mobilenet_v3_small",
        pytest.param("swin_t", marks=pytest.mark.slow),
    ],
)
def test_torchvision_families_give_pooled_features(name: str) -> None:
    found = build_encoder(EncoderSpec(name=f"torchvision:{name}", weights="random"), "cpu").encode(
        tiles(2, 48)
    )
    sizes = {"resnet18": 512, "densenet121": 1024, "vit_b_32": 768, "mobilenet_v3_small": 576, "swin_t": 768}
    assert found.shape == (2, sizes[name])
    assert torch.isfinite(found).all()


def test_real_squeezenet_weights(data_folder: Path) -> None:
    """The ImageNet network separates a smooth tile from a textured one, and all its tensors are loaded."""
    path = data_folder / "weights" / "squeezenet1_0_imagenet.npz"
    if not path.exists():
        pytest.skip("no squeezenet weights")
    encoder = build_encoder(
        EncoderSpec(name="torchvision:squeezenet1_0", weights=str(path), input_px=96), "cpu"
    )
    from torchvision.models import squeezenet1_0

    model = squeezenet1_0(weights=None)
    stored = read_checkpoint(path)
    model.features.load_state_dict(
        {k.removeprefix("features."): v for k, v in stored.items() if k.startswith("features.")}
    )
    batch = tiles(2, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = model.eval().features(((batch / 255 - mean) / std).permute(0, 3, 1, 2)).mean((2, 3))
    torch.testing.assert_close(encoder.encode(batch), expected, rtol=1e-3, atol=1e-3)


def test_checkpoints_that_do_not_fit_name_the_tensors(
    resnet: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    folder, _ = resnet
    with pytest.raises(EncoderError, match=r"w\.npz does not fit timm:resnet18: \d+ tensors missing"):
        build_encoder(EncoderSpec(name="timm:resnet18", weights=str(folder / "w.npz")), "cpu")
    with pytest.raises(EncoderError, match="no checkpoint at"):
        build_encoder(EncoderSpec(name="timm:resnet18", weights=str(tmp_path / "none.pth")), "cpu")
    with pytest.raises(EncoderError, match="neither 'pretrained' nor 'random'"):
        build_encoder(EncoderSpec(name="timm:resnet18", weights="imagenet"), "cpu")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(EncoderError, match="not a readable checkpoint"):
        build_encoder(EncoderSpec(name="timm:resnet18", weights=str(tmp_path / "junk.safetensors")), "cpu")


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.system, ("touch /tmp/wsi_mil_was_unpickled",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": Evil()}}, tmp_path / "evil.pth")
    marker = Path("/tmp/wsi_mil_was_unpickled")
    marker.unlink(missing_ok=True)
    with pytest.raises(EncoderError, match=r"names .*: expected tensors"):
        read_checkpoint(tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", a=np.array([Evil()], dtype=object))
    with pytest.raises(EncoderError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "evil.npz")
    assert not marker.exists()


@pytest.mark.slow
def test_pretrained_while_offline_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from wsi_mil.encoders import EncoderSpec, build_encoder\n"
        "from wsi_mil.errors import EncoderError\n"
        "try: build_encoder(EncoderSpec(name='timm:resnet10t'), 'cpu')\n"
        "except EncoderError as error: print('TOLD', error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "TOLD the pretrained weights of timm:resnet10t could not be fetched" in found.stdout
    assert "encoder.weights=PATH" in found.stdout


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(ConfigError, match="is no device"):
        build_encoder(EncoderSpec(), "gpu")
    with pytest.raises(ConfigError, match=f"torch sees {torch.cuda.device_count()} CUDA devices"):
        build_encoder(EncoderSpec(), "cuda:97")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="'texture'"):
        build_encoder(EncoderSpec(name="textur"), "cpu")
    with pytest.raises(ConfigError, match="'resnet18'"):
        build_encoder(EncoderSpec(name="timm:resnet18x"), "cpu")
    with pytest.raises(ConfigError, match="squeezenet1_0"):
        build_encoder(EncoderSpec(name="torchvision:squeezenet"), "cpu")
    for name in (
        "hf-hub:stranger/resnet18",
        "hf_hub:stranger/resnet18",
        "local-dir:here",
        "resnet18.a:/here",
    ):
        with pytest.raises(ConfigError, match="timm has no model"):
            build_encoder(EncoderSpec(name=f"timm:{name}"), "cpu")
    with pytest.raises(ConfigError, match="hundred times slower"):
        build_encoder(EncoderSpec(name="timm:resnet10t", weights="random", precision="fp16"), "cpu")
    assert "texture" in list_encoders()
    assert list_encoders("torchvision:squeezenet*") == [
        "torchvision:squeezenet1_0",
        "torchvision:squeezenet1_1",
    ]


@pytest.mark.slow
def test_ctranspath_reads_the_published_names(tmp_path: Path) -> None:
    """A file with the authors' names (timm 0.5, under "model") gives the features of the same network."""
    from wsi_mil.encoders.models.ctranspath import make_trunk

    trunk = make_trunk(3).eval()
    stem = {
        key: tuple(value.shape) for key, value in trunk.patch_embed.state_dict().items() if value.ndim > 1
    }
    assert stem == {
        "proj.0.weight": (12, 3, 3, 3),
        "proj.3.weight": (24, 12, 3, 3),
        "proj.6.weight": (96, 24, 1, 1),
    }
    published = {
        re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key): value
        for key, value in trunk.state_dict().items()
    }
    assert "layers.0.downsample.reduction.weight" in published
    torch.save({"model": published}, tmp_path / "ctranspath.pth")
    torch.save(trunk.state_dict(), tmp_path / "converted.pth")
    pixels = torch.randint(
        0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = trunk(((pixels / 255 - mean) / std).permute(0, 3, 1, 2))
    for name in ("ctranspath.pth", "converted.pth"):
        encoder = build_encoder(EncoderSpec(name="ctranspath", weights=str(tmp_path / name)), "cpu")
        assert encoder.dim == 768
        torch.testing.assert_close(encoder.encode(pixels), expected, rtol=1e-4, atol=1e-5)
    del published["layers.2.downsample.norm.weight"]
    torch.save({"model": published}, tmp_path / "short.pth")
    with pytest.raises(EncoderError, match=r"1 tensors missing \['layers.3.downsample.norm.weight'\]"):
        build_encoder(EncoderSpec(name="ctranspath", weights=str(tmp_path / "short.pth")), "cpu")
    with pytest.raises(EncoderError, match="from its authors"):
        build_encoder(EncoderSpec(name="ctranspath"), "cpu")
    with pytest.raises(ConfigError, match="takes 224 only"):
        build_encoder(EncoderSpec(name="ctranspath", weights="random", input_px=256), "cpu")
