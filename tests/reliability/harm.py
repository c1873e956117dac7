"""What happens to the file of a slide while it is read: cut off, replaced, removed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.stages import handmade

OTHER = 1000
"""Seed of the pixels of another slide. Its file has the same size: it is not compressed."""


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def replace(path: Path, content: bytes) -> None:
    """Put another file in the place of a slide, as `mv` and rsync do."""
    aside = path.with_name("aside")
    aside.write_bytes(content)
    aside.replace(path)


def put_other_size(path: Path) -> None:
    replace(path, path.read_bytes() + bytes(4096))


def other_pixels(path: Path) -> bytes:
    other = handmade.write_slide(path.with_name("other"), handmade.pixels(OTHER))
    content = other.read_bytes()
    other.unlink()
    assert len(content) == path.stat().st_size
    return content


def put_other_pixels(path: Path) -> None:
    replace(path, other_pixels(path))


def put_other_pixels_of_the_same_time(path: Path) -> None:
    """As from an archive that gives all its files one time."""
    before = path.stat()
    replace(path, other_pixels(path))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_other_pixels(path: Path) -> None:
    """Into the same file, as `cp` does: whoever has it open reads the new pixels."""
    content = other_pixels(path)
    with path.open("rb+") as file:
        file.write(content)


def put_text(path: Path) -> None:
    replace(path, b"this is no slide\n" * 100)


def remove(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


HARMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (cut_off, "changed"),
    "other size": (put_other_size, "changed"),
    "other pixels": (put_other_pixels, "changed"),
    "other pixels, same time": (put_other_pixels_of_the_same_time, "changed"),
    "written into": (write_other_pixels, "changed"),
    "no slide": (put_text, "changed"),
    "removed": (remove, "removed"),
    "folder removed": (remove_folder, "removed"),
}
"""Name -> what is done, and what the reason of the failed slide says of it."""


def content_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def touched(path: Path) -> None:
    os.utime(path, ns=(0, 1_700_000_000 * 10**9))
