"""Slide ids in one Unicode form, and the files whose names hold one.

'é' is one character (form NFC) or 'e' and an accent (NFD, as macOS and some archives store names). They look
alike and are different file names. Ids are always NFC; paths stay as they are on disk.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from wsi_mil.errors import DataError


def slide_id_text(text: str) -> str:
    """Return a slide id in Unicode form NFC: call it wherever an id comes from a file name or a table.

    >>> slide_id_text("Lunge\\u0301") == "Lung\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text)


def existing_file(folder: Path, name: str) -> Path:
    """Return the path below `folder` that is `name`, or that differs from it only in Unicode form.

    name: a relative path, with `/` between folders. Returns `folder / name` where there is no such file.
    Raises DataError where two files fit.

    >>> existing_file(Path("annotations"), "centre_1/s1.xml").as_posix()
    'annotations/centre_1/s1.xml'
    """
    found = existing_files(folder, name)
    refuse_same_text(found)
    return found[0] if found else folder / name


def existing_files(folder: Path, name: str) -> list[Path]:
    """Return every path below `folder` that is `name` in any Unicode form; [] where there is none."""
    if name.isascii():
        return [folder / name] if (folder / name).exists() else []
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
