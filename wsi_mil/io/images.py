"""JPEG and other pictures as RGB arrays. OpenCV's order of channels, blue first, occurs only in this file."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi_mil import limits
from wsi_mil.errors import DataError
from wsi_mil.io.files import write_bytes
from wsi_mil.io.picture_headers import stated_size_px

RGB = NDArray[np.uint8]


def encode_jpeg(rgb: RGB, quality: int, full_colour: bool = False) -> bytes:
    """Return an RGB picture (height, width, 3) as JPEG, quality 0 to 100.

    `full_colour` keeps the colour of each pixel (4:4:4); otherwise 2 x 2 pixels share one (4:2:0).

    >>> encode_jpeg(np.zeros((8, 8, 3), np.uint8), 85)[:2]
    b'\\xff\\xd8'
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_colour:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), options)
    return bytes(encoded.tobytes())


def encode_png(rgb: RGB, texts: Mapping[str, str]) -> bytes:
    """Return an RGB picture (height, width, 3) as PNG with texts such as its title, which viewers show.

    >>> encode_png(np.zeros((8, 8, 3), np.uint8), {"Title": "slide a"})[1:4]
    b'PNG'
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info, buffer = PngInfo(), BytesIO()
    for key, text in texts.items():
        info.add_itxt(key, text)
    Image.fromarray(rgb).save(buffer, "png", pnginfo=info, compress_level=2)
    return buffer.getvalue()


def write_jpeg(path: Path, rgb: RGB, quality: int) -> None:
    """Write an RGB picture (height, width, 3) as JPEG, whole or not at all."""
    write_bytes(path, encode_jpeg(rgb, quality))


def decode_image(data: bytes, source: str = "picture") -> RGB:
    """Return an encoded picture (JPEG, PNG, WebP, BMP, GIF) as RGB (height, width, 3) uint8.

    Raises DataError, with `source`, for data that is no picture or not complete, and for more pixels than
    limits.PICTURE_PX, which the header states.
    """
    size_px = stated_size_px(data)
    if size_px is not None:
        limits.PICTURE_PX.check(size_px[0] * size_px[1], source)
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if size_px else None
    except cv2.error as error:
        raise DataError(f"{source} cannot be read: {' '.join(str(error).split())}") from error
    if found is None:
        raise DataError(
            f"{source} cannot be read: expected a whole picture (JPEG, PNG, WebP, BMP or GIF), "
            f"{len(data)} bytes found"
        )
    return np.ascontiguousarray(found[:, :, ::-1], np.uint8)


def read_image(path: Path) -> RGB:
    """Return a picture file as RGB (height, width, 3) uint8. Raises DataError if it cannot be read."""
    try:
        return decode_image(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
