"""Checkpoints: one safetensors file with tensors by name and numbers as JSON in its metadata. Nothing is
unpickled."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsi_mil.errors import ModelError
from wsi_mil.io.files import write_aside

FORMAT = 1


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
        metadata = {
            "kind": "wsi_mil checkpoint",
            "format_version": str(FORMAT),
            "values": json.dumps(self.values),  # not io.json: a merit may be infinite before the first epoch
        }
        with write_aside(path) as aside:
            save_file(flat, aside, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Return a checkpoint; raises ModelError if the file is none of ours or of another format."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                flat = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{path} is no readable checkpoint ({error}): remove it to start again"
            ) from error
        if metadata.get("format_version") != str(FORMAT):
            raise ModelError(
                f"{path} has format {metadata.get('format_version')}, this version reads {FORMAT}: remove it"
            )
        tensors: dict[str, dict[str, Tensor]] = {}
        for name, value in flat.items():
            group, _, rest = name.partition("/")
            tensors.setdefault(group, {})[rest] = value
        return cls(tensors, json.loads(metadata["values"]))


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
