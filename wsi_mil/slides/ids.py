"""Slide ids in one Unicode form, and the files whose names hold one.

'é' is one character (form NFC) or 'e' and an accent (NFD, as macOS and some archives store names). They look
alike and are different file names. Ids are always NFC; paths stay as they are on disk.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.errors import DataError
from wsi_mil.io.files import digest_bytes
from wsi_mil.paths import DRIVE, below, input_below

LONGEST_PART_BYTES = 180
"""Of one folder or file name in an id: files made for a slide have longer names, of at most 255 bytes."""


def slide_id_text(text: str) -> str:
    """Return a slide id that is valid text and a valid file name, in Unicode form NFC.

    Call it wherever an id comes from a file name or a table. Bytes that are no UTF-8, control characters,
    backslashes and the colon of a drive letter become % and their code; a part of more than 180 bytes is cut
    and ends with its digest.

    >>> slide_id_text("Lunge\\u0301") == "Lung\\u00e9"
    True
    >>> slide_id_text("sl\\udce9de")
    'sl%E9de'
    """
    if DRIVE.match(text):  # "C:" at the start is a drive elsewhere
        text = f"{text[0]}%3A{text[2:]}"
    if text.isascii() and text.isprintable() and "\\" not in text and len(text) <= LONGEST_PART_BYTES:
        return text
    escaped = "".join(_escaped(letter) if _is_unfit(letter) else letter for letter in text)
    return "/".join(map(_shortened, unicodedata.normalize("NFC", escaped).split("/")))


def _is_unfit(letter: str) -> bool:
    return letter == "\\" or unicodedata.category(letter) in ("Cc", "Cs")


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8 (PEP 383)
        code -= 0xDC00
    return f"%{code:02X}"


def _shortened(part: str) -> str:
    data = part.encode()
    if len(data) <= LONGEST_PART_BYTES:
        return part
    return f"{data[: LONGEST_PART_BYTES - 17].decode(errors='ignore')}~{digest_bytes(data)}"


def existing_file(folder: Path, name: str, within: Path | None = None) -> Path:
    """Return the path below `folder` that is `name`, or that differs from it only in Unicode form.

    name: a relative path, with `/` between folders. within: a folder that no link may lead out of, for files
    that are also written; None for input. Returns `folder / name` where there is no such file. Raises
    DataError where two files fit.

    >>> existing_file(Path("annotations"), "centre_1/s1.xml").as_posix()
    'annotations/centre_1/s1.xml'
    """
    found = existing_files(folder, name)
    refuse_same_text(found)
    path = found[0] if found else input_below(folder, name, "slide id")
    if within is not None:
        below(folder, path.relative_to(folder).as_posix(), "slide id", within)
    return path


def existing_files(folder: Path, name: str) -> list[Path]:
    """Return every path below `folder` that is `name` in any Unicode form; [] where there is none."""
    path = input_below(folder, name, "slide id")
    if name.isascii() and "%" not in name and "~" not in name:
        return [path] if path.exists() else []
    found = [folder]
    for part in Path(name).parts:
        wanted = slide_id_text(part)
        found = [inner for outer in found for inner in _entries(outer) if slide_id_text(inner.name) == wanted]
    return found


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # no folder, or one that may not be read: it holds no file that fits
        return ()


def refuse_same_text(paths: Iterable[Path | str]) -> None:
    """Raise DataError if two paths are the same text in two Unicode forms."""
    seen: dict[str, Path | str] = {}
    for path in paths:
        other = seen.setdefault(slide_id_text(str(path)), path)
        if other is not path:
            raise DataError(
                f"{str(other)!r} and {str(path)!r} have names that differ only in Unicode form "
                f"({str(other).rpartition('/')[2]!a}, {str(path).rpartition('/')[2]!a}), expected "
                "one file: take one of them away"
            )
