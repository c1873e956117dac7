"""HDF5 files with `features` and `coords`, as TRIDENT and CLAM write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.interop.foreign import ForeignBag
from wsi_mil.interop.layouts.base import SlideFiles
from wsi_mil.io.files import write_aside

UNCHECKED_BYTES = 256 * limits.MIB
"""An array of so many bytes may be packed as small as it can be."""


def open_h5(path: Path, mode: str = "r") -> Any:
    """Return an open HDF5 file. Raises DataError if the file is damaged."""
    import h5py

    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise DataError(f"{path} is not a readable HDF5 file ({error})") from error


def h5_dataset(file: Any, name: str, path: Path) -> Any:
    """Return a dataset that lies in the open file itself. Raises DataError if there is none.

    A link, a virtual dataset and one with external storage name other files, which would be read.
    """
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{path}: {name!r} is a {type(link).__name__} to elsewhere, expected a dataset in the file"
        )
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{path}: {name!r} is a group, expected a dataset")
    if found.is_virtual or found.external:
        raise DataError(f"{path}: dataset {name!r} lies in other files, expected its values in this one")
    limits.ROWS.check(found.shape[0] if found.shape else 0, f"{path}: {name}")
    limits.ARRAY_BYTES.check(found.nbytes, f"{path}: {name}")
    if found.nbytes > UNCHECKED_BYTES:
        limits.PACKED.check(found.nbytes // max(found.id.get_storage_size(), 1), f"{path}: {name}")
    return found


def write_h5(
    path: Path,
    features: NDArray[np.float32] | None,
    coords: NDArray[np.int64],
    of_coords: Mapping[str, Any],
    of_features: Mapping[str, Any],
) -> Path:
    """Write `coords` and, if they are given, `features`, each with its attributes; return `path`."""
    with write_aside(path) as aside, open_h5(aside, "w") as file:
        if features is not None:
            file.create_dataset("features", data=features)
            file["features"].attrs.update(of_features)
        file.create_dataset("coords", data=coords)
        file["coords"].attrs.update(of_coords)
    return path


def read_h5_bag(files: SlideFiles) -> ForeignBag:
    """Return the bag of an HDF5 file with features, its coordinates and attributes from there or from a
    second file.

    Raises DataError if neither file has coordinates, or if both have and differ.
    """
    path = files.features
    with open_h5(path) as file:
        if "features" not in file:
            raise DataError(f"{path} has no dataset 'features'; it holds {sorted(file)}")
        stored = h5_dataset(file, "features", path)
        features, attributes = feature_matrix(stored), dict(stored.attrs)
        coords = None
        if "coords" in file:
            of_file = h5_dataset(file, "coords", path)
            coords = np.asarray(of_file)
            attributes |= dict(of_file.attrs)
    if files.coordinates is not None:
        separate, more = read_coords(files.coordinates)
        if coords is not None and not np.array_equal(np.sort(coords, axis=0), np.sort(separate, axis=0)):
            raise DataError(
                f"{path} and {files.coordinates} hold different coordinates: features of another tiling"
            )
        coords, attributes = separate if coords is None else coords, more | attributes
    if coords is None:
        raise DataError(
            f"{path} holds features without the coordinates of their tiles: expected a dataset 'coords' in "
            f"it, or in patches/{files.slide_id}.h5. CLAM's create_patches_fp.py writes that file: copy it "
            "there"
        )
    return bag_of(files, features, coords, attributes)


def read_coords(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return (N, 2) coordinates and their attributes. Raises DataError for a file without `coords`."""
    with open_h5(path) as file:
        if "coords" not in file:
            raise DataError(f"{path} has no dataset 'coords'; it holds {sorted(file)}")
        coords = h5_dataset(file, "coords", path)
        return np.asarray(coords), dict(coords.attrs)


def feature_matrix(values: Any) -> NDArray[np.float32]:
    """Return features as float32, without the batch axis of length 1 that some writers keep."""
    features = np.asarray(values, np.float32)
    return features[0] if features.ndim == 3 and len(features) == 1 else features


def bag_of(
    files: SlideFiles, features: NDArray[np.float32], coords: NDArray[Any], attributes: Mapping[str, Any]
) -> ForeignBag:
    """Return a bag from arrays and attributes of TRIDENT or CLAM. Raises DataError for values that make no
    sense.

    An attribute that is absent gives None in the bag. Our own exact attributes (`tile_*`) win over the whole
    numbers of the tools.
    """
    path = files.features
    if coords.ndim != 2 or coords.shape[1] != 2 or not np.issubdtype(coords.dtype, np.number):
        raise DataError(
            f"{path}: coords are {coords.dtype} of shape {coords.shape}, expected (N, 2) numbers: x, y of "
            "corners"
        )
    if not np.array_equal(coords, np.rint(coords)):
        raise DataError(
            f"{path}: coords are no whole numbers: not level-0 pixels (STAMP, for one, writes µm)"
        )
    patch_px, patch0_px = _number(attributes, "patch_size"), _number(attributes, "patch_size_level0")
    level, downsample = _number(attributes, "patch_level"), attributes.get("downsample")
    if patch0_px is None and patch_px is not None and downsample is not None and level is not None:
        patch0_px = patch_px * float(np.mean(np.asarray(downsample, float)))  # CLAM: pixels of patch_level
    exact_px, exact0_px = _number(attributes, "tile_px"), _number(attributes, "tile_width0_px")
    overlap_px = _number(attributes, "tile_overlap_px" if exact_px is not None else "overlap")
    patch_px, patch0_px = exact_px or patch_px, exact0_px or patch0_px
    return ForeignBag(
        slide_id=files.slide_id,
        source=str(path),
        features=features,
        coords=np.rint(coords).astype(np.int64),
        patch_px=None if patch_px is None else round(patch_px),
        patch0_px=patch0_px,
        overlap_px=None if overlap_px is None else round(overlap_px),
        slide_size_px=_slide_size(attributes),
        tile_mpp=_number(attributes, "tile_mpp") or _number(attributes, "patch_spacing_um_px"),
        encoder=_text(attributes, "encoder"),
    )


def _slide_size(attributes: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (width, height) in level-0 pixels: TRIDENT states it, CLAM states the size of a level."""
    width, height = _number(attributes, "level0_width"), _number(attributes, "level0_height")
    if width is not None and height is not None:
        return round(width), round(height)
    level_size, downsample = attributes.get("level_dim"), attributes.get("downsample")
    if level_size is None or downsample is None:
        return None
    sides = np.rint(np.asarray(level_size, float) * np.asarray(downsample, float))
    return round(sides[0]), round(sides[1])


def _number(attributes: Mapping[str, Any], name: str) -> float | None:
    """Return an attribute as a number, None if it is absent. Raises DataError for anything else."""
    value = attributes.get(name)
    if value is None or (isinstance(value, str) and value in ("", "None")):
        return None
    try:
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError) as error:
        raise DataError(f"attribute {name} is {value!r}, expected a number") from error


def _text(attributes: Mapping[str, Any], name: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)
