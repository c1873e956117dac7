"""Checkpoints with the published names load whole and give the features that the authors' code gives."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tests.encoders.published_files import FILES, Tensors, tokens_of
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.encoders.grids import fit_grid
from wsi_mil.encoders.heads import Pooled
from wsi_mil.encoders.layouts import network_tensors
from wsi_mil.encoders.pathology import make_trunk
from wsi_mil.encoders.published import PUBLISHED
from wsi_mil.encoders.weights import load_trunk
from wsi_mil.errors import EncoderError

SIZES = {
    "conch": {
        "visual.attn_pool_contrast.query": (1, 512),
        "visual.attn_pool_contrast.attn.q_proj_weight": (512, 512),
        "visual.attn_pool_contrast.attn.k_proj_weight": (512, 768),
        "visual.attn_pool_contrast.attn.v_proj_weight": (512, 768),
        "visual.attn_pool_contrast.attn.in_proj_bias": (1536,),
        "visual.attn_pool_contrast.attn.out_proj.weight": (512, 512),
        "visual.attn_pool_contrast.attn.out_proj.bias": (512,),
        "visual.attn_pool_contrast.ln_q.weight": (512,),
        "visual.attn_pool_contrast.ln_q.bias": (512,),
        "visual.attn_pool_contrast.ln_k.weight": (768,),
        "visual.attn_pool_contrast.ln_k.bias": (768,),
        "visual.ln_contrast.weight": (512,),
        "visual.ln_contrast.bias": (512,),
    },
    "conch-v1.5": {
        "attn_pool_contrast.query": (1, 768),
        "attn_pool_contrast.ln_q.weight": (768,),
        "attn_pool_contrast.ln_q.bias": (768,),
        "attn_pool_contrast.ln_k.weight": (1024,),
        "attn_pool_contrast.ln_k.bias": (1024,),
        "attn_pool_contrast.to_q.weight": (768, 768),
        "attn_pool_contrast.to_kv.weight": (1536, 1024),
        "attn_pool_contrast.to_out.weight": (768, 768),
        "ln_contrast.weight": (768,),
        "ln_contrast.bias": (768,),
    },
    "keep": {
        "visual_head.0.weight": (768, 1024),
        "visual_head.0.bias": (768,),
        "visual_head.2.weight": (768, 768),
        "visual_head.2.bias": (768,),
    },
    "plip": {"visual_projection.weight": (512, 768)},
}
"""The trained parts after the network, by published name."""
UNUSED = {
    "conch": {
        "visual.proj_contrast": (512, 512),
        "visual.ln_caption.weight": (768,),
        "text.ln.weight": (768,),
    },
    "musk": {"beit3.text_embed.weight": (5, 1024), "beit3.encoder.layer_norm.B.weight": (1024,)},
    "keep": {"text.embeddings.word_embeddings.weight": (5, 768), "logit_scale": ()},
    "plip": {"text_model.final_layer_norm.weight": (512,), "text_projection.weight": (512, 512)},
    "phikon": {"vit.pooler.dense.weight": (768, 768)},
}
"""Tensors of the published files that no tile encoder needs."""
LARGE = {"musk-multiscale", "midnight-12k", "openmidnight", "genbio-pathfm"}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in FILES]


def shallow(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the architecture have one block, so that it is small."""
    record = PUBLISHED[name]
    monkeypatch.setitem(PUBLISHED, name, dataclasses.replace(record, options={**record.options, "depth": 1}))


def tiles(size: int) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (2, size, size, 3), generator=draw, dtype=torch.uint8)


def checkpoint(name: str) -> Tensors:
    draw = torch.Generator().manual_seed(7)
    more = {**SIZES.get(name, {}), **UNUSED.get(name, {})}
    return FILES[name].tensors() | {
        key: 0.05 * torch.randn(size, generator=draw) for key, size in more.items()
    }


def keys_cubic(old: int, new: int, step: float) -> Tensor:
    """Return (new, old) weights of cubic convolution with a = -0.75 (Keys 1981), edges repeated."""
    a = -0.75
    weights = torch.zeros(new, old)
    for row in range(new):
        place = (row + 0.5) * step - 0.5
        for column in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            d = abs(place - column)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            weight = near if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[row, min(max(column, 0), old - 1)] += weight
    return weights


def resampled(positions: Tensor, new: int, step: float) -> Tensor:
    """Return (1, 1 + new^2, D) of (1, 1 + old^2, D): rows and columns of patches are resampled in turn."""
    old = round((positions.shape[1] - 1) ** 0.5)
    weights = keys_cubic(old, new, step)
    maps = torch.einsum("ai,ijd,bj->abd", weights, positions[0, 1:].unflatten(0, (old, old)), weights)
    return torch.cat([positions[:, :1], maps.flatten(0, 1)[None]], 1)


def expected_features(name: str, published: Tensors, images: Tensor) -> Tensor:
    """What the authors' code computes of prepared images, written in plain operations."""
    file = FILES[name]
    if name == "genbio-pathfm":  # red, green and blue are three images of one colour
        each = [tokens_of(file, published, images[:, [colour]])[:, 0] for colour in range(3)]
        return torch.cat(each, 1)
    if name == "musk-multiscale":  # the whole image, and the mean of its quarters at twice the size
        rows = torch.einsum("ai,bcij,dj->bcad", keys_cubic(384, 768, 0.5), images, keys_cubic(384, 768, 0.5))
        parts = [rows[..., y : y + 384, x : x + 384] for y in (0, 384) for x in (0, 384)]
        small, *large = (tokens_of(file, published, part)[:, 0] for part in (images, *parts))
        return torch.cat([small, torch.stack(large).mean(0)], 1)
    positions = None
    if name == "midnight-12k":
        positions = resampled(published["embeddings.position_embeddings"], 16, 37 / 16)
    if name == "conch-v1.5":  # iBOT's code scales by (28 + 0.1) / 14
        positions = resampled(published["trunk.pos_embed"], 28, 14 / 28.1)
    tokens = tokens_of(file, published, images, positions)
    if name == "midnight-12k":
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
    if name.startswith("conch"):
        return attended(name, published, tokens)
    if name == "keep":
        one = F.linear(tokens[:, 0], published["visual_head.0.weight"], published["visual_head.0.bias"])
        two = F.linear(F.gelu(one), published["visual_head.2.weight"], published["visual_head.2.bias"])
        return two / two.norm(dim=1, keepdim=True)
    return tokens[:, 0] @ published["visual_projection.weight"].T if name == "plip" else tokens[:, 0]


def attended(name: str, published: Tensors, tokens: Tensor) -> Tensor:
    """Attentional pooling with one query and 8 heads, head by head."""
    root = "visual." if name == "conch" else ""
    w = {key.removeprefix(f"{root}attn_pool_contrast."): value for key, value in published.items()}

    def norm(place: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{place}.weight"], w[f"{place}.bias"])

    known, query = norm("ln_k", tokens), norm("ln_q", w["query"])
    if name == "conch":
        bias = w["attn.in_proj_bias"].split(512)
        maps = [w[f"attn.{one}_proj_weight"] for one in "qkv"]
        q, k, v = (F.linear(x, m, b) for x, m, b in zip((query, known, known), maps, bias, strict=True))
    else:
        q, (k, v) = F.linear(query, w["to_q.weight"]), F.linear(known, w["to_kv.weight"]).chunk(2, -1)
    heads = []
    for one, key, value in zip(q.chunk(8, -1), k.chunk(8, -1), v.chunk(8, -1), strict=True):
        weights = (key @ one[0] / one.shape[-1] ** 0.5).softmax(1)  # (B, N)
        heads.append(torch.einsum("bn,bnd->bd", weights, value))
    joined = torch.cat(heads, 1)
    if name == "conch":
        found = F.linear(joined, w["attn.out_proj.weight"], w["attn.out_proj.bias"])
    else:
        found = F.linear(joined, w["to_out.weight"])
    width = found.shape[1:]
    return F.layer_norm(
        found, width, published[f"{root}ln_contrast.weight"], published[f"{root}ln_contrast.bias"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_published_file_gives_the_features_of_the_authors_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow(monkeypatch, name)
    published = checkpoint(name)
    save_file({key: value.contiguous() for key, value in published.items()}, tmp_path / "w.safetensors")
    spec = EncoderSpec(name=name, weights=str(tmp_path / "w.safetensors"), batch_size=2)
    encoder = build_encoder(spec, "cpu")
    batch = tiles(PUBLISHED[name].resize_px)
    images = encoder.prepare(batch)  # type: ignore[attr-defined]
    expected = expected_features(name, published, images)
    assert expected.shape == (2, PUBLISHED[name].dim)
    assert expected.std() > 0.01
    torch.testing.assert_close(encoder.encode(batch), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_the_network_must_be_in_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow(monkeypatch, name)
    record, published = PUBLISHED[name], checkpoint(name)
    with torch.device("meta"):
        network = Pooled(make_trunk(record), record)
    file = FILES[name]
    unused = {file.names.get("mask"), file.names.get("periods"), *UNUSED.get(name, {})}
    needed = [key for key in published if key not in unused]
    assert len(needed) > 15
    with torch.device("meta"):  # tensors without memory: only names and shapes matter here
        shapes = {key: torch.zeros(value.shape) for key, value in published.items()}
    for key in needed:
        with pytest.raises(EncoderError, match=r"w does not fit|without its key and value"):
            load_trunk(
                network,
                network_tensors({k: v for k, v in shapes.items() if k != key}, record.layout),
                name,
                "w",
            )


def test_a_missing_tensor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow(monkeypatch, "plip")
    published = checkpoint("plip")
    del published["visual_projection.weight"], published["vision_model.post_layernorm.bias"]
    save_file(published, tmp_path / "less.safetensors")
    with pytest.raises(
        EncoderError,
        match=r"less.safetensors does not fit plip: 2 tensors missing \['trunk.norm.bias', 'head.weight'\]",
    ):
        build_encoder(EncoderSpec(name="plip", weights=str(tmp_path / "less.safetensors")), "cpu")


def test_query_without_key_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"query of blocks.0.attn without its key and value"):
        network_tensors({"encoder.layer.0.attention.attention.query.bias": torch.zeros(3)}, "vit")


def test_gpfms_training_file_loads_too() -> None:
    """Its GitHub release has the teacher's names: a prefix, blocks in chunks, and heads."""
    plain = FILES["gpfm"].tensors()
    chunked = {f"backbone.{key.replace('blocks.0.', 'blocks.0.0.')}": value for key, value in plain.items()}
    assert "backbone.blocks.0.0.ls1.gamma" in chunked
    found = network_tensors({**chunked, "dino_head.mlp.0.weight": torch.zeros(2)}, "vit")
    own = network_tensors(plain, "vit")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)
    assert "trunk.blocks.0.attn.qkv.weight" in own


def test_dinov3_with_biases_that_matter_is_refused() -> None:
    published = FILES["dinov3-vitb16"].tensors()
    bias = torch.zeros(3, 768)
    bias[1] = 4.0  # that of the key changes no attention weight
    translated = network_tensors({**published, "blocks.0.attn.qkv.bias": bias.flatten()}, "dinov3")
    assert translated.keys() == network_tensors(published, "dinov3").keys()
    bias[2, 5] = 0.1
    with pytest.raises(EncoderError, match=r"blocks.0.attn.qkv.bias is not 0"):
        network_tensors({**published, "blocks.0.attn.qkv.bias": bias.flatten()}, "dinov3")


def test_positions_of_another_grid() -> None:
    """As timm resamples (kaiko-vitl14 has those of 518 px): Pillow's bicubic filter is the same one."""
    own = torch.zeros(1, 16 * 16, 3)
    published = torch.randn(1, 37 * 37, 3, generator=torch.Generator().manual_seed(1))
    found = fit_grid({"trunk.pos_embed": published}, own, 0, "timm")["trunk.pos_embed"]
    maps = published[0].reshape(37, 37, 3).numpy()
    expected = [
        np.asarray(Image.fromarray(maps[..., channel]).resize((16, 16), Image.Resampling.BICUBIC))
        for channel in range(3)
    ]
    np.testing.assert_allclose(found[0].reshape(16, 16, 3).numpy(), np.stack(expected, -1), atol=1e-5)
    assert PUBLISHED["kaiko-vitl14"].grid == "timm"


@pytest.mark.parametrize("shape", [(1, 16 * 16, 3), (1, 37 * 37, 4), (1, 37 * 37 + 1, 3), (37 * 37, 3)])
def test_positions_that_fit_or_cannot_be_resampled_stay(shape: tuple[int, ...]) -> None:
    positions = torch.randn(shape)
    for grid in ("same", "timm"):
        found = fit_grid({"trunk.pos_embed": positions}, torch.zeros(1, 16 * 16, 3), 0, grid)  # type: ignore[arg-type]
        assert found["trunk.pos_embed"] is positions
