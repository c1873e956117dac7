"""Build published pathology encoders from their records: architecture, pooling and names of the weights."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from wsi_mil.encoders.grids import fit_grid
from wsi_mil.encoders.heads import Pooled
from wsi_mil.encoders.layouts import network_tensors
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
        network = Pooled(make_trunk(record), record)
    if model.weights != "random":
        path = fetch(model, record) if model.weights == "pretrained" else Path(model.weights)
        load_published(network, path, model.name)
        logger().info("encoder %s: weights under %s", model.name, record.licence)
    transform = InputTransform(
        record.input_px, record.mean, record.std, record.interpolation, record.resize_px
    )
    return NetworkEncoder(model, computation, network, transform)


def load_published(network: Pooled, path: Path, name: str) -> None:
    """Load a checkpoint with the published names: every tensor of the network must be there with its shape.

    `name`: the encoder. Raises EncoderError if the file cannot be read or does not fit.
    """
    record = PUBLISHED[name]
    tensors = network_tensors(read_checkpoint(path), record.layout)
    own = getattr(network.trunk, "pos_embed", None)
    if own is not None:
        with_class = not getattr(network.trunk, "no_embed_class", False)
        prefix = int(network.trunk.num_prefix_tokens) if with_class else 0  # type: ignore[arg-type]
        tensors = fit_grid(tensors, own, prefix, record.grid)
    load_trunk(network, tensors, name, path.name)


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


def fetch(model: EncoderModel, record: Published) -> Path:
    """Return the path of the hub's checkpoint, which is downloaded at most once.

    Raises EncoderError that says what to do if it cannot be had.
    """
    if not record.hub:
        raise EncoderError(
            f"the weights of {model.name} ({record.licence}) are on no hub: give encoder.weights=PATH to "
            f"the authors' {record.file}, or say encoder.weights=random"
        )
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
