"""Files as TRIDENT and CLAM write them: what is read, what is missing, what is refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import ConfigError, DataError
from wsi_mil.interop.foreign import ForeignBag, ImportedTiles, StatedTiles, tile_table
from wsi_mil.interop.layouts import load_import_layout
from wsi_mil.interop.layouts.base import find_files

RNG = np.random.default_rng(0)
GRID = np.array(
    [(x, y) for x in range(0, 5120, 512) for y in range(1024, 4096, 512)]
)  # TRIDENT's order: x first
FEATURES = RNG.normal(size=(len(GRID), 6)).astype(np.float32)
TRIDENT = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "name": "s",
    "level0_width": 6001,
    "level0_height": 4503,
}
INFO = SlideInfo("s", "", ((6001, 4503),), (1.0,), 0.25, 0.25, "test", None, "", "", "")


def trident(
    path: Path, coords: np.ndarray = GRID, features: np.ndarray = FEATURES, **attributes: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, coords
        file["features"].attrs["encoder"] = "uni_v1"
        file["coords"].attrs.update({k: v for k, v in (TRIDENT | attributes).items() if v is not None})
    return path


def clam(folder: Path, h5: bool, pt: bool, **attributes: Any) -> None:
    for name in ("h5_files", "pt_files", "patches"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "patches" / "s.h5", "w") as file:
        file["coords"] = GRID
        said = {
            "patch_size": 256,
            "patch_level": 1,
            "downsample": np.array([2.0, 2.0]),
            "level_dim": np.array([3000, 2251]),
        }
        file["coords"].attrs.update(said | attributes)
    if h5:
        with h5py.File(folder / "h5_files" / "s.h5", "w") as file:
            file["features"], file["coords"] = FEATURES, GRID
    if pt:
        torch.save(torch.from_numpy(FEATURES), folder / "pt_files" / "s.pt")


def read(folder: Path, layout: str = "trident", slide_id: str = "s") -> ForeignBag:
    found = load_import_layout(layout)
    return found.read(find_files(found, folder)[slide_id])


def tiles(bag: ForeignBag, info: SlideInfo | None = None, **stated: Any) -> ImportedTiles:
    return tile_table(bag, StatedTiles(**{"tile_mpp": 0.5, **stated}).geometry(bag), info)


def test_trident_rows_keep_their_features(tmp_path: Path) -> None:
    trident(tmp_path / "centre" / "s.h5")
    bag = read(tmp_path, slide_id="centre/s")
    found = tiles(bag)
    table, info, rows = found.table, found.info, found.rows
    assert (found.repeated, found.overhanging) == (0, 0)
    assert (info.width_px, info.height_px, info.mpp) == (6001, 4503, 0.25)
    assert (table.spec.size_px, table.spec.step_px, table.spec.mpp) == (256, 256, 0.5)
    assert (table.plan.tile_width0_px, table.plan.tile_height0_px) == (512, 512)
    at = {tuple(xy): row for xy, row in zip(GRID.tolist(), FEATURES, strict=True)}
    for xy, row in zip(table.coords.tolist(), bag.features[rows], strict=True):
        np.testing.assert_array_equal(row, at[tuple(xy)])
    assert (np.diff(table.coords[:, 1]) >= 0).all()


@pytest.mark.parametrize(("h5", "pt"), [(True, False), (False, True), (True, True)])
def test_clam_folders(tmp_path: Path, h5: bool, pt: bool) -> None:
    clam(tmp_path, h5, pt)
    bag = read(tmp_path, "clam")
    assert StatedTiles(tile_mpp=0.5, overlap_px=0).geometry(bag).spec.step_px == 256
    assert (bag.patch_px, bag.patch0_px, bag.slide_size_px) == (256, 512.0, (6000, 4502))
    np.testing.assert_array_equal(bag.features, FEATURES)
    np.testing.assert_array_equal(bag.coords, GRID)


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    trident(tmp_path / "s.h5", patch_size=None, overlap=None)
    bag = read(tmp_path)
    for stated, option in (
        (StatedTiles(), "--tile-px"),
        (StatedTiles(tile_px=256), "--tile-mpp"),
        (StatedTiles(tile_px=256, tile_mpp=0.5), "--overlap-px"),
    ):
        with pytest.raises(ConfigError, match=option):
            stated.geometry(bag)
    trident(tmp_path / "s.h5", level0_width=None)
    with pytest.raises(ConfigError, match="--slides"):
        tiles(read(tmp_path))
    assert len(tiles(read(tmp_path), INFO).table) == len(GRID)


def test_what_contradicts_is_refused(tmp_path: Path) -> None:
    trident(tmp_path / "s.h5")
    with pytest.raises(DataError, match=r"states 256 .* --tile-px states 224"):
        StatedTiles(tile_px=224, tile_mpp=0.5).geometry(read(tmp_path))
    finer = SlideInfo("s", "", ((6001, 4503),), (1.0,), 0.125, 0.125, "test", None, "", "", "")
    with pytest.raises(DataError, match=r"0.25 µm/px, not 0.5"):  # the slide has another scale
        tiles(read(tmp_path), finer)
    trident(tmp_path / "s.h5", patch_size_level0=1024)  # the wrong magnification that peers write
    with pytest.raises(DataError, match="512 level-0 px apart, tile size and overlap state 1024"):
        tiles(read(tmp_path))
    trident(tmp_path / "s.h5")
    other = SlideInfo("s", "", ((600, 450),), (1.0,), 0.25, 0.25, "test", None, "", "", "")
    with pytest.raises(DataError, match="not this slide"):
        tiles(read(tmp_path), other)


def test_repeated_and_overhanging_tiles_are_counted(tmp_path: Path) -> None:
    coords = np.concatenate([GRID, GRID[:2], [[5632, 1024]]])  # the last one ends at 6144 of 6001
    features = np.concatenate([FEATURES, FEATURES[:2] + 9, FEATURES[:1]])
    trident(tmp_path / "s.h5", coords, features)
    found = tiles(read(tmp_path))
    assert (found.repeated, found.overhanging) == (2, 1)
    assert len(found.table) == len(GRID)
    assert set(found.rows.tolist()) == set(range(len(GRID)))  # the first of equal corners is kept


def test_overlapping_tiles(tmp_path: Path) -> None:
    coords = np.array([(x, 1024) for x in range(0, 4096, 384)])
    trident(tmp_path / "s.h5", coords, FEATURES[: len(coords)], overlap=64)
    assert tiles(read(tmp_path)).table.spec.step_px == 192


def test_an_overlap_as_large_as_a_tile_is_refused(tmp_path: Path) -> None:
    trident(tmp_path / "s.h5", overlap=256)
    with pytest.raises(DataError, match="overlap of 256 px does not fit tiles of 256 px"):
        tiles(read(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords": GRID / 3}, "whole numbers"),
        ({"coords": GRID[:, :1]}, r"expected \(N, 2\)"),
        ({"coords": GRID[:-1]}, "expected"),
        ({"patch_size": "large"}, "patch_size is 'large'"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = trident(tmp_path / "s.h5", **change)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert path.name in str(caught.value) or "patch_size" in message


def test_damaged_files_and_files_that_would_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "s.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 50)
    with pytest.raises(DataError, match=r"s\.h5 is not a readable HDF5"):
        read(tmp_path)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["feats"] = FEATURES
    with pytest.raises(DataError, match="it holds \\['feats'\\]"):
        read(tmp_path, slide_id="t")
    clam(tmp_path / "clam", False, True)
    torch.save(Trap(), tmp_path / "clam" / "pt_files" / "s.pt")
    with pytest.raises(DataError, match=r"names .*getattr: expected tensors"):
        read(tmp_path / "clam", "clam")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(DataError, match=r"no features in .*none: expected <slide>.h5 files"):
        read(tmp_path / "none")
