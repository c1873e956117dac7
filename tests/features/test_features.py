"""Features in stores: values, order, digests, interruption, full disk, damage.

A table is complete or absent.
"""

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders import EncoderSpec, build_encoder
from wsi_mil.encoders.base import Encoder
from wsi_mil.errors import MachineError, SlideError, StoreError
from wsi_mil.features import SlideStore, encode_tiles, extract_features
from wsi_mil.features import store as store_module
from wsi_mil.io.seals import sealed
from wsi_mil.slides import ArrayReader
from wsi_mil.tiles import TileReader, tile_slide
from wsi_mil.tissue import TissueSpec, find_tissue

SPEC = EncoderSpec(name="texture", batch_size=7)


class MeanEncoder(Encoder):
    """The mean of each colour channel times a factor, which a test can compute by itself."""

    dim = 3

    def __init__(self, factor: float = 1.0) -> None:
        self.device = torch.device("cpu")
        self.identity = {"name": "mean", "factor": factor}
        self.factor = factor

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean((1, 2)) * self.factor


def reader(seed: int = 0, kind: type[ArrayReader] = ArrayReader) -> ArrayReader:
    image = np.random.default_rng(seed).integers(0, 255, (400, 700, 3), dtype=np.uint8)
    return kind(image, mpp=1.0, slide_id="a/b")


def store_with_tiles(path: Path, slide: ArrayReader, size: int = 40) -> SlideStore:
    tissue = find_tissue(slide, TissueSpec(method="whole"))
    store = SlideStore(path / "s.zarr", "a/b")
    store.write_tiles(tile_slide(slide.info, tissue, TileSpec(mpp=1.0, size_px=size)), slide.info, "made")
    return store


def test_a_store_of_zarr_format_2_is_refused_by_name(tmp_path: Path) -> None:
    """Its metadata may name filters that run code."""
    store = SlideStore(tmp_path / "s.zarr", "s")
    zarr.create_group(store=str(tmp_path / "s.zarr" / "tiles"), zarr_format=2)
    with pytest.raises(StoreError, match=r"s\.zarr/tiles is of Zarr format 2, expected 3"):
        store.tiles_digest()


def test_row_i_is_tile_i(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    report = extract_features(slide, store, MeanEncoder(), SPEC, threads=3)
    table = store.read_features("texture")
    assert report.tiles == len(table.features) == 170
    assert report.digest == table.digest
    image = slide._levels[0]
    for row in (0, 16, 17, 101, 169):
        x, y = table.coords[row]
        expected = image[y : y + 40, x : x + 40].mean((0, 1))
        np.testing.assert_allclose(table.features[row], expected, rtol=1e-3)
    assert table.features.dtype == np.float16


def test_tables_read_back(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    assert store.read_info() == slide.info
    again = store.read_tiles()
    assert again.digest() == store.tiles_digest()
    assert store.made_from() == "made"
    assert (again.spec.size_px, again.slide_size_px, again.tissue_source) == (40, (700, 400), "whole")


def test_layout_and_self_description(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    extract_features(slide, store, MeanEncoder(), SPEC)
    group = zarr.open_group(str(store.path), mode="r")
    assert group.attrs["kind"] == "wsi_mil slide"
    array = group["features/texture/features"]
    assert (array.dtype, array.shape) == (np.float16, (170, 3))
    assert group["tiles/coords"].dtype == np.int32
    attributes = group["features/texture"].attrs
    for key in (
        "encoder",
        "encoder_digest",
        "tiles_digest",
        "mpp",
        "rows",
        "digest",
        "producer",
        "units",
        "complete",
    ):
        assert key in attributes, key


@pytest.mark.parametrize(("rows", "shards"), [(1, 1), (2048, 1), (2049, 1), (16384, 1), (16385, 2)])
def test_shards_hold_thousands_of_rows(tmp_path: Path, rows: int, shards: int) -> None:
    root = zarr.create_group(store=str(tmp_path / "g"))
    writer = store_module.FeatureWriter(root, rows, 2)
    values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2) % 2000
    for start in range(0, rows, 999):
        part = values[start : start + 999]
        writer.append(part, np.ones(len(part), bool))
    writer.finish()
    np.testing.assert_array_equal(root["features"][:], values.astype(np.float16))
    assert len(list((tmp_path / "g" / "features" / "c").rglob("0"))) in (shards, shards + 1)


def test_the_engine_equals_one_tile_at_a_time(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    encoder = build_encoder(SPEC, "cpu")
    extract_features(slide, store, encoder, SPEC, threads=4)
    stored = store.read_features("texture")
    again = encode_tiles(slide, store.read_tiles(), encoder, batch_size=SPEC.batch_size, threads=1)
    assert again.digest == stored.digest
    assert (again.encoder_digest, again.tiles_digest) == (stored.encoder_digest, stored.tiles_digest)
    alone = encode_tiles(slide, store.read_tiles(), encoder, batch_size=1, threads=1)
    np.testing.assert_allclose(stored.features, alone.features, rtol=2e-3, atol=2e-3)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    slide = reader()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        extract_features(slide, store_with_tiles(tmp_path / name, slide), MeanEncoder(), SPEC, threads=4)
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


class Interrupted(MeanEncoder):
    """Raises an error after some batches, like Ctrl-C."""

    def __init__(self, error: BaseException, after: int = 5) -> None:
        super().__init__()
        self.error, self.left = error, after

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().encode(pixels)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()]
)
def test_an_interrupted_extraction_leaves_nothing_and_resumes_to_the_same(
    tmp_path: Path, error: BaseException
) -> None:
    slide = reader()
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = store_with_tiles(tmp_path / "whole", slide)
    extract_features(slide, whole, MeanEncoder(), SPEC)
    parts = store_with_tiles(tmp_path / "parts", slide)
    with pytest.raises(type(error)):
        extract_features(slide, parts, Interrupted(error), SPEC)
    assert parts.encoders() == []
    assert [p.name for p in (parts.path / "features").iterdir()] == ["zarr.json"]
    with pytest.raises(StoreError, match=r"no complete features/texture.*wsi-mil extract"):
        parts.read_features("texture")
    extract_features(slide, parts, MeanEncoder(), SPEC)
    assert parts.read_features("texture").digest == whole.read_features("texture").digest


def test_a_full_disk_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)

    def full(self: object, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.FeatureWriter, "append", full)
    with pytest.raises(MachineError, match="No space left"):
        extract_features(slide, store, MeanEncoder(), SPEC)
    assert store.encoders() == []


def test_files_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    left = store.path / "features" / f".texture.{socket.gethostname().replace('.', '-')}.999999999.tmp"
    left.mkdir(parents=True)
    extract_features(slide, store, MeanEncoder(), SPEC)
    assert not left.exists()


def test_new_tiles_remove_old_features(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    extract_features(slide, store, MeanEncoder(), SPEC)
    store_with_tiles(tmp_path, slide, size=50)
    assert store.encoders() == []


def test_a_second_encoder_leaves_the_first_alone(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    extract_features(slide, store, MeanEncoder(), SPEC)
    first = store.read_features("texture").digest
    other = EncoderSpec(alias="twice")
    extract_features(slide, store, MeanEncoder(2.0), other)
    assert store.encoders() == ["texture", "twice"]
    one, two = store.read_features("texture"), store.read_features("twice")
    assert one.digest == first
    assert one.encoder_digest != two.encoder_digest
    np.testing.assert_allclose(two.features, 2 * one.features.astype(float), rtol=2e-3)
    np.testing.assert_array_equal(one.coords, two.coords)


class Damaged(ArrayReader):
    """Some tiles cannot be read."""

    bad = 1

    def _read(self, handle, level, x_px, y_px, width_px, height_px):  # type: ignore[no-untyped-def]
        if y_px == 40 and x_px < 40 * self.bad:
            raise OSError("premature end of JPEG data")
        return super()._read(handle, level, x_px, y_px, width_px, height_px)


def test_unreadable_tiles_are_counted_and_flagged(tmp_path: Path) -> None:
    slide = reader(kind=Damaged)
    store = store_with_tiles(tmp_path, slide)
    assert extract_features(slide, store, MeanEncoder(), SPEC).unreadable == 1
    table = store.read_features("texture")
    assert np.flatnonzero(~table.readable).tolist() == [17]
    assert not table.features[17].any()
    from wsi_mil.bags import load_bag

    assert len(load_bag(table, 1).features) == 169


def test_too_many_unreadable_tiles_fail_the_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Damaged, "bad", 12)
    slide = reader(kind=Damaged)
    store = store_with_tiles(tmp_path, slide)
    with pytest.raises(SlideError, match=r"'a/b': 12 of 170 tiles cannot be read"):
        extract_features(slide, store, MeanEncoder(), SPEC)
    assert store.encoders() == []


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    with pytest.raises(StoreError, match="beyond float16"):
        extract_features(slide, store, MeanEncoder(1e6), SPEC)
    assert store.encoders() == []


def test_changed_bytes_are_found(tmp_path: Path) -> None:
    slide = reader()
    store = store_with_tiles(tmp_path, slide)
    extract_features(slide, store, MeanEncoder(), SPEC)
    chunk = next(
        p for p in (store.path / "features" / "texture" / "readable" / "c").rglob("*") if p.is_file()
    )
    chunk.write_bytes(b"\x00" + chunk.read_bytes()[1:])
    with pytest.raises(StoreError, match="do not match their digest"):
        store.read_features("texture")


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    store = store_with_tiles(tmp_path, reader())
    group = zarr.open_group(str(store.path / "tiles"), mode="r+")
    group.attrs.update(sealed({**group.attrs, "format_version": 99}))
    with pytest.raises(StoreError, match="format 99, this version reads 1"):
        store.tiles_digest()


def test_an_absent_store_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    store = SlideStore(tmp_path / "none.zarr", "x")
    assert store.tiles_digest() is None
    assert store.stored_features("texture") is None
    for call in (store.read_tiles, store.read_info):
        with pytest.raises(StoreError, match="wsi-mil tile"):
            call()
    shutil.rmtree(tmp_path / "none.zarr", ignore_errors=True)


@pytest.mark.parametrize("side", [400, 1600])
def test_memory_does_not_grow_with_the_slide(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sixteen times as many tiles, the same number of batches is in memory."""
    slide = ArrayReader(np.zeros((side, side, 3), np.uint8), mpp=1.0)
    table = tile_slide(
        slide.info, find_tissue(slide, TissueSpec(method="whole")), TileSpec(mpp=1.0, size_px=40)
    )
    begun = 0
    read = TileReader._read_batch

    def counted(self: TileReader, start: int, stop: int) -> object:
        nonlocal begun
        begun += 1
        return read(self, start, stop)

    monkeypatch.setattr(TileReader, "_read_batch", counted)
    ahead = [
        begun - taken for taken, _ in enumerate(TileReader(slide, table).batches(10, threads=2, ahead=2))
    ]
    assert len(ahead) == side * side // 16000
    assert max(ahead) <= 5
