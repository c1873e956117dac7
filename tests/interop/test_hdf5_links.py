"""HDF5 files that name other files: their links, virtual datasets and external storage are not followed."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsi_mil.errors import DataError
from wsi_mil.interop.layouts._hdf5 import read_coords, read_h5_bag
from wsi_mil.interop.layouts.base import SlideFiles

FEATURES, COORDS = np.ones((3, 4), np.float32), np.arange(6).reshape(3, 2)


def external_link(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(str(other), name)


def soft_link(file: h5py.File, name: str, other: Path) -> None:
    file[f"hidden_{name}"] = FEATURES if name == "features" else COORDS
    file[name] = h5py.SoftLink(f"/hidden_{name}")


def external_storage(file: h5py.File, name: str, other: Path) -> None:
    secret = other.with_name("secret.bin")
    secret.write_bytes(bytes(48))
    file.create_dataset(name, (3, 2), "int64", external=[(str(secret), 0, 48)])


def virtual_dataset(file: h5py.File, name: str, other: Path) -> None:
    shape = FEATURES.shape if name == "features" else COORDS.shape
    layout = h5py.VirtualLayout(shape, "float32")
    layout[:] = h5py.VirtualSource(str(other), name, shape)
    file.create_virtual_dataset(name, layout)


def group(file: h5py.File, name: str, other: Path) -> None:
    file.create_group(name)


@pytest.mark.parametrize("kind", [external_link, soft_link, external_storage, virtual_dataset, group])
@pytest.mark.parametrize("name", ["features", "coords"])
def test_what_lies_elsewhere_is_refused_by_name(
    kind: Callable[[h5py.File, str, Path], None], name: str, tmp_path: Path
) -> None:
    other, path = tmp_path / "other.h5", tmp_path / "slide.h5"
    with h5py.File(other, "w") as file:
        file["features"], file["coords"] = FEATURES, COORDS
    with h5py.File(path, "w") as file:
        kind(file, name, other)
        if name == "coords":
            file["features"] = FEATURES
    with pytest.raises(DataError, match=rf"slide\.h5: .*'{name}'.*expected"):
        read_h5_bag(SlideFiles("slide", path))
    if name == "coords":
        with pytest.raises(DataError, match=r"slide\.h5: .*'coords'"):
            read_coords(path)
