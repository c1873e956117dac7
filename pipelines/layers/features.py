"""Features of all layers of a network for a set of images, computed once and kept in a file."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.lung.bags import read_tile
from pipelines.lung.spec import Centre
from wsi_mil.contracts.arrays import RGB
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.logs import progress

Features = NDArray[np.float32]
BATCH = 64


def encoded(file: Path, spec: EncoderSpec, count: int, tiles: Callable[[slice], RGB]) -> Features:
    """Return the features (N, D) of `count` images; `tiles` gives the pixels (B, S, S, 3) of some of them.

    They are kept as <file>_<digest of the encoder>.npy, so that other layers or weights have another file.
    """
    encoder = build_encoder(spec, "cpu")
    path = file.with_name(f"{file.name}_{encoder.digest}.npy")
    if not path.exists():
        starts = range(0, count, BATCH)
        with torch.inference_mode():
            parts = [
                encoder.encode(torch.from_numpy(tiles(slice(start, min(start + BATCH, count))))).numpy()
                for start in progress(starts, total=len(starts), label=file.name, unit="batch")
            ]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npy")
        np.save(partial, np.concatenate(parts))
        partial.rename(path)
    found: Features = np.load(path, mmap_mode="r")
    return found


def lung_tiles(archive: Path, images: Sequence[tuple[str, Centre]]) -> Callable[[slice], RGB]:
    """Return what reads some of the images, each as its laboratory stains and focuses it, at 1 µm/px."""

    def read(part: slice) -> RGB:
        with zipfile.ZipFile(archive) as files:
            return np.stack([read_tile(files, name, centre) for name, centre in images[part]])

    return read
