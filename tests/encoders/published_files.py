"""Checkpoints of published encoders with one block: names from the authors' code, and what they compute.

The names are written down here as the authors' code has them (docs/encoders.md), and `class_tokens` computes
in plain operations what that code computes, so that neither depends on our translation or on timm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = dict[str, Tensor]

TRANSFORMERS = {
    "class": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
    "patch": "embeddings.patch_embeddings.projection",
    "query": "encoder.layer.0.attention.attention.query",
    "key": "encoder.layer.0.attention.attention.key",
    "value": "encoder.layer.0.attention.attention.value",
    "out": "encoder.layer.0.attention.output.dense",
    "norm": "layernorm",
}
VIT = {
    **TRANSFORMERS,
    "norm1": "encoder.layer.0.layernorm_before",
    "norm2": "encoder.layer.0.layernorm_after",
    "up": "encoder.layer.0.intermediate.dense",
    "down": "encoder.layer.0.output.dense",
}
DINOV2 = {
    **TRANSFORMERS,
    "mask": "embeddings.mask_token",
    "norm1": "encoder.layer.0.norm1",
    "norm2": "encoder.layer.0.norm2",
    "scale1": "encoder.layer.0.layer_scale1.lambda1",
    "scale2": "encoder.layer.0.layer_scale2.lambda1",
    "up": "encoder.layer.0.mlp.fc1",
    "down": "encoder.layer.0.mlp.fc2",
}
GATED = {"up": "encoder.layer.0.mlp.weights_in", "down": "encoder.layer.0.mlp.weights_out"}
META = {
    "class": "cls_token",
    "positions": "pos_embed",
    "mask": "mask_token",
    "patch": "patch_embed.proj",
    "norm1": "blocks.0.norm1",
    "qkv": "blocks.0.attn.qkv",
    "out": "blocks.0.attn.proj",
    "scale1": "blocks.0.ls1.gamma",
    "norm2": "blocks.0.norm2",
    "up": "blocks.0.mlp.fc1",
    "down": "blocks.0.mlp.fc2",
    "scale2": "blocks.0.ls2.gamma",
    "norm": "norm",
}
DINOV3 = {name: place for name, place in META.items() if name != "positions"} | {
    "registers": "storage_tokens",
    "periods": "rope_embed.periods",
}
CLIP = {
    "class": "vision_model.embeddings.class_embedding",
    "positions": "vision_model.embeddings.position_embedding.weight",
    "patch": "vision_model.embeddings.patch_embedding",
    "norm0": "vision_model.pre_layrnorm",
    "query": "vision_model.encoder.layers.0.self_attn.q_proj",
    "key": "vision_model.encoder.layers.0.self_attn.k_proj",
    "value": "vision_model.encoder.layers.0.self_attn.v_proj",
    "out": "vision_model.encoder.layers.0.self_attn.out_proj",
    "norm1": "vision_model.encoder.layers.0.layer_norm1",
    "norm2": "vision_model.encoder.layers.0.layer_norm2",
    "up": "vision_model.encoder.layers.0.mlp.fc1",
    "down": "vision_model.encoder.layers.0.mlp.fc2",
    "norm": "vision_model.post_layernorm",
}
BEIT3 = {
    "class": "beit3.vision_embed.cls_token",
    "mask": "beit3.vision_embed.mask_token",
    "positions": "beit3.encoder.embed_positions.A.weight",
    "patch": "beit3.vision_embed.proj",
    "query": "beit3.encoder.layers.0.self_attn.q_proj.A",
    "key": "beit3.encoder.layers.0.self_attn.k_proj.A",
    "value": "beit3.encoder.layers.0.self_attn.v_proj.A",
    "inner_norm": "beit3.encoder.layers.0.self_attn.inner_attn_ln.A",
    "out": "beit3.encoder.layers.0.self_attn.out_proj.A",
    "norm1": "beit3.encoder.layers.0.self_attn_layer_norm.A",
    "norm2": "beit3.encoder.layers.0.final_layer_norm.A",
    "up": "beit3.encoder.layers.0.ffn.A.fc1",
    "up_norm": "beit3.encoder.layers.0.ffn.A.ffn_layernorm",
    "down": "beit3.encoder.layers.0.ffn.A.fc2",
    "norm": "beit3.encoder.layer_norm.A",
}


@dataclass(frozen=True)
class File:
    """A published file: the name of each part, and the sizes of the network.

    `grid`: patches per side of its position embeddings. `gate`: whether the inner layer (`inner` wide) is
    gated; its two maps are one tensor (`up`), or two (`up` and `other`). `quick`: CLIP's form of GELU.
    """

    names: Mapping[str, str]
    width: int
    heads: int
    patch: int
    grid: int
    inner: int
    gate: bool = False
    eps: float = 1e-6
    registers: int = 0
    colours: int = 3
    quick: bool = False

    def tensors(self, seed: int = 0) -> Tensors:
        """Return random tensors under the published names."""
        draw = torch.Generator().manual_seed(seed)
        w, n, both = self.width, self.grid**2, 2 if self.gate and "other" not in self.names else 1
        one: dict[str, tuple[int, ...]] = {
            "class": (w,) if self.quick else (1, 1, w),
            "mask": (1, w),
            "positions": (1, 1 + n, w),
            "registers": (1, self.registers, w),
            "scale1": (w,),
            "scale2": (w,),
            "periods": (w // self.heads // 4,),
        }
        if "norm0" in self.names:
            one["positions"] = (1 + n, w)
        if "inner_norm" in self.names:
            one["positions"] = (2 + 1 + n, w)
        maps: dict[str, tuple[int, ...]] = {
            "patch": (w, self.colours, self.patch, self.patch),
            "qkv": (3 * w, w),
            "up": (both * self.inner, w),
            "other": (self.inner, w),
            "down": (w, self.inner),
        }
        found: Tensors = {}
        for part, name in self.names.items():
            if part in one:
                found[name] = torch.randn(one[part], generator=draw) * 0.3
                continue
            size = maps.get(part, (w, w))
            if "norm" in part:
                width = self.inner if part == "up_norm" else w
                found[f"{name}.weight"] = 1 + 0.3 * torch.randn(width, generator=draw)
                found[f"{name}.bias"] = 0.3 * torch.randn(width, generator=draw)
                continue
            found[f"{name}.weight"] = 0.02 * torch.randn(size, generator=draw)
            if not (part == "patch" and "norm0" in self.names) and not (part == "qkv" and self.bare):
                found[f"{name}.bias"] = 0.1 * torch.randn(size[0], generator=draw)
        return found

    @property
    def bare(self) -> bool:
        """Whether query, key and value have no bias."""
        return "periods" in self.names


def tokens_of(file: File, published: Tensors, images: Tensor, positions: Tensor | None = None) -> Tensor:
    """Return (B, 1 + registers + patches, D) of prepared images. `positions` replaces those of the file."""
    w = _Parts(file, published)
    x = F.conv2d(images, w["patch.weight"], w.get("patch.bias"), stride=file.patch).flatten(2).transpose(1, 2)
    x = torch.cat([w["class"].reshape(1, 1, -1).expand(len(x), -1, -1), x], 1)
    if "positions" in file.names:
        own = w["positions"].reshape(1, -1, file.width)
        x = x + (own[:, own.shape[1] - 1 - file.grid**2 :] if positions is None else positions)
    if file.registers:
        x = torch.cat([x[:, :1], w["registers"].expand(len(x), -1, -1), x[:, 1:]], 1)
    if "norm0" in file.names:
        x = w.norm("norm0", x)
    x = x + w.get("scale1", 1) * _attention(file, w, w.norm("norm1", x))
    x = x + w.get("scale2", 1) * _mlp(file, w, w.norm("norm2", x))
    return w.norm("norm", x)


class _Parts(dict[str, Tensor]):
    def __init__(self, file: File, published: Tensors) -> None:
        names = {part: name for part, name in file.names.items() if name in published}
        super().__init__({part: published[name] for part, name in names.items()})
        for part, name in file.names.items():
            self.update(
                {
                    f"{part}.{end}": published[f"{name}.{end}"]
                    for end in ("weight", "bias")
                    if f"{name}.{end}" in published
                }
            )
        self.eps = file.eps

    def norm(self, part: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self[f"{part}.weight"], self[f"{part}.bias"], self.eps)

    def map(self, part: str, x: Tensor) -> Tensor:
        return F.linear(x, self[f"{part}.weight"], self.get(f"{part}.bias"))


def _attention(file: File, w: _Parts, x: Tensor) -> Tensor:
    parts = (
        w.map("qkv", x).chunk(3, -1)
        if "qkv" in file.names
        else [w.map(p, x) for p in ("query", "key", "value")]
    )
    query, key, value = (part.unflatten(-1, (file.heads, -1)).transpose(1, 2) for part in parts)
    if file.bare:
        query, key = (_turned(part, round((x.shape[1] - 1 - file.registers) ** 0.5)) for part in (query, key))
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    joined = (weights @ value).transpose(1, 2).flatten(2)
    return w.map("out", w.norm("inner_norm", joined) if "inner_norm" in file.names else joined)


def _turned(x: Tensor, side: int) -> Tensor:
    """Rotary embedding of DINOv3 on the patches: base 100, positions from -1 to 1, halves rotated."""
    quarter = x.shape[-1] // 4
    periods = 100 ** (2 * torch.arange(quarter) / (2 * quarter))
    place = 2 * (torch.arange(side) + 0.5) / side - 1
    y, z = torch.meshgrid(place, place, indexing="ij")
    angles = 2 * torch.pi * torch.stack([y, z], -1).reshape(-1, 2, 1) / periods  # (N, 2, D / 4)
    angles = angles.flatten(1).repeat(1, 2)
    kept, patches = x[..., : -(side**2), :], x[..., -(side**2) :, :]
    first, second = patches.chunk(2, -1)
    turned = patches * angles.cos() + torch.cat([-second, first], -1) * angles.sin()
    return torch.cat([kept, turned], -2)


def _mlp(file: File, w: _Parts, x: Tensor) -> Tensor:
    if file.gate:
        up, other = (
            (w.map("up", x), w.map("other", x)) if "other" in file.names else w.map("up", x).chunk(2, -1)
        )
        return w.map("down", F.silu(up) * other)
    up = w.map("up", x)
    up = up * torch.sigmoid(1.702 * up) if file.quick else F.gelu(up)
    return w.map("down", w.norm("up_norm", up) if "up_norm" in file.names else up)


FILES: dict[str, File] = {
    "phikon": File({p: f"vit.{n}" for p, n in VIT.items()}, 768, 12, 16, 14, 3072, eps=1e-12),
    "phikon-v2": File(DINOV2, 1024, 16, 16, 14, 4096),
    "hibou-b": File(
        DINOV2 | GATED | {"registers": "embeddings.register_tokens"}, 768, 12, 14, 16, 2048, True, registers=4
    ),
    "hibou-l": File(
        DINOV2 | GATED | {"registers": "embeddings.register_tokens"},
        1024,
        16,
        14,
        16,
        2736,
        True,
        registers=4,
    ),
    "midnight-12k": File(DINOV2 | GATED, 1536, 24, 14, 37, 4096, True),
    "openmidnight": File(
        META | {"registers": "register_tokens", "up": "blocks.0.mlp.w12", "down": "blocks.0.mlp.w3"},
        1536,
        24,
        14,
        16,
        4096,
        True,
        registers=4,
    ),
    "gpfm": File(META, 1024, 16, 14, 16, 4096),
    "dinov3-vitb16": File(DINOV3, 768, 12, 16, 16, 3072, eps=1e-5, registers=4),
    "dinov3-vits16plus": File(
        DINOV3 | {"up": "blocks.0.mlp.w1", "other": "blocks.0.mlp.w2", "down": "blocks.0.mlp.w3"},
        384,
        6,
        16,
        16,
        1536,
        True,
        eps=1e-5,
        registers=4,
    ),
    "genbio-pathfm": File(
        DINOV3 | {"up": "blocks.0.mlp.w1", "other": "blocks.0.mlp.w2", "down": "blocks.0.mlp.w3"},
        1536,
        24,
        16,
        14,
        4096,
        True,
        registers=4,
        colours=1,
    ),
    "plip": File(CLIP, 768, 12, 32, 7, 3072, eps=1e-5, quick=True),
    "musk": File(BEIT3, 1024, 16, 16, 24, 4096, eps=1e-5),
    "musk-multiscale": File(BEIT3, 1024, 16, 16, 24, 4096, eps=1e-5),
    "conch": File(
        {p: f"visual.trunk.{n}" for p, n in META.items() if p[:5] not in ("mask", "scale")},
        768,
        12,
        16,
        28,
        3072,
    ),
    "conch-v1.5": File({p: f"trunk.{n}" for p, n in META.items() if p != "mask"}, 1024, 16, 16, 14, 4096),
    "keep": File(
        {p: f"visual.{n.replace('gamma', 'weight')}" for p, n in META.items() if p != "mask"},
        1024,
        16,
        16,
        14,
        4096,
    ),
}
"""One file for each way of naming; the other sizes of a family have the same names."""
