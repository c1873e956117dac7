"""Files that are whole or absent; rasters and polygons that are each other's inverse; registries; units."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_mil.errors import ConfigError
from wsi_mil.io.files import (
    digest_bytes,
    digest_json,
    fingerprint,
    remove,
    sweep_temporaries,
    write_aside,
    write_text,
)
from wsi_mil.io.json import write_json
from wsi_mil.raster import polygonize, rasterize
from wsi_mil.registry import Registry


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with write_aside(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with write_aside(tmp_path / "d") as aside:
            aside.mkdir()
            (aside / "zarr.json").write_text(content)  # only stores are replaced
    assert (tmp_path / "d" / "zarr.json").read_text() == "two"
    assert os.listdir(tmp_path) == ["d"]


def test_temporaries_of_dead_processes_are_swept_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    host = socket.gethostname().replace(".", "-")
    (tmp_path / f".x.{host}.999999999.tmp").mkdir()
    living = f".y.{host}.{os.getppid()}.tmp"
    (tmp_path / living).touch()
    assert sweep_temporaries(tmp_path) == 1
    assert os.listdir(tmp_path) == [living]


def test_temporaries_of_another_host_are_left_for_a_day(tmp_path: Path) -> None:
    """Its processes cannot be seen from here: workers of a cluster write into one run folder."""
    young, old = tmp_path / ".x.zarr.elsewhere.999999999.tmp", tmp_path / ".y.elsewhere.999999999.tmp"
    young.mkdir()
    old.touch()
    os.utime(old, (1e9, 1e9))
    assert sweep_temporaries(tmp_path) == 1
    assert os.listdir(tmp_path) == [young.name]


def test_a_fingerprint_sees_another_file_of_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    data = bytearray(np.random.default_rng(0).integers(0, 256, 1_000_000, dtype=np.uint8).tobytes())
    path.write_bytes(data)
    first = fingerprint(path)
    os.utime(path, (1, 1))
    assert fingerprint(path) == first
    assert len({first, *(fingerprint_with(path, data, place) for place in (0, 999_999, 500_000))}) >= 3
    path.write_bytes(np.random.default_rng(1).integers(0, 256, 1_000_000, dtype=np.uint8).tobytes())
    assert fingerprint(path) != first
    path.write_bytes(data + b"x")
    assert fingerprint(path) != first
    (tmp_path / "empty").touch()
    assert len(fingerprint(tmp_path / "empty")) == 16
    assert len(fingerprint(tmp_path)) == 16


def fingerprint_with(path: Path, data: bytearray, place: int) -> str:
    changed = bytearray(data)
    changed[place] ^= 1
    path.write_bytes(changed)
    return fingerprint(path)


def test_nan_never_reaches_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_remove_takes_files_folders_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "zarr.json").touch()
    (tmp_path / "f").touch()
    for name in ("d", "f", "none"):
        remove(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_digests_depend_on_content_not_on_order() -> None:
    assert digest_json({"a": [1, 2], "b": None}) == digest_json({"b": None, "a": [1, 2]})
    assert digest_json({"a": [1, 2]}) != digest_json({"a": [2, 1]})
    assert len(digest_bytes(b"")) == 16


masks = st.integers(0, 2**35 - 1).map(lambda n: np.array([n >> i & 1 for i in range(35)], bool).reshape(5, 7))


@given(masks, st.sampled_from([(1.0, 1.0), (2.5, 3.5), (16.0, 7.3)]))
@settings(max_examples=100, deadline=None)
def test_outline_and_back(mask: np.ndarray, scale: tuple[float, float]) -> None:
    outline = polygonize(mask, *scale)
    assert outline.area == pytest.approx(mask.sum() * scale[0] * scale[1])
    rows, columns = np.nonzero(mask)
    boxes = shapely.box(columns * scale[0], rows * scale[1], (columns + 1) * scale[0], (rows + 1) * scale[1])
    assert outline.is_valid
    assert outline.normalize().equals(shapely.union_all(boxes).normalize())
    np.testing.assert_array_equal(rasterize(outline, mask.shape, *scale), mask)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_pixel_belongs_to_a_polygon_if_its_centre_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, scale = (23, 31), (3.0, 2.0)
    outer = shapely.convex_hull(shapely.MultiPoint(rng.uniform(-5, 80, (6, 2))))
    polygon = outer.difference(outer.centroid.buffer(6))
    y, x = np.mgrid[: shape[0], : shape[1]]
    expected = shapely.contains_xy(polygon, (x + 0.5) * scale[0], (y + 0.5) * scale[1])
    np.testing.assert_array_equal(rasterize(polygon, shape, *scale), expected)


def test_registry_names_the_nearest_and_how_to_list() -> None:
    registry = Registry("encoder", {"uni2": "a:b", "uni": "a:b", "resnet": "a:b"})
    with pytest.raises(ConfigError, match=r"No encoder named 'univ2'. Nearest: 'uni2'.*wsi-mil ls encoders"):
        registry["univ2"]
