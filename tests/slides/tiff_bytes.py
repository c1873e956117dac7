"""TIFF files made of headers alone, written byte by byte, which state whatever a test wants."""

import struct
from collections.abc import Sequence

SHORT, LONG, ASCII, IFD = 3, 4, 2, 13
Entry = tuple[int, int, int, int]
"""Number of the tag, kind of its values, how many there are, and its only value or their place."""


def tiled(width: int, height: int, tile_width: int, tile_height: int, *more: Entry) -> list[Entry]:
    """Return the entries of an RGB image in tiles, whose data lie at the start of the file."""
    sizes = ((256, width), (257, height), (322, tile_width), (323, tile_height))
    entries = [(code, LONG, 1, value) for code, value in sizes]
    entries += [(code, SHORT, 1, value) for code, value in ((258, 8), (259, 1), (262, 2), (277, 3))]
    entries += [(324, LONG, 1, 8), (325, LONG, 1, 8)]
    return sorted([*(e for e in entries if e[0] not in {m[0] for m in more}), *more])


def tiff_bytes(
    images: Sequence[Sequence[Entry]], last_points_at: int | None = None, big: bool = False
) -> bytes:
    """Return a little-endian file of images in a row; the last one points at nothing, or at image
    `last_points_at`."""
    if big:
        head, count, entry, link, start = "<2sHHHQ", "<Q", "<HHQQ", "<Q", 16
    else:
        head, count, entry, link, start = "<2sHI", "<H", "<HHII", "<I", 8
    sizes = [
        struct.calcsize(count) + len(image) * struct.calcsize(entry) + struct.calcsize(link)
        for image in images
    ]
    places = [start + sum(sizes[:number]) for number in range(len(images))]
    data = struct.pack(head, b"II", 43, 8, 0, places[0]) if big else struct.pack(head, b"II", 42, places[0])
    ends = [*places[1:], 0 if last_points_at is None else places[last_points_at]]
    for image, following in zip(images, ends, strict=True):
        data += struct.pack(count, len(image))
        data += b"".join(struct.pack(entry, *values) for values in image)
        data += struct.pack(link, following)
    return data + bytes(64)
