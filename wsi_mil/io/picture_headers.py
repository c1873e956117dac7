"""The size that the header of a picture states, read without decoding the picture."""

import struct

SizePx = tuple[int, int]
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG that begin a frame header."""
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def stated_size_px(data: bytes) -> SizePx | None:
    """Return (width, height) of a JPEG, PNG, WebP, BMP or GIF file; None for other data, or a cut header.

    >>> stated_size_px(b"GIF89a" + bytes([64, 0, 40, 0]))
    (64, 40)
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _pair(">II", data, 16)
        if data.startswith(b"BM"):
            width, height = _pair("<ii", data, 18) if data[14] > 12 else _pair("<HH", data, 18)
            return width, abs(height)  # negative: its rows go down
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _pair("<HH", data, 6)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass
    return None


def _pair(layout: str, data: bytes, place: int) -> SizePx:
    first, second = struct.unpack_from(layout, data, place)
    return int(first), int(second)


def _jpeg(data: bytes) -> SizePx | None:
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in WITHOUT_LENGTH:  # a byte that fills, or a marker alone
            place += 1 if marker == 0xFF else 2
            continue
        if marker in FRAMES:
            height, width = _pair(">HH", data, place + 5)
            return width, height
        if marker == 0xDA:  # pixels begin without a frame header
            return None
        place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    return None


def _webp(data: bytes) -> SizePx | None:
    if len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":  # the canvas, on which its pictures lie
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = _pair("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
