"""What a TIFF file states is compared with the limits before a library opens the file."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.slides.tiff_bytes import ASCII, LONG, SHORT, tiff_bytes, tiled
from wsi_mil import limits
from wsi_mil.cli.main import main
from wsi_mil.errors import SlideError
from wsi_mil.limits import Limit
from wsi_mil.slides import open_slide
from wsi_mil.slides.tiff_headers import check_headers


def strip(rows: int) -> list[tuple[int, int, int, int]]:
    return [(256, LONG, 1, 1 << 16), (257, LONG, 1, 1 << 20), (278, LONG, 1, rows)]


def deep(side: int) -> list[tuple[int, int, int, int]]:
    """An image in tiles whose samples have 32 bits."""
    return tiled(1 << 15, 1 << 15, side, 1 << 13, (258, SHORT, 1, 32), (277, SHORT, 1, 4))


CASES: dict[str, tuple[Limit, Callable[[], bytes], Callable[[], bytes]]] = {
    "side": (
        limits.SIDE_PX,
        lambda: tiff_bytes([tiled(2_000_000, 9, 256, 256)]),
        lambda: tiff_bytes([tiled(9, 2_000_001, 256, 256)]),
    ),
    "image": (
        limits.IMAGE_PX,
        lambda: tiff_bytes([tiled(1_000_000, 1_000_000, 256, 256)]),
        lambda: tiff_bytes([tiled(1_000_000, 1_000_001, 256, 256)]),
    ),
    "side of a tile": (
        limits.TILE_SIDE_PX,
        lambda: tiff_bytes([tiled(9, 9, 65_500, 16)]),
        lambda: tiff_bytes([tiled(9, 9, 16, 65_501)]),
    ),
    "tile": (
        limits.TILE_PX,
        lambda: tiff_bytes([tiled(9, 9, 1 << 14, 1 << 14)]),
        lambda: tiff_bytes([tiled(9, 9, (1 << 14) + 16, 1 << 14)]),
    ),
    "tile of a later image": (
        limits.TILE_PX,
        lambda: tiff_bytes([tiled(9, 9, 256, 256)] * 2),
        lambda: tiff_bytes([tiled(9, 9, 256, 256), tiled(9, 9, 1 << 15, 1 << 15)], big=True),
    ),
    "strip": (
        limits.TILE_PX,
        lambda: tiff_bytes([strip(1 << 12)]),
        lambda: tiff_bytes([strip((1 << 12) + 1)]),
    ),
    "tile in bytes": (
        limits.TILE_BYTES,
        lambda: tiff_bytes([deep(1 << 13)]),
        lambda: tiff_bytes([deep((1 << 13) + 16)]),
    ),
    "tiles": (
        limits.TILES,
        lambda: tiff_bytes([tiled(1 << 16, 1 << 16, 16, 16)]),
        lambda: tiff_bytes([tiled(1 << 16, (1 << 16) + 1, 16, 16)]),
    ),
    "images": (
        limits.IMAGES,
        lambda: tiff_bytes([[(256, LONG, 1, 9)]] * 10_000),
        lambda: tiff_bytes([[(256, LONG, 1, 9)]] * 10_001),
    ),
    "levels": (
        limits.LEVELS,
        lambda: tiff_bytes([tiled(9, 9, 16, 16, (330, LONG, 64, 1 << 30))]),
        lambda: tiff_bytes([tiled(9, 9, 16, 16, (330, LONG, 65, 1 << 30))]),
    ),
    "tags": (
        limits.TAGS,
        lambda: tiff_bytes([[(40_000 + n, LONG, 1, 0) for n in range(4_096)]]),
        lambda: tiff_bytes([[(40_000 + n, LONG, 1, 0) for n in range(4_097)]]),
    ),
    "tag": (
        limits.TAG_BYTES,
        lambda: tiff_bytes([tiled(9, 9, 16, 16, (324, LONG, 64 << 20, 8))]),
        lambda: tiff_bytes([tiled(9, 9, 16, 16, (324, LONG, (64 << 20) + 1, 8))]),
    ),
    "description": (
        limits.TEXT_BYTES,
        lambda: tiff_bytes([tiled(9, 9, 16, 16, (270, ASCII, 8 << 20, 8))]),
        lambda: tiff_bytes([tiled(9, 9, 16, 16, (270, ASCII, (8 << 20) + 1, 8))]),
    ),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case == "images" else case for case in CASES]
)
def test_a_file_is_refused_just_above_each_limit(case: str) -> None:
    limit, below, above = CASES[case]
    check_headers(BytesIO(below()), "slide.tiff")
    file = BytesIO(above())
    tracemalloc.start()
    try:
        with pytest.raises(SlideError, match=r"slide\.tiff") as raised:
            check_headers(file, "slide.tiff")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(raised.value)
    assert limit.what in message
    assert f"{limit.most:,}" in message
    assert "\n" not in message
    assert peak < 8 << 20


@pytest.mark.parametrize("images", [1, 3, 50])
@pytest.mark.parametrize("big", [False, True])
def test_a_cycle_of_images_is_refused(images: int, big: bool) -> None:
    data = tiff_bytes([tiled(9, 9, 16, 16)] * images, last_points_at=images // 2, big=big)
    with pytest.raises(SlideError, match="point at each other"):
        check_headers(BytesIO(data), "slide.tiff")


def test_a_cycle_through_an_image_below_is_refused() -> None:
    data = tiff_bytes([tiled(9, 9, 16, 16, (330, LONG, 1, 8))])
    with pytest.raises(SlideError, match="point at each other"):
        check_headers(BytesIO(data), "slide.tiff")


def test_a_size_that_is_stated_twice_is_refused() -> None:
    entries = [*tiled(9, 9, 204_800, 204_800), (322, LONG, 1, 16), (323, LONG, 1, 16)]
    with pytest.raises(SlideError, match="the tag 322 twice"):
        check_headers(BytesIO(tiff_bytes([entries])), "slide.tiff")


@pytest.mark.parametrize("length", [3, 8, 9, 20, 100])
def test_a_file_that_ends_early_is_left_to_its_library(length: int) -> None:
    whole = tiff_bytes([tiled(9, 9, 16, 16)])
    assert check_headers(BytesIO(whole[:length]), "slide.tiff") is None
    far = struct.pack("<2sHHHQ", b"II", 43, 8, 0, (1 << 64) - 1)
    assert check_headers(BytesIO(far), "slide.tiff") is None


def test_places_of_64_bits_in_ndpi_are_followed(tmp_path: Path) -> None:
    """Such a file is larger than 4 GiB: here with a hole that takes no space on the disk."""
    place = (1 << 32) + 64
    entries = [*tiled(9, 9, 1 << 15, 1 << 15), (65420, LONG, 1, 1)]
    path = tmp_path / "slide.ndpi"
    with path.open("wb") as file:
        file.write(struct.pack("<2sHQ", b"II", 42, place))
        file.seek(place)
        file.write(struct.pack("<H", len(entries)))
        file.write(b"".join(struct.pack("<HHII", *entry) for entry in entries))
        file.write(bytes(8 + 4 * len(entries)))
    with path.open("rb") as file, pytest.raises(SlideError, match="1,073,741,824 pixels in one tile"):
        check_headers(file, str(path))


@pytest.mark.parametrize("name", ["slide.svs", "slide.tiff", "slide.ndpi", "slide.png"])
@pytest.mark.parametrize("reader", ["auto", "openslide", "tiffslide", "tiff", "jpeg_tiles"])
def test_every_reader_refuses_the_tile_that_ends_openslide(name: str, reader: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(tiff_bytes([tiled(204_800, 204_800, 204_800, 204_800)]))
    with pytest.raises(SlideError, match=r"slide 'slide'.*204,800 pixels along a side of a tile.*65,500"):
        open_slide(path, reader=reader, mpp=0.5)


def test_a_slide_behind_a_url_is_checked_before_it_is_opened() -> None:
    import fsspec

    with fsspec.open("memory://limits/slide.tiff", "wb") as file:
        file.write(tiff_bytes([tiled(9, 9, 16, 16)], last_points_at=0))
    with pytest.raises(SlideError, match="point at each other"):
        open_slide("memory://limits/slide.tiff", mpp=0.5)


def test_the_check_prints_its_table_whatever_one_file_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (_, _, above) in CASES.items():
        (tmp_path / f"{name}.tiff").write_bytes(above())
    (tmp_path / "cycle.tiff").write_bytes(tiff_bytes([tiled(9, 9, 16, 16)], last_points_at=0))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(tmp_path), "--mpp", "0.5"])
    assert ended.value.code == 3
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows.keys() >= {*CASES, "cycle"}
    assert all(limit.what in rows[name] for name, (limit, _, _) in CASES.items())


def test_a_description_of_10_mb_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.tiff"
    description = b"MPP = " + b"1" * 10_000_000
    pixels = np.full((256, 256, 3), 200, np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", description=description, metadata=None)
    start = time.perf_counter()
    with pytest.raises(SlideError, match=limits.TEXT_BYTES.what):
        open_slide(path)
    assert time.perf_counter() - start < 2
