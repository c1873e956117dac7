"""Published encoders without their weights: sizes, pooling, names in checkpoints, scale, and the hub."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders import Computation, EncoderModel, EncoderSpec, build_encoder, engines
from wsi_mil.encoders.aliases import ALIASES, canonical_name
from wsi_mil.encoders.heads import Pooled
from wsi_mil.encoders.names import ENCODERS, check_encoder
from wsi_mil.encoders.pathology import make_trunk
from wsi_mil.encoders.published import PUBLISHED, refuse_other_scale
from wsi_mil.errors import ConfigError, EncoderError

# Millions of parameters as the model cards, papers and catalogues give them, and number of features.
CARDS = {
    "uni": (303, 1024),
    "uni2-h": (681, 1536),
    "virchow": (631, 2560),
    "virchow2": (631, 2560),
    "phikon": (86, 768),
    "phikon-v2": (303, 1024),
    "h-optimus-0": (1135, 1536),
    "h-optimus-1": (1135, 1536),
    "h0-mini": (86, 1536),
    "gigapath": (1135, 1536),
    "lunit-vits16": (22, 384),
    "lunit-vits8": (22, 384),
    "lunit-resnet50-bt": (23.5, 2048),
    "kaiko-vits16": (22, 384),
    "kaiko-vits8": (22, 384),
    "kaiko-vitb16": (86, 768),
    "kaiko-vitb8": (86, 768),
    "kaiko-vitl14": (303, 1024),
    "resnet50-clam": (8.5, 1024),
    "retccl": (23.5, 2048),
    "hibou-b": (85.7, 768),
    "hibou-l": (303.7, 1024),
    "midnight-12k": (1140, 3072),
    "openmidnight": (1100, 1536),
    "gpfm": (303, 1024),
    "genbio-pathfm": (1100, 4608),
    "dinov3-vits16": (21, 384),
    "dinov3-vits16plus": (29, 384),
    "dinov3-vitb16": (86, 768),
    "dinov3-vitl16": (300, 1024),
    "dinov3-vith16plus": (840, 1280),
    "conch": (None, 512),
    "conch-v1.5": (None, 768),
    "musk": (None, 1024),
    "musk-multiscale": (None, 2048),
    "keep": (None, 768),
    "plip": (87.8, 512),
}
ROUNDED = 0.035
"""Largest relative difference to a figure of a card: the coarsest are 1.1 billion and 21 million."""


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"ctranspath"}))
def test_size_and_features_are_those_of_the_card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, where tensors have shapes and no memory; features with one block."""
    record = PUBLISHED[name]
    millions, dim = CARDS[name]
    with torch.device("meta"):
        if millions is not None:
            network = Pooled(make_trunk(record), record)
            parameters = sum(p.numel() for p in network.parameters())
            assert parameters / 1e6 == pytest.approx(millions, rel=ROUNDED)
        if record.architecture != "resnet50":
            shallow(monkeypatch, name)
        network = Pooled(make_trunk(PUBLISHED[name]), record).eval()
        features = network(torch.zeros(2, 3, record.input_px, record.input_px))
    assert features.shape == (2, dim) == (2, record.dim)
    assert name in ENCODERS


def shallow(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the architecture have one block, so that it is small."""
    record = PUBLISHED[name]
    monkeypatch.setitem(PUBLISHED, name, dataclasses.replace(record, options={**record.options, "depth": 1}))


def tiles(size: int = 224) -> Tensor:
    return torch.randint(
        0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
    )


@pytest.mark.parametrize(("name", "registers"), [("virchow", 0), ("virchow2", 4), ("h0-mini", 4)])
def test_class_token_and_mean_of_patches_without_registers(
    name: str, registers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow(monkeypatch, name)
    encoder = build_encoder(EncoderSpec(name=name, weights="random", batch_size=2), "cpu")
    trunk = make_trunk(PUBLISHED[name]).eval()
    trunk.load_state_dict(encoder._engine._trunk.trunk.state_dict())  # type: ignore[attr-defined]
    images = encoder.prepare(tiles())  # type: ignore[attr-defined]
    with torch.inference_mode():
        tokens = trunk.forward_features(images)  # type: ignore[operator]
    patches = tokens.shape[1] - 1 - registers
    assert round(patches**0.5) ** 2 == patches
    expected = torch.cat([tokens[:, 0], tokens[:, -patches:].mean(1)], 1)
    torch.testing.assert_close(encoder.encode(tiles()), expected, rtol=1e-4, atol=1e-4)


def test_gigapath_takes_the_middle() -> None:
    """Tiles have 256 px, of which the network sees the central 224."""
    from wsi_mil.encoders.networks import InputTransform, NetworkEncoder

    record = PUBLISHED["gigapath"]
    encoder = NetworkEncoder(
        EncoderModel(name="gigapath"),
        Computation(),
        torch.nn.Flatten(),
        InputTransform(record.input_px, record.mean, record.std, resize_px=record.resize_px),
    )
    batch = tiles(256)
    middle = batch[:, 16:240, 16:240].permute(0, 3, 1, 2) / 255
    expected = (middle - torch.tensor(record.mean).view(3, 1, 1)) / torch.tensor(record.std).view(3, 1, 1)
    torch.testing.assert_close(encoder.prepare(batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["uni", pytest.param("uni2-h", marks=pytest.mark.slow), "virchow2", "h0-mini"]
)
def test_a_checkpoint_with_timms_names_loads_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with other names are in test_layouts.py."""
    shallow(monkeypatch, name)
    record = PUBLISHED[name]
    torch.manual_seed(5)
    trunk = make_trunk(record).eval()
    state = {key: torch.randn_like(value) * 0.02 for key, value in trunk.state_dict().items()}
    trunk.load_state_dict(state)
    save_file({**state, "head.weight": torch.zeros(3)}, tmp_path / "w.safetensors")  # no part of the encoder
    spec = EncoderSpec(name=name, weights=str(tmp_path / "w.safetensors"), batch_size=2)
    encoder = build_encoder(spec, "cpu")
    with torch.inference_mode():
        expected = Pooled(trunk, record)(encoder.prepare(tiles()))  # type: ignore[attr-defined]
    torch.testing.assert_close(encoder.encode(tiles()), expected, rtol=1e-4, atol=1e-4)

    del state["blocks.0.norm1.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(
        EncoderError,
        match=rf"less.safetensors does not fit {name}: 1 tensors missing \['trunk.blocks.0.norm1.bias'\]",
    ):
        build_encoder(spec.model_copy(update={"weights": str(tmp_path / "less.safetensors")}), "cpu")


def test_retccls_file_is_a_resnet(tmp_path: Path) -> None:
    """The authors' file has the names of torchvision, and gives the average over the last maps of 256 px."""
    network = torchvision.models.resnet50().eval()
    torch.save({k: v for k, v in network.state_dict().items() if k[:2] != "fc"}, tmp_path / "best_ckpt.pth")
    network.fc = torch.nn.Identity()
    spec = EncoderSpec(name="retccl", weights=str(tmp_path / "best_ckpt.pth"), batch_size=2)
    encoder = build_encoder(spec, "cpu")
    images = (tiles(256) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = network(images.permute(0, 3, 1, 2))
    torch.testing.assert_close(encoder.encode(tiles(256)), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(EncoderError, match=r"retccl .* on no hub: give encoder.weights=PATH to the authors'"):
        build_encoder(EncoderSpec(name="retccl"), "cpu")


def test_clams_resnet_is_the_third_stage_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    monkeypatch.setattr(
        engines, "fold_batch_norms", lambda network, example: network
    )  # to have its own weights below
    encoder = build_encoder(EncoderSpec(name="resnet50-clam", weights="random", seed=4, batch_size=2), "cpu")
    whole = timm.create_model("resnet50", num_classes=0).eval()
    own = encoder._engine._trunk.trunk.state_dict()  # type: ignore[attr-defined]
    missing, unexpected = whole.load_state_dict(own, strict=False)
    assert not unexpected
    assert all(key.startswith("layer4.") for key in missing)
    maps: dict[str, Tensor] = {}
    whole.layer3.register_forward_hook(lambda module, given, found: maps.update(out=found))
    with torch.inference_mode():
        whole(encoder.prepare(tiles()))  # type: ignore[attr-defined]
    torch.testing.assert_close(encoder.encode(tiles()), maps["out"].mean((2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "mpp", "size_px"),
    [
        ("uni", 0.5, 224),
        ("uni", 0.5, 256),
        ("gigapath", 0.5, 256),
        ("virchow2", 1.0, 224),
        ("virchow2", 2.0, 256),
        ("ctranspath", 1.0, 256),
        ("conch", 0.5, 512),
        ("conch-v1.5", 0.5, 448),
        ("musk", 1.0, 384),
        ("gpfm", 0.25, 512),
        ("retccl", 1.0, 256),
        ("openmidnight", 4.0, 224),
        ("dinov3-vitb16", 3.0, 100),
        ("resnet50-clam", 3.0, 100),
        ("timm:resnet18", 7.0, 64),
        ("texture", 4.0, 64),
    ],
)
def test_tiles_of_the_right_scale_pass(name: str, mpp: float, size_px: int) -> None:
    refuse_other_scale(EncoderSpec(name=name), TileSpec(mpp=mpp, size_px=size_px))


def test_tiles_of_another_scale_are_refused_with_the_right_setting() -> None:
    tiles_wanted = TileSpec(mpp=1.0, size_px=224)
    with pytest.raises(
        ConfigError,
        match=r"uni was trained on 0.5 µm/px, tiles of 224 px at 1 µm/px show it 1: set tiles.mpp=0.5 "
        r"tiles.size_px=224",
    ):
        refuse_other_scale(EncoderSpec(name="uni"), tiles_wanted)
    refuse_other_scale(EncoderSpec(name="uni", any_mpp=True), tiles_wanted)
    with pytest.raises(ConfigError, match=r"show it 0.571 by enlarging: set tiles.mpp=0.5 tiles.size_px=224"):
        refuse_other_scale(EncoderSpec(name="uni"), TileSpec(mpp=1.0, size_px=128))
    with pytest.raises(ConfigError, match=r"show it 1.14: .*tiles.mpp=0.5 tiles.size_px=224"):
        refuse_other_scale(EncoderSpec(name="h-optimus-0"), TileSpec(mpp=0.5, size_px=512))


def test_weights_come_from_the_hub_under_their_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shallow(monkeypatch, "uni")
    folder = tmp_path / "models--MahmoodLab--UNI" / "snapshots" / "abc123"
    folder.mkdir(parents=True)
    torch.save(make_trunk(PUBLISHED["uni"]).state_dict(), folder / "pytorch_model.bin")
    asked: list[Any] = []

    def download(repo: str, file: str, revision: str | None) -> str:
        asked.append((repo, file, revision))
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with caplog.at_level("INFO", "wsi_mil"):
        encoder = build_encoder(EncoderSpec(name="uni", revision="v1", batch_size=2), "cpu")
    assert asked == [("MahmoodLab/UNI", "pytorch_model.bin", "v1")]
    assert encoder.dim == 1024
    assert "abc123 of MahmoodLab/UNI" in caplog.text
    assert "CC BY-NC-ND 4.0" in caplog.text


def test_no_access_and_no_network_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError

    shallow(monkeypatch, "uni")
    gated = GatedRepoError.__new__(
        GatedRepoError
    )  # its constructor wants a response of whatever client the hub uses
    for error, told in (
        (
            gated,
            r"uni .*need access: ask for it at the hub's page MahmoodLab/UNI, then set HF_TOKEN",
        ),
        (
            ConnectionError("no route"),
            r"could not be fetched from MahmoodLab/UNI \(ConnectionError\).*"
            r"encoder.weights=PATH to its pytorch_model.bin",
        ),
    ):

        def refuse(*arguments: object, error: Exception = error, **options: object) -> str:
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
        with pytest.raises(EncoderError, match=told):
            build_encoder(EncoderSpec(name="uni"), "cpu")


def test_another_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="uni takes 224 px only"):
        build_encoder(EncoderSpec(name="uni", weights="random", input_px=448), "cpu")


def test_every_alias_is_another_name_of_a_published_encoder() -> None:
    assert set(ALIASES.values()) <= set(PUBLISHED)
    assert not set(ALIASES) & set(ENCODERS)
    assert canonical_name("conch_v15") == "conch-v1.5"
    assert canonical_name("hoptimus0") == "h-optimus-0"
    assert canonical_name("uni3") == "uni3"


def test_settings_carry_one_name() -> None:
    typed, named = (EncoderSpec(name=name, precision="fp32", backend="torch") for name in ("uni_v1", "uni"))
    assert (typed.name, typed.key, typed.digest()) == ("uni", "uni", named.digest())


def test_an_alias_that_reaches_the_registry_is_refused_with_the_name() -> None:
    """Digests and stored keys carry one name only."""
    with pytest.raises(ConfigError, match=r"'uni_v1' is another name of uni: write encoder.name=uni"):
        check_encoder("uni_v1")
    with pytest.raises(ConfigError, match=r"Nearest: .*'hibou-"):
        check_encoder("hibou_xl")


def facts(name: str) -> list[str]:
    """The facts of a record as docs/encoders.md states them."""
    record = PUBLISHED[name]
    usual = {
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "ImageNet",
        ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)): "OpenAI",
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "0.5 / 0.5",
    }
    numbers = " / ".join(", ".join(str(value) for value in triple) for triple in (record.mean, record.std))
    size = "" if record.resize_px == record.input_px else f"{record.resize_px} -> "
    return [
        f"`{name}`",
        f"`{record.architecture}`",
        str(record.dim),
        record.pooling,
        f"{size}{record.input_px}",
        record.interpolation,
        ", ".join(f"{mpp:g}" for mpp in record.mpps) or "any",
        usual.get((record.mean, record.std), numbers),
        record.precision,
        record.licence,
        f"{record.hub}: {record.file}" if record.hub else f"- ({record.file})",
        record.layout,
    ]


def test_the_document_has_the_facts_of_every_encoder_and_their_sources() -> None:
    text = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    table, sources = text.split("## Sources")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:3] == "| `"
    ]
    assert rows == [facts(name) for name in sorted(PUBLISHED)]
    named = re.findall(r"^\| (`.*?) \|", sources.split("## What changed")[0], re.MULTILINE)
    found = {name for cell in named for name in re.findall(r"`([^`]+)`", cell)}
    dinov3 = {name for name in PUBLISHED if name.startswith("dinov3-")}
    assert found - {"dinov3-*"} == set(PUBLISHED) - dinov3
