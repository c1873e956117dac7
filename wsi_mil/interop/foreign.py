"""Features that other tools made: TRIDENT's h5 files, CLAM's h5 and pt folders. What a file does not say is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.tiles import plan_reading

SCALE_TOLERANCE = 0.05  # as in tiles.geometry: scanners sold as one magnification differ by this much


@dataclass(frozen=True)
class ForeignBag:
    """One slide's features as another tool left them.

    features (N, D) float32; coords (N, 2) top-left corners, level-0 px, (x, y), in the tool's own order. `patch_px`: side
    in the encoder's pixels; `patch0_px`: the same side at level 0; both, and the rest, None where the file says nothing.
    """

    slide_id: str
    source: str
    features: NDArray[np.float32]
    coords: NDArray[np.int64]
    patch_px: int | None = None
    patch0_px: float | None = None
    overlap_px: int | None = None
    slide_size_px: tuple[int, int] | None = None
    tile_mpp: float | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.coords.shape != (len(self.features), 2):
            raise DataError(
                f"{self.source}: {self.features.shape} features and {self.coords.shape} coords; expected (N, D) and (N, 2)"
            )


@dataclass(frozen=True)
class Asked:
    """What the user says of the tiles; it fills what files leave open and must agree with what they say."""

    tile_px: int | None = None
    tile0_px: float | None = None
    tile_mpp: float | None = None
    overlap_px: int | None = None

    def complete(self, bag: ForeignBag) -> ForeignBag:
        """Return `bag` with every field known. Raises ConfigError that names the option for one that is not, DataError
        where the user and the file disagree."""
        options = (
            ("patch_px", self.tile_px, "--tile-px", "side of a tile in the encoder's pixels"),
            ("patch0_px", self.tile0_px, "--tile-level0-px", "side of a tile in level-0 pixels"),
            ("tile_mpp", self.tile_mpp, "--tile-mpp", "µm per tile pixel"),
            ("overlap_px", self.overlap_px, "--overlap-px", "overlap of neighbouring tiles, 0 for none"),
        )
        found: dict[str, Any] = {}
        for name, given, option, meaning in options:
            stated = getattr(bag, name)
            if stated is None and given is None:
                hint = " (0.5 for what is sold as 20x)" if name == "tile_mpp" else ""
                raise ConfigError(f"{bag.source} does not say the {meaning}: give {option}{hint}")
            slack = SCALE_TOLERANCE * given if given is not None and name == "tile_mpp" else 0
            if stated is not None and given is not None and abs(stated - given) > slack:
                raise DataError(f"{bag.source} says {stated:g} for the {meaning}, {option} says {given:g}")
            found[name] = given if given is not None else stated
        return replace(bag, **found)


def tile_table(
    bag: ForeignBag, info: SlideInfo | None
) -> tuple[TileTable, SlideInfo, NDArray[np.intp], dict[str, int]]:
    """Return (table, info, row of `bag` for every row of the table, what was left out) of a complete bag.

    Without `info` (the slide is not at hand) the file must say the slide's size; the scale follows from the tiles'.
    Rows are sorted by (y, x); repeated corners and tiles that overhang the slide are left out and counted. Raises
    DataError if scale or spacing contradict the file.
    """
    if None in (bag.patch_px, bag.patch0_px, bag.overlap_px, bag.tile_mpp):
        raise ConfigError(f"{bag.source}: complete the bag first (Asked.complete)")
    patch_px, patch0_px, overlap_px = (
        int(bag.patch_px or 0),
        float(bag.patch0_px or 0),
        int(bag.overlap_px or 0),
    )
    tile_mpp = float(bag.tile_mpp or 0)
    if not 0 <= overlap_px < patch_px:
        raise DataError(f"{bag.source}: an overlap of {overlap_px} px does not fit tiles of {patch_px} px")
    _check_spacing(bag, patch0_px * (patch_px - overlap_px) / patch_px)
    info = info or _info_without_slide(bag, tile_mpp * patch_px / patch0_px)
    real = patch0_px * info.mpp / patch_px
    if abs(real / tile_mpp - 1) > SCALE_TOLERANCE:
        raise DataError(
            f"{bag.source}: tiles of {patch0_px:g} level-0 px at {info.mpp:.4g} µm/px (slide {info.slide_id!r}) shown with "
            f"{patch_px} px are {real:.4g} µm/px, not {tile_mpp:g}: the slide's scale or the tile size is wrong"
        )
    order = np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))
    corners = bag.coords[order]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (corners[1:] == corners[:-1]).all(1)
    inside = (corners >= 0).all(1) & (
        corners + patch0_px <= np.array([info.width_px, info.height_px]) + 1
    ).all(1)
    rows = order[inside & ~repeated]
    if len(order) and not inside.any():
        raise DataError(
            f"{bag.source}: coords reach {corners.max(0).tolist()} px on a slide of {info.width_px} x {info.height_px} px: "
            "not this slide, or coordinates of another level"
        )
    spec = TileSpec(mpp=tile_mpp, size_px=patch_px, stride_px=patch_px - overlap_px, min_tissue_fraction=0.0)
    plan = replace(plan_reading(info, spec), tile_width0_px=patch0_px, tile_height0_px=patch0_px)
    table = TileTable(
        slide_id=bag.slide_id,
        spec=spec,
        plan=plan,
        coords=bag.coords[rows].astype(np.int32),
        tissue=np.ones(len(rows), np.float32),
        slide_size_px=(info.width_px, info.height_px),
        mpp_xy=(info.mpp_x, info.mpp_y),
        tissue_source="imported",
    )
    left_out = {"repeated": int((repeated & inside).sum()), "overhanging": int((~inside).sum())}
    return table, info, rows, left_out


def _check_spacing(bag: ForeignBag, step0_px: float) -> None:
    """Neighbours in a row of tiles must be as far apart as tile size and overlap say. A lone tile has no neighbour."""
    x0, y0 = bag.coords[np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))].T
    gaps = np.diff(x0)[(np.diff(y0) == 0) & (np.diff(x0) > 0)]
    if len(gaps):
        values, counts = np.unique(gaps, return_counts=True)
        usual = int(values[counts.argmax()])
        if abs(usual - step0_px) > 1:
            raise DataError(
                f"{bag.source}: neighbouring tiles are {usual} level-0 px apart, its tile size and overlap say {step0_px:g}: "
                "give --tile-level0-px and --overlap-px as they were when the features were made"
            )


def _info_without_slide(bag: ForeignBag, mpp: float) -> SlideInfo:
    if bag.slide_size_px is None:
        raise ConfigError(
            f"{bag.source} does not say the slide's size: give --slides FOLDER, where the slides are"
        )
    return SlideInfo(
        bag.slide_id,
        "",
        (bag.slide_size_px,),
        (1.0,),
        mpp,
        mpp,
        "imported: tile size and tile mpp",
        None,
        "",
        "none",
        "",
    )


# ---- readers


def find_bags(folder: Path, layout: str) -> dict[str, Callable[[], ForeignBag]]:
    """Return slide id -> reader of its bag, for every file below `folder`. Raises DataError if there is none."""
    readers = {"trident": _trident, "clam": _clam}
    found = readers[layout](folder) if folder.is_dir() else {}
    if not found:
        expected = {"trident": "<slide>.h5 files", "clam": "h5_files/ or pt_files/ (and patches/ for pt)"}[
            layout
        ]
        raise DataError(f"no {layout} features in {folder}: expected {expected}")
    return dict(sorted(found.items()))


def _trident(folder: Path) -> dict[str, Callable[[], ForeignBag]]:
    paths = {_id(path, folder): path for path in folder.rglob("*.h5")}
    return {slide_id: _later(_read_h5, slide_id, path) for slide_id, path in paths.items()}


def _clam(folder: Path) -> dict[str, Callable[[], ForeignBag]]:
    """CLAM's coordinates and their attributes lie in patches/, beside or above the folder of features."""
    patches = next((p for p in (folder / "patches", folder.parent / "patches") if p.is_dir()), None)
    found: dict[str, Callable[[], ForeignBag]] = {}
    for path in (folder / "pt_files").rglob("*.pt"):
        slide_id = _id(path, folder / "pt_files")
        if patches is None or not (patches / f"{slide_id}.h5").exists():
            continue
        found[slide_id] = _later(_read_pt, slide_id, path, patches / f"{slide_id}.h5")
    for path in (folder / "h5_files").rglob("*.h5"):  # has its own coordinates: preferred
        slide_id = _id(path, folder / "h5_files")
        beside = patches / f"{slide_id}.h5" if patches else None
        found[slide_id] = _later(_read_h5, slide_id, path, beside if beside and beside.exists() else None)
    return found


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _later(function: Callable[..., ForeignBag], *arguments: Any) -> Callable[[], ForeignBag]:
    return lambda: function(*arguments)


def open_h5(path: Path, mode: str = "r") -> Any:
    """Return an open HDF5 file. Raises ConfigError with the command to install what is missing, DataError if damaged."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("h5 files need: pip install 'wsi-mil[interop]'") from error
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise DataError(f"{path} is not a readable HDF5 file ({error})") from error


def _read_h5(slide_id: str, path: Path, coords_path: Path | None = None) -> ForeignBag:
    with open_h5(path) as file:
        if "features" not in file:
            raise DataError(f"{path} has no dataset 'features'; it holds {sorted(file)}")
        features, attributes = _matrix(file["features"]), dict(file["features"].attrs)
        coords = None
        if "coords" in file:
            coords = np.asarray(file["coords"])
            attributes |= dict(file["coords"].attrs)
    if coords_path is not None:
        own, more = _read_coords(coords_path)
        if coords is not None and not np.array_equal(np.sort(coords, axis=0), np.sort(own, axis=0)):
            raise DataError(
                f"{path} and {coords_path} hold different coordinates: features of another tiling"
            )
        coords, attributes = own if coords is None else coords, more | attributes
    if coords is None:
        raise DataError(f"{path} has no dataset 'coords', and there is no patches/{slide_id}.h5 that has")
    return _bag(slide_id, path, features, coords, attributes)


def _read_pt(slide_id: str, path: Path, coords_path: Path) -> ForeignBag:
    import torch

    try:  # tensors only: nothing in the file is run (ADR 2)
        features = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} is not a tensor that torch reads without unpickling ({type(error).__name__})"
        ) from error
    if not isinstance(features, torch.Tensor):
        raise DataError(f"{path} holds a {type(features).__name__}, expected one (N, D) tensor")
    coords, attributes = _read_coords(coords_path)
    return _bag(slide_id, path, _matrix(features.float().numpy()), coords, attributes)


def _read_coords(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    with open_h5(path) as file:
        if "coords" not in file:
            raise DataError(f"{path} has no dataset 'coords'; it holds {sorted(file)}")
        return np.asarray(file["coords"]), dict(file["coords"].attrs)


def _matrix(values: Any) -> NDArray[np.float32]:
    features = np.asarray(values, np.float32)
    return (
        features[0] if features.ndim == 3 and len(features) == 1 else features
    )  # some writers keep a batch axis


def _bag(
    slide_id: str,
    path: Path,
    features: NDArray[np.float32],
    coords: NDArray[Any],
    attributes: Mapping[str, Any],
) -> ForeignBag:
    if coords.ndim != 2 or coords.shape[1] != 2 or not np.issubdtype(coords.dtype, np.number):
        raise DataError(
            f"{path}: coords are {coords.dtype} of shape {coords.shape}, expected (N, 2) numbers: x, y of corners"
        )
    if not np.array_equal(coords, np.rint(coords)):
        raise DataError(
            f"{path}: coords are no whole numbers: not level-0 pixels (STAMP, for one, writes µm)"
        )
    patch_px, patch0_px = _number(attributes, "patch_size"), _number(attributes, "patch_size_level0")
    level, downsample = _number(attributes, "patch_level"), attributes.get("downsample")
    if patch0_px is None and patch_px is not None and downsample is not None and level is not None:
        patch0_px = patch_px * float(np.mean(np.asarray(downsample, float)))  # CLAM: pixels of patch_level
    size = (_number(attributes, "level0_width"), _number(attributes, "level0_height"))
    if None in size and "level_dim" in attributes and downsample is not None:
        dims, factor = np.asarray(attributes["level_dim"], float), np.asarray(downsample, float)
        size = tuple(np.rint(dims * factor).tolist())
    encoder = attributes.get("encoder")
    # our own files say exactly (tile_*) what the tools' attributes hold in whole level-0 pixels
    own_px, own0_px = _number(attributes, "tile_px"), _number(attributes, "tile_width0_px")
    overlap_px = _number(attributes, "tile_overlap_px" if own_px is not None else "overlap")
    patch_px, patch0_px = own_px or patch_px, own0_px or patch0_px
    return ForeignBag(
        slide_id=slide_id,
        source=str(path),
        features=features,
        coords=np.rint(coords).astype(np.int64),
        patch_px=None if patch_px is None else round(patch_px),
        patch0_px=patch0_px,
        overlap_px=None if overlap_px is None else round(overlap_px),
        slide_size_px=None if size[0] is None or size[1] is None else (round(size[0]), round(size[1])),
        tile_mpp=_number(attributes, "tile_mpp") or _number(attributes, "patch_spacing_um_px"),
        encoder=encoder.decode()
        if isinstance(encoder, bytes)
        else (str(encoder) if encoder is not None else None),
    )


def _number(attributes: Mapping[str, Any], name: str) -> float | None:
    """An attribute as a number; None if it is absent. Raises DataError for anything else."""
    value = attributes.get(name)
    if value is None or (isinstance(value, str) and value in ("", "None")):
        return None
    try:
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError) as error:
        raise DataError(f"attribute {name} is {value!r}, expected a number") from error
