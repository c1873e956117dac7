"""Checkpoints of networks: read without running code that they may hold, and checked tensor by tensor."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_mil.errors import EncoderError
from wsi_mil.io.bounded import read_npz
from wsi_mil.io.torch_files import read_torch_file

SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .npz or .pth file by name.

    .npz is read without pickle. .pth is read by torch's loader for tensors only, which refuses everything
    else. Raises EncoderError for an absent, damaged or unsafe file.
    """
    if not path.exists():
        raise EncoderError(
            f"no checkpoint at {path}: give encoder.weights=PATH to one of {', '.join(SUFFIXES)}"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix == ".npz":
            return {name: torch.from_numpy(array.copy()) for name, array in read_npz(path).items()}
        if path.suffix in SUFFIXES:
            value = read_torch_file(path, EncoderError)
            for wrapper in ("state_dict", "model", "teacher", "student"):
                if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
                    value = value[wrapper]
            return {
                key.removeprefix("module."): tensor
                for key, tensor in value.items()
                if isinstance(tensor, Tensor)
            }
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: {error})"
        ) from error
    raise EncoderError(f"{path}: a checkpoint ends in one of {', '.join(SUFFIXES)}, not {path.suffix!r}")


def load_trunk(model: nn.Module, tensors: dict[str, Tensor], name: str, source: str) -> None:
    """Load `tensors` into a network without a head; each tensor of the network must be there with its shape.

    Tensors that the network does not have (a classification head) are ignored. Raises EncoderError with the
    first keys that do not fit; `name` and `source` are the encoder and the file in that message.
    """
    own = model.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = [key for key in own if key not in tensors and key not in counters]
    wrong = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if missing or wrong:
        raise EncoderError(
            f"{source} does not fit {name}: {len(missing)} tensors missing {missing[:3]}, {len(wrong)} of "
            f"another shape {wrong[:3]}; the file holds {list(tensors)[:3]}"
        )
    model.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)


def weights_digest(model: nn.Module) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all parameters and buffers, names included."""
    total = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
