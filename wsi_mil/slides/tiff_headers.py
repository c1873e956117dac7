"""Limits of a TIFF file, checked on its headers alone: some libraries end the process that opens a file."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from wsi_mil import limits
from wsi_mil.errors import SlideError

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of one value of each TIFF type."""
NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
ASCII = 2
WIDTH, HEIGHT, BITS, SAMPLES, ROWS, TILE_WIDTH, TILE_HEIGHT, SUBIFDS = READ_HERE = (
    256,
    257,
    258,
    277,
    278,
    322,
    323,
    330,
)
NDPI = 65420
"""The tag by which Hamamatsu's files are known: they have no tiles, and decoders read parts of one strip."""


@dataclass(frozen=True)
class Tag:
    """An entry of an image's header: kind and number of its values, and the place where they lie."""

    kind: int
    count: int
    place: int

    @property
    def nbytes(self) -> int:
        """How many bytes its values take."""
        return SIZES.get(self.kind, 1) * self.count


@dataclass(frozen=True)
class Form:
    """How a file writes numbers. order: "<" or ">". big: BigTIFF. ndpi: a plain TIFF with 64-bit places."""

    order: str
    big: bool
    ndpi: bool = False


def check_headers(file: BinaryIO, path: str) -> None:
    """Raise SlideError if the headers of a TIFF file exceed a limit of `wsi_mil.limits`, or form a cycle.

    A file that is no TIFF by its first bytes passes, and so does one that ends within its headers: the
    library that reads it says so.
    """
    file.seek(0)
    head = file.read(16)
    if head[:4] not in TIFF_STARTS:
        return
    try:
        _check_images(file, head, path)
    except struct.error:
        return


def _check_images(file: BinaryIO, head: bytes, path: str) -> None:
    form = Form("<" if head[:2] == b"II" else ">", b"+" in head[2:4])
    wide = Form("<", big=False, ndpi=True)
    first = _whole(head[8:16] if form.big else head[4:8], form)
    if form == Form("<", big=False) and _is_ndpi(file, wide, _whole(head[4:12], wide)):
        first, form = _whole(head[4:12], wide), wide
    seen: set[int] = set()
    waiting = [(first, True)]
    while waiting:
        place, in_row = waiting.pop()
        if place == 0:
            continue
        where = f"{path}, image {len(seen) + 1}"
        if place in seen:
            raise SlideError(f"{where}: the images of the file point at each other: {limits.DAMAGED}")
        seen.add(place)
        limits.IMAGES.check(len(seen), path, SlideError)
        tags, following = _tags(file, place, form, where)
        _check_image(file, tags, form, where)
        if in_row:  # images below another one may be linked as well, besides being listed: none follows that
            waiting.append((following, True))
        if SUBIFDS in tags:
            limits.LEVELS.check(tags[SUBIFDS].count, where, SlideError)
            below = _values(file, tags[SUBIFDS], form, limits.LEVELS.most)
            waiting.extend((found, False) for found in below)


def _is_ndpi(file: BinaryIO, form: Form, place: int) -> bool:
    try:
        return NDPI in _tags(file, place, form, "")[0]
    except (struct.error, SlideError):
        return False


def _tags(file: BinaryIO, place: int, form: Form, where: str) -> tuple[dict[int, Tag], int]:
    """Return the tags of the image at a place, and the place of the next image (0: none)."""
    start, step, inline = (place + 8, 20, 8) if form.big else (place + 2, 12, 4)
    count = _whole(_read(file, place, start - place), form)
    limits.TAGS.check(count, where, SlideError)
    end, link = start + step * count, 8 if form.big or form.ndpi else 4
    entries = _read(file, start, step * count)
    following = _whole(_read(file, end, link), form)
    high = _read(file, end + link, 4 * count) if form.ndpi else bytes(4 * count)
    tags: dict[int, Tag] = {}
    for number in range(count):
        entry = entries[step * number : step * (number + 1)]
        code, kind = (_whole(entry[at : at + 2], form) for at in (0, 2))
        if code in tags and code in READ_HERE:
            raise SlideError(f"{where}: it states the tag {code} twice: {limits.DAMAGED}")
        tag = Tag(kind, _whole(entry[4:-inline], form), start + step * (number + 1) - inline)
        if tag.nbytes > inline:
            far = _whole(entry[-inline:], form) + (_whole(high[4 * number : 4 * number + 4], form) << 32)
            tag = Tag(kind, tag.count, far)
        tags[code] = tag
    return tags, following


def _whole(data: bytes, form: Form) -> int:
    return int.from_bytes(data, "little" if form.order == "<" else "big")


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    """Return bytes of the file. Raises struct.error if it ends before."""
    if place + count > file.seek(0, os.SEEK_END):
        raise struct.error("the file ends within its headers")
    file.seek(place)
    return file.read(count)


def _values(file: BinaryIO, tag: Tag | None, form: Form, most: int) -> tuple[int, ...]:
    """Return the first `most` values of a tag that holds whole numbers; none of any other."""
    if tag is None or tag.kind not in NUMBERS:
        return ()
    count = min(tag.count, most)
    layout = f"{form.order}{count}{NUMBERS[tag.kind]}"
    return struct.unpack(layout, _read(file, tag.place, struct.calcsize(layout)))


def _check_image(file: BinaryIO, tags: dict[int, Tag], form: Form, where: str) -> None:
    """Check one image: its tags, size, and tiles or strips."""
    for tag in tags.values():
        limits.TAG_BYTES.check(tag.nbytes, where, SlideError)
        if tag.kind == ASCII:
            limits.TEXT_BYTES.check(tag.nbytes, where, SlideError)

    def number(code: int, otherwise: int) -> int:
        return next(iter(_values(file, tags.get(code), form, 1)), otherwise)

    width, height = number(WIDTH, 0), number(HEIGHT, 0)
    limits.SIDE_PX.check(max(width, height), where, SlideError)
    limits.IMAGE_PX.check(width * height, where, SlideError)
    tiled = TILE_WIDTH in tags or TILE_HEIGHT in tags
    if NDPI in tags and not tiled:
        return
    tile_width = number(TILE_WIDTH, width)
    tile_height = number(TILE_HEIGHT, height) if tiled else min(number(ROWS, height), height)
    if tiled:
        limits.TILE_SIDE_PX.check(max(tile_width, tile_height), where, SlideError)
    limits.TILE_PX.check(tile_width * tile_height, where, SlideError)
    bits = number(SAMPLES, 1) * max(_values(file, tags.get(BITS), form, 16), default=1)
    limits.TILE_BYTES.check(tile_width * tile_height * bits // 8, where, SlideError)
    if tile_width > 0 and tile_height > 0:
        limits.TILES.check(-(-width // tile_width) * -(-height // tile_height), where, SlideError)
