"""Pictures, against Pillow's decoder: channels in order, quality, sampling of colour."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.io.images import decode_image, encode_jpeg, read_image, write_jpeg
from wsi_mil.io.picture_headers import stated_size_px


def picture() -> np.ndarray:
    """Unequal sides and unequal channels: red grows with x, green with y, blue is low."""
    y, x = np.mgrid[:40, :64]
    return np.stack([x * 4, y * 6, 0 * x + 20], axis=2).astype(np.uint8)


@pytest.mark.parametrize("full_colour", [False, True])
def test_pillow_reads_the_same_colours(full_colour: bool) -> None:
    data = encode_jpeg(picture(), 95, full_colour)
    seen = np.asarray(Image.open(io.BytesIO(data)))
    assert seen.shape == (40, 64, 3)
    assert np.abs(seen.astype(int) - picture()).max() < 12
    assert np.abs(decode_image(data).astype(int) - seen).max() <= 4


def test_sampling_of_colour_is_what_was_asked() -> None:
    for full_colour, sampling in ((True, (1, 1)), (False, (2, 2))):
        image = Image.open(io.BytesIO(encode_jpeg(picture(), 80, full_colour)))
        assert image.layer[0][1:3] == sampling


def test_a_lower_quality_makes_a_smaller_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_jpeg(tmp_path / "a.jpg", noise, 90)
    write_jpeg(tmp_path / "b.jpg", noise, 30)
    assert (tmp_path / "a.jpg").stat().st_size > 2 * (tmp_path / "b.jpg").stat().st_size


def test_a_png_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), picture())


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(encode_jpeg(picture(), 90)[:20])
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.jpg", "empty.jpg", "none.jpg"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_the_header_states_the_size(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: list[dict[str, Any]] = {
        "JPEG": [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(600)}],
        "WEBP": [{}, {"lossless": True}, {"exif": b"Exif\0\0" + bytes(600)}],
    }.get(form, [{}])
    for how in options:
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, form, **how)
        data = file.getvalue()
        assert stated_size_px(data) == (64, 40)
        assert decode_image(data).shape == (40, 64, 3)
        for end in range(60):
            assert stated_size_px(data[:end]) in (None, (64, 40))
        with monkeypatch.context() as patched:
            patched.setattr(limits, "PICTURE_PX", replace(limits.PICTURE_PX, most=64 * 40 - 1))
            with pytest.raises(DataError, match=r"p: 2,560 pixels in a picture"):
                decode_image(data, "p")
