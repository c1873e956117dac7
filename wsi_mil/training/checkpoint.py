"""Checkpoints: one safetensors file with tensors by name and numbers as JSON in its metadata. Nothing is
unpickled."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_mil.errors import ModelError
from wsi_mil.io.files import digest_bytes, write_aside
from wsi_mil.io.json import parse_json
from wsi_mil.io.seals import DamagedFileError, require_digest, sealed, unsealed

META, FORMAT = "wsi_mil", 2
"""Format 1 had several keys of metadata, whose order differed from file to file, and no digest: it is read as
well."""
AGAIN = "remove it to start this training again"


@dataclass(frozen=True)
class Checkpoint:
    """Named groups of tensors ('model', 'best', 'optimizer', 'random') and plain values."""

    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, Any]

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        flat = {
            f"{group}/{name}": t.detach().cpu().contiguous()
            for group, named in self.tensors.items()
            for name, t in named.items()
        }
        head = {
            "kind": "wsi_mil checkpoint",
            "format_version": FORMAT,
            "values": self.values,
            "tensors_digest": _tensors_digest(flat),
        }
        # One key: safetensors writes several in an order that differs from process to process. Not io.json: a
        # merit may be infinite before the first epoch.
        metadata = {META: json.dumps(sealed(head))}
        with write_aside(path) as aside:
            save_file(flat, aside, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Return a checkpoint; raises ModelError if the file is damaged, none of ours or of another
        format."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                flat = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            values = _values(metadata, flat, path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            what = error if isinstance(error, DamagedFileError) else f"{path} is no readable checkpoint"
            detail = "" if isinstance(error, DamagedFileError) else f" ({error}): {AGAIN}"
            raise ModelError(f"{what}{detail}") from error
        tensors: dict[str, dict[str, Tensor]] = {}
        for name, value in flat.items():
            group, _, rest = name.partition("/")
            tensors.setdefault(group, {})[rest] = value
        return cls(tensors, values)


def _values(metadata: dict[str, str], tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """Return the values of a checkpoint whose digests are right. Raises ValueError for another file."""
    if metadata.get("format_version") == "1":
        return dict(parse_json(metadata["values"]))
    head = unsealed(parse_json(metadata[META]), path, AGAIN)
    if head["format_version"] != FORMAT:
        raise ValueError(f"format {head['format_version']}, this version reads 1 to {FORMAT}")
    require_digest(path, head["tensors_digest"], _tensors_digest(tensors), AGAIN)
    return dict(head["values"])


def _tensors_digest(tensors: dict[str, Tensor]) -> str:
    """Return the digest of names, types, shapes and values of tensors, in the order of their names."""
    parts = []
    for name in sorted(tensors):
        tensor = tensors[name]
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest_bytes(*parts)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as named tensors: '<parameter number>/<name>'."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": torch.as_tensor(value)
        for number, named in state.items()
        for name, value in named.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], lr: float) -> None:
    """Put the state of `optimizer_tensors` and the learning rate back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition("/")
        state.setdefault(int(number), {})[key] = value
    whole = optimizer.state_dict()
    whole["state"] = state
    for group in whole["param_groups"]:
        group["lr"] = lr
    optimizer.load_state_dict(whole)
