"""The one place that makes a path from a name that came from outside: a table, a model, a manifest.

Such a name may be "..", an absolute path, or one that a link leads elsewhere. `below` returns a path below
the root or raises; tests/test_paths.py checks that no other code joins such names.
"""

import os
import re
from pathlib import Path

from wsi_mil.errors import DataError

LONGEST_PART_BYTES = 240
"""Of one component. File systems take 255 bytes, and a temporary file has a longer name than its target."""
LONGEST_BYTES = 3500
"""Of the whole name. Linux takes 4096 bytes for a path."""
DRIVE = re.compile(r"^[A-Za-z]:")


def below(root: Path, name: str, what: str = "name", within: Path | None = None) -> Path:
    """Return `root / name`. name: one component, or several with `/` between them.

    what: what the name is and where it came from, for the message. Raises DataError for a name that is no
    relative path below `root`, or that a symbolic link leads out of `within` (default:
    `root`), a folder above `root`.

    >>> below(Path("runs/demo/slides"), "centre_1/s1.zarr").as_posix()
    'runs/demo/slides/centre_1/s1.zarr'
    """
    path = input_below(root, name, what)
    within = root if within is None else within
    real = os.path.realpath(within)
    found = os.path.realpath(path)
    if found != real and not found.startswith(os.path.join(real, "")):
        raise DataError(
            f"{what} {name!r}: {path} is a link to {found}, outside of {within}. Remove the link, or move "
            "the whole folder and give its new place"
        )
    return path


def input_below(root: Path, name: str, what: str = "name") -> Path:
    """Return `root / name` in a folder that is only read. Links below it may lead anywhere, since people
    collect files by links. Raises DataError for a name that is no relative path below `root`."""
    problem = problem_of(name)
    if problem:
        raise DataError(
            f"{what} {name!r} {problem}: it cannot be used as a file name below {root}. Rename it"
        )
    return root / name


def child(root: Path, name: str, what: str = "name", within: Path | None = None) -> Path:
    """Return `root / name` for a name of one component, without `/`. Raises DataError as `below` does.

    >>> child(Path("models"), "focus_mil").name
    'focus_mil'
    """
    if "/" in name:
        raise DataError(f"{what} {name!r} holds '/': expected one name, without folders. Rename it")
    return below(root, name, what, within)


def require_text(path: Path, what: str) -> None:
    """Raise DataError for a path that is no UTF-8: Parquet and safetensors cannot open files there.

    >>> require_text(Path("runs/demo"), "run folder")
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise DataError(f"{what} {path}: its name is not UTF-8, and such files cannot be read. Rename it")


def problem_of(name: str) -> str:
    """Return why a name is no relative path below a folder; "" for one that is.

    >>> problem_of("../x"), problem_of("centre_1/s1")
    ("has the part '..'", '')
    """
    if not name:
        return "is empty"
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        return "holds a control character"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "holds a character that is no valid Unicode"
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/") or DRIVE.match(name):
        return "is an absolute path"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"has the part {part!r}"
        if len(os.fsencode(part)) > LONGEST_PART_BYTES:
            return f"has a part of more than {LONGEST_PART_BYTES} bytes"
    return f"has more than {LONGEST_BYTES} bytes" if len(os.fsencode(name)) > LONGEST_BYTES else ""
