"""Damaged files of every format: lesions, or our own error in one line with the file's name."""

import gzip
import io
import json
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.damage import inputs, show
from tests.evaluation.annotations import files
from tests.evaluation.annotations.files import BOX, INFO
from wsi_mil import limits
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation.annotations import AnnotationFolder, read_annotation_file
from wsi_mil.evaluation.annotations.formats import ndpa

NM = [(500 * x, 500 * y) for x, y in BOX]


def geojson() -> bytes:
    cells = [files.feature(classification="Tumor", objectType="cell")]
    items = [
        files.feature(classification={"name": "Tumor", "color": [200, 0, 0]}, childObjects=cells),
        files.feature([[1, 1], [9, 1], [9, 9], [1, 1]], {"names": ["Ignore*"]}, "LineString"),
    ]
    return json.dumps({"type": "FeatureCollection", "features": items, "wsi_mil": {"kind": "truth"}}).encode()


def mask(compression: str) -> bytes:
    pixels = np.zeros((64, 128), np.uint8)
    pixels[8:16, 20:70] = 1
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, tile=(64, 64), compression=compression, photometric="minisblack")
    return out.getvalue()


REGIONS = files.region(BOX) + files.region(BOX, 2, 'Text="normal" NegativeROA="1"')
WHOLE: dict[str, Callable[[], bytes]] = {
    "s.xml": lambda: files.asap(
        ("Polygon", "Tumor", BOX), ("Spline", "_2", BOX[:3]), groups={"a": "b"}
    ).encode(),
    "s_image.xml": lambda: files.imagescope('Name="Tumor"', REGIONS).encode(),
    "s.ndpa": lambda: files.ndpa(("Tumor", "freehand", files.pointlist(NM))).encode(),
    "s.geojson": geojson,
    "s.geojson.gz": lambda: gzip.compress(geojson()),
    "s.tif": lambda: mask("zlib"),
    "s_mask.tif": lambda: mask("lzw"),
}


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Return `raw` with bytes flipped, cut, doubled or replaced by tokens that break parsers."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data) or 1)
        what = rng.randrange(5)
        if what == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif what == 1:
            del data[at:]
        elif what == 2:
            data[at:at] = data[at : at + rng.randrange(40)]
        elif what == 3:
            del data[at : at + rng.randrange(12)]
        else:
            data[at : at + 3] = rng.choice(
                (b"nan", b"\0\xff\xfe", b"1e999", b"]}", b"-", b"<a/>", b"{}", b"null")
            )
    return bytes(data)


def ours_or_fine(path: Path) -> bool:
    """Read a file; return whether it was refused. Anything but our own error with its name fails."""
    found, said = None, path.name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read_annotation_file(path, "s", INFO)
    except WsiMilError as error:
        said = str(error)
    assert path.name in said
    assert "\n" not in said
    if found is None:
        return True
    assert all(np.isfinite(lesion.geometry.bounds).all() for lesion in found.lesions)
    assert found.used + found.excluded + sum(part.count for part in found.skipped) == found.objects
    return False


TO_PX = ndpa.NanometresToPixels((0.0, 0.0), (500.0, 500.0), (4096, 2048))


@pytest.fixture(autouse=True)
def _slide_of_ndpa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndpa, "nanometres_to_pixels", lambda info: TO_PX)


@pytest.mark.parametrize("name", WHOLE)
def test_the_undamaged_file_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name]())
    assert read_annotation_file(path, "s", INFO).lesions


def damage(name: str, count: int, folder: Path) -> int:
    raw, refused = WHOLE[name](), 0
    for seed in range(count):
        path = folder / name
        path.write_bytes(damaged(raw, random.Random(seed)))
        refused += ours_or_fine(path)
    return refused


@pytest.mark.parametrize("name", WHOLE)
def test_only_our_own_errors_come_out_of_damaged_files(name: str, tmp_path: Path) -> None:
    count = inputs("annotations", len(WHOLE))
    refused = damage(name, count, tmp_path)
    show("annotations", name, ["refused"] * refused + ["read"] * (count - refused))
    assert 0 < refused < count  # some are refused, some are still read


@pytest.mark.parametrize("name", WHOLE)
def test_every_truncation_is_read_or_refused(name: str, tmp_path: Path) -> None:
    raw, path = WHOLE[name](), tmp_path / name
    for length in range(0, len(raw), max(len(raw) // 40, 1)):
        path.write_bytes(raw[:length])
        ours_or_fine(path)


def test_a_file_that_a_library_fails_on_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the exception of a library is."""
    path = files.write_geojson(tmp_path / "s.geojson", files.feature(classification="Tumor"))
    for error in (MemoryError("of\nit"), RecursionError("deep"), AttributeError("x"), OSError(5, "disk")):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("wsi_mil.evaluation.annotations.reading.meaning", fail)
        with pytest.raises(
            DataError, match=rf"s\.geojson cannot be read \({type(error).__name__}"
        ) as refused:
            read_annotation_file(path, "s", INFO)
        assert "\n" not in str(refused.value)


def test_gzip_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GEOJSON_BYTES", replace(limits.GEOJSON_BYTES, most=1 << 20))
    path = tmp_path / "s.geojson.gz"
    path.write_bytes(gzip.compress(b"[" + b" " * (1 << 21) + b"]"))
    with pytest.raises(DataError, match=r"s\.geojson\.gz: 1,048,577 bytes of GeoJSON"):
        read_annotation_file(path, "s", INFO)


@pytest.mark.parametrize(
    "offset", ["[1, 1" + "0" * 400 + "]", "[1]", "[1, 1e999]", '["1", 2]', "[1, NaN]", "7"]
)
def test_offsets_that_are_no_numbers_are_refused(tmp_path: Path, offset: str) -> None:
    head = f'{{"bounds_offset_px": {offset}}}'
    text = f'{{"type": "FeatureCollection", "features": [], "wsi_mil": {head}}}'
    (tmp_path / "s.geojson").write_text(text)
    with pytest.raises(DataError, match=r"s\.geojson: wsi_mil\.bounds_offset_px is .*, expected two finite"):
        read_annotation_file(tmp_path / "s.geojson", "s", INFO)


def test_masks_are_refused_where_numbers_or_channels_are_not_understood(tmp_path: Path) -> None:
    green = np.zeros((64, 128, 3), np.uint8)
    green[8:16, 20:70, 1] = 255
    half = np.zeros((64, 128), np.float32)
    half[8:16, 20:70] = 1.5
    for pixels, said in ((green, "another channel marks more"), (half, "holds whole numbers")):
        tifffile.imwrite(tmp_path / "s.tif", pixels)
        with pytest.raises(DataError, match=rf"s\.tif: .*{said}"):
            read_annotation_file(tmp_path / "s.tif", "s", INFO)
    red = green[..., [1, 0, 2]]
    tifffile.imwrite(tmp_path / "s.tif", red)
    assert len(read_annotation_file(tmp_path / "s.tif", "s", INFO).lesions) == 1


def test_a_folder_with_the_name_of_a_file_is_no_annotation(tmp_path: Path) -> None:
    (tmp_path / "s.xml").mkdir()
    assert AnnotationFolder(tmp_path).find("s") is None
