"""Published pathology encoders built from their records: timm's architecture, the authors' options, pooling and checkpoint names."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsi_mil.encoders.networks import NetworkEncoder
from wsi_mil.encoders.published import PUBLISHED, Published
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.encoders.weights import load_trunk, read_checkpoint
from wsi_mil.errors import ConfigError, EncoderError
from wsi_mil.logs import logger


def build_published(spec: EncoderSpec, device: torch.device) -> NetworkEncoder:
    """Return a published encoder: `pretrained` from the hub (huggingface_hub, HF_TOKEN where access is on request), a checkpoint of
    the published layout from a path, or random weights. Says the licence of what it loads."""
    record = PUBLISHED[spec.name]
    if spec.input_px not in (None, record.input_px):
        raise ConfigError(
            f"encoder.input_px={spec.input_px}: {spec.name} takes {record.input_px} px only; leave it out"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        trunk = make_trunk(record)
    if spec.weights != "random":
        path = fetch(spec, record) if spec.weights == "pretrained" else Path(spec.weights)
        load_trunk(trunk, names_of_timm(read_checkpoint(path), record.layout), spec.name, path.name)
        logger().info("encoder %s: weights under %s", spec.name, record.licence)
    return NetworkEncoder(
        spec,
        Pooled(trunk, record),
        device,
        mean=record.mean,
        std=record.std,
        input_px=record.input_px,
        interpolation=record.interpolation,
        resize_px=record.resize_px,
    )


def make_trunk(record: Published, **changes: Any) -> nn.Module:
    """Return the architecture with random weights and no head; `changes`: other options (depth=1 for tests)."""
    import timm

    options: dict[str, Any] = {**record.options, **changes}
    if "mlp_layer" in options:
        options["mlp_layer"] = getattr(timm.layers, options["mlp_layer"])
    if "act_layer" in options:
        options["act_layer"] = getattr(nn, options["act_layer"])
    if "norm_eps" in options:
        options["norm_layer"] = partial(nn.LayerNorm, eps=options.pop("norm_eps"))
    if not options.get("features_only"):
        options["num_classes"] = 0
    trunk: nn.Module = timm.create_model(record.architecture, pretrained=False, **options)
    return trunk


class Pooled(nn.Module):
    """One vector a tile, as the record says. Its tensors are those of the network, under the network's names."""

    def __init__(self, trunk: nn.Module, record: Published) -> None:
        super().__init__()
        self.trunk = trunk
        self._pooling = record.pooling
        self._features_only = bool(record.options.get("features_only"))

    def forward(self, images: Tensor) -> Tensor:
        if self._features_only:
            maps: Tensor = self.trunk(images)[-1]
            return maps.mean((2, 3))  # (B, C, h, w) -> (B, C)
        if self._pooling == "pooled":
            pooled: Tensor = self.trunk(images)
            return pooled
        tokens: Tensor = self.trunk.forward_features(images)  # type: ignore[operator]  # -> (B, 1 + registers + patches, D)
        if self._pooling == "class":
            return tokens[:, 0]
        patches = tokens[:, int(self.trunk.num_prefix_tokens) :]  # type: ignore[arg-type]
        return torch.cat([tokens[:, 0], patches.mean(1)], 1)


def fetch(spec: EncoderSpec, record: Published) -> Path:
    """Return the hub's checkpoint on disk, fetched once. Raises EncoderError with what to do where it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        path = Path(hf_hub_download(record.hub, record.file, revision=spec.revision))
    except GatedRepoError as error:
        raise EncoderError(
            f"the weights of {spec.name} ({record.licence}) need access: ask for it at the hub's page {record.hub}, then set HF_TOKEN"
        ) from error
    except Exception as error:
        raise EncoderError(
            f"the weights of {spec.name} could not be fetched from {record.hub} ({type(error).__name__}). Offline? Give "
            f"encoder.weights=PATH to its {record.file}, or say encoder.weights=random"
        ) from error
    logger().info("encoder %s: %s of %s", spec.name, _commit(path) or record.file, record.hub)
    return path


def _commit(path: Path) -> str | None:
    """The hub's cache names a snapshot's folder by its commit."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None


VIT = {
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.": r"blocks.\1.attn.proj.",
    r"^encoder\.layer\.(\d+)\.intermediate\.dense\.": r"blocks.\1.mlp.fc1.",
    r"^encoder\.layer\.(\d+)\.output\.dense\.": r"blocks.\1.mlp.fc2.",
    r"^encoder\.layer\.(\d+)\.mlp\.": r"blocks.\1.mlp.",
    r"^encoder\.layer\.(\d+)\.(?:layernorm_before|norm1)\.": r"blocks.\1.norm1.",
    r"^encoder\.layer\.(\d+)\.(?:layernorm_after|norm2)\.": r"blocks.\1.norm2.",
    r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$": r"blocks.\1.ls\2.gamma",
    r"^layernorm\.": "norm.",
}
QKV = re.compile(r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$")


def names_of_timm(tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Return a checkpoint of transformers' ViT or Dinov2 (`layout` vit, dinov2) under timm's names: query, key and value in one."""
    if layout == "timm":
        return dict(tensors)
    tensors = {re.sub(r"^(vit|dinov2|model)\.", "", key): value for key, value in tensors.items()}
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if match := QKV.match(key):
            parts = [tensors.get(key.replace("query", part)) for part in ("query", "key", "value")]
            if not all(part is not None for part in parts):
                raise EncoderError(f"the checkpoint has {key} without its key and value")
            found[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat(
                [part for part in parts if part is not None]
            )
            continue
        for pattern, name in VIT.items():
            renamed, count = re.subn(pattern, name, key)
            if count:
                found[renamed] = value
                break
    return found
