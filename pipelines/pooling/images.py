"""CIFAR-10 and Tiny ImageNet as tensors, read from their zip files."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsi_mil.errors import DataError


@dataclass(frozen=True)
class Pictures:
    """Images with labels: pixels (N, 3, S, S) uint8, labels (N,), boxes (N, 4).

    A box is x0, y0, x1, y1 of the object in pixels, x1 and y1 exclusive; all 0 if the data set has none.
    """

    pixels: Tensor
    labels: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> "Pictures":
        """Return the pictures `rows`, numbers (n,)."""
        return Pictures(self.pixels[rows], self.labels[rows], self.boxes[rows])

    def few(self, count: int, generator: torch.Generator) -> "Pictures":
        """Return `count` random pictures, the same number of each class.

        Raises DataError if a class is too small.
        """
        classes = int(self.labels.max()) + 1
        by_class = [torch.nonzero(self.labels == label)[:, 0] for label in range(classes)]
        smallest = min(map(len, by_class))
        if smallest * classes < count:
            raise DataError(
                f"{count} pictures of {classes} classes wanted, the smallest class has {smallest}"
            )
        chosen = [
            rows[torch.randperm(len(rows), generator=generator)[: count // classes]] for rows in by_class
        ]
        return self.take(torch.cat(chosen))


def read_cifar(path: Path) -> tuple[Pictures, Pictures]:
    """Return training and test pictures of `train/<class>/*` and `test/<class>/*`."""
    with _opened(path) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        parts = []
        for part in ("train", "test"):
            own = [name for name in names if name.startswith(part)]
            labels = [classes.index(name.split("/")[1]) for name in own]
            parts.append(_pictures(file, own, labels, [(0, 0, 0, 0)] * len(own)))
    return parts[0], parts[1]


def read_tiny_imagenet(path: Path) -> tuple[Pictures, Pictures]:
    """Return training and test pictures with their boxes.

    The test set is the validation part, as in the paper.
    """
    with _opened(path) as file:
        classes = [line.split("\t")[0] for line in _lines(file, "wnids.txt")]
        rows: dict[str, list[tuple[str, int, tuple[int, ...]]]] = {"train": [], "val": []}
        for label, wnid in enumerate(classes):
            for line in _lines(file, f"train/{wnid}/{wnid}_boxes.txt"):
                name, *box = line.split()
                rows["train"].append((f"train/{wnid}/images/{name}", label, tuple(map(int, box))))
        for line in _lines(file, "val/val_annotations.txt"):
            name, wnid, *box = line.split()
            rows["val"].append((f"val/images/{name}", classes.index(wnid), tuple(map(int, box))))
        there = set(file.namelist())
        kept = {part: [row for row in found if row[0] in there] for part, found in rows.items()}
        train, val = (
            _pictures(
                file,
                [r[0] for r in part],
                [r[1] for r in part],
                [(*r[2][:2], r[2][2] + 1, r[2][3] + 1) for r in part],
            )
            for part in kept.values()
        )
    return train, val


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path} cannot be read as the zip file of this study: {error}") from error


def _lines(file: zipfile.ZipFile, name: str) -> Iterator[str]:
    return (line for line in file.read(name).decode().splitlines() if line.strip())


def _pictures(
    file: zipfile.ZipFile, names: list[str], labels: list[int], boxes: list[tuple[int, ...]]
) -> Pictures:
    pixels = [np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB")) for name in names]
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return Pictures(stacked, torch.tensor(labels), torch.tensor(boxes))
