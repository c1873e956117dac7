"""Build published pathology encoders from their records: architecture, pooling and names of the weights."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from wsi_mil.encoders.networks import InputTransform, NetworkEncoder
from wsi_mil.encoders.published import PUBLISHED, Published
from wsi_mil.encoders.spec import Computation, EncoderModel
from wsi_mil.encoders.weights import load_trunk, read_checkpoint
from wsi_mil.errors import ConfigError, EncoderError
from wsi_mil.logs import logger


def build_published(model: EncoderModel, computation: Computation) -> NetworkEncoder:
    """Return a published encoder and log the licence of the weights that it loads.

    `model.weights`: pretrained (from the hub through huggingface_hub; HF_TOKEN where access is granted on
    request), the path of a checkpoint with the published names, or random. Raises ConfigError for another
    input size, and EncoderError if the weights cannot be loaded.
    """
    record = PUBLISHED[model.name]
    if model.input_px not in (None, record.input_px):
        raise ConfigError(
            f"encoder.input_px={model.input_px}: {model.name} takes {record.input_px} px only; leave it out"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        trunk = make_trunk(record)
    if model.weights != "random":
        path = fetch(model, record) if model.weights == "pretrained" else Path(model.weights)
        load_trunk(trunk, names_of_timm(read_checkpoint(path), record.layout), model.name, path.name)
        logger().info("encoder %s: weights under %s", model.name, record.licence)
    transform = InputTransform(
        record.input_px, record.mean, record.std, record.interpolation, record.resize_px
    )
    return NetworkEncoder(model, computation, Pooled(trunk, record), transform)


def make_trunk(record: Published, **changes: object) -> nn.Module:
    """Return the architecture with random weights and no head.

    `changes`: options that differ from the record's (depth=1 for tests).
    """
    import timm

    options: dict[str, object] = {**record.options, **changes}
    if "mlp_layer" in options:
        options["mlp_layer"] = getattr(timm.layers, str(options["mlp_layer"]))
    if "act_layer" in options:
        options["act_layer"] = getattr(nn, str(options["act_layer"]))
    if "norm_eps" in options:
        options["norm_layer"] = partial(nn.LayerNorm, eps=options.pop("norm_eps"))  # type: ignore[arg-type]
    if not options.get("features_only"):
        options["num_classes"] = 0
    trunk: nn.Module = timm.create_model(record.architecture, pretrained=False, **options)
    return trunk


@final
class Pooled(nn.Module):
    """A network that returns one vector per tile, pooled as its record says.

    Its tensors keep the network's names.
    """

    def __init__(self, trunk: nn.Module, record: Published) -> None:
        super().__init__()
        self.trunk = trunk
        self._pooling = record.pooling
        self._features_only = bool(record.options.get("features_only"))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, dim) features of prepared images (B, 3, S, S)."""
        if self._features_only:
            maps: Tensor = self.trunk(images)[-1]
            return maps.mean((2, 3))  # (B, C, h, w) -> (B, C)
        if self._pooling == "pooled":
            pooled: Tensor = self.trunk(images)
            return pooled
        # -> (B, 1 + registers + patches, D)
        tokens: Tensor = self.trunk.forward_features(images)  # type: ignore[operator]
        if self._pooling == "class":
            return tokens[:, 0]
        patches = tokens[:, int(self.trunk.num_prefix_tokens) :]  # type: ignore[arg-type]
        return torch.cat([tokens[:, 0], patches.mean(1)], 1)


def fetch(model: EncoderModel, record: Published) -> Path:
    """Return the path of the hub's checkpoint, which is downloaded at most once.

    Raises EncoderError that says what to do if it cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        path = Path(hf_hub_download(record.hub, record.file, revision=model.revision))
    except GatedRepoError as error:
        raise EncoderError(
            f"the weights of {model.name} ({record.licence}) need access: ask for it at the hub's page "
            f"{record.hub}, then set HF_TOKEN"
        ) from error
    except Exception as error:
        raise EncoderError(
            f"the weights of {model.name} could not be fetched from {record.hub} ({type(error).__name__}). "
            f"Offline? Give encoder.weights=PATH to its {record.file}, or say encoder.weights=random"
        ) from error
    logger().info("encoder %s: %s of %s", model.name, _commit(path) or record.file, record.hub)
    return path


def _commit(path: Path) -> str | None:
    """Return the commit that names a file's folder in the hub's cache; None for a file elsewhere."""
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
"""Names of tensors in transformers' ViT and Dinov2 -> names in timm's."""
QKV = re.compile(r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$")


def names_of_timm(tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under timm's names.

    `layout`: timm (returned as it is), or vit and dinov2 for the names of transformers, where query, key and
    value are three tensors that timm keeps in one. Raises EncoderError if one of the three is missing.
    """
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
