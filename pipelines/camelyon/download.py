"""Camelyon as it is downloaded: find slides and outlines, and arrange them as a cohort."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from wsi_mil.errors import DataError
from wsi_mil.io.files import write_text
from wsi_mil.io.tables import csv_text

COLUMNS = ("slide", "label", "patient", "centre", "split")


@dataclass(frozen=True, order=True)
class SlideRow:
    """One row of labels.csv. centre and split are empty where they are not known or not fixed."""

    slide_id: str
    label: str
    patient: str
    centre: str
    split: str


@dataclass(frozen=True)
class Download:
    """Slides and lesion outlines below the folder of a download, each by file name without ending."""

    folder: Path
    slides: dict[str, Path]
    outlines: dict[str, Path]


def find_files(folder: Path, pattern: str) -> Download:
    """Return the .tif slides and .xml outlines whose name matches `pattern`, in any folder below `folder`.

    Mask images have other names and are ignored. Raises DataError if there is no slide, or if two files have
    the same name.
    """
    found: dict[str, dict[str, Path]] = {".tif": {}, ".xml": {}}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in found or not re.fullmatch(pattern, path.stem) or path.name.startswith("."):
            continue
        if (before := found[path.suffix].setdefault(path.stem, path)) != path:
            raise DataError(f"{path.name} lies in {before.parent} and in {path.parent}: keep one of them")
    if not found[".tif"]:
        raise DataError(
            f"no slide below {folder} is named like {pattern}.tif: give the folder of the download"
        )
    return Download(folder, found[".tif"], found[".xml"])


def find_one(folder: Path, name: str) -> Path:
    """Return the first file of this name below `folder`. Raises DataError if there is none."""
    paths = sorted(folder.rglob(name))
    if not paths:
        raise DataError(f"no {name} below {folder}: it comes with the slides, put it beside them")
    return paths[0]


def lay_out(folder: Path, download: Download, rows: Sequence[SlideRow]) -> None:
    """Write labels.csv and links slides/<name>.tif and annotations/<name>.xml for the slides in `rows`.

    Links of an earlier call that do not belong to these rows are removed.
    """
    wanted = {row.slide_id for row in rows}
    for kind, files in (("slides", download.slides), ("annotations", download.outlines)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for link in (folder / kind).iterdir():
            if (
                link.stem not in wanted
                or link.stem not in files
                or link.resolve() != files[link.stem].resolve()
            ):
                link.unlink()
        for name in sorted(wanted & set(files)):
            link = folder / kind / files[name].name
            if not link.is_symlink():
                os.symlink(files[name].resolve(), link)
    write_text(folder / "labels.csv", csv_text(COLUMNS, map(astuple, sorted(rows))))


def exclude(rows: Sequence[SlideRow], names: Sequence[str], known: Mapping[str, str]) -> list[SlideRow]:
    """Return `rows` without the slides in `names`, and print which were left out; "none" excludes nothing.

    known: slide -> reason, for the slides that the literature leaves out; they need not be among the rows.
    Raises DataError for any other name that is no slide.
    """
    wanted = [name for name in names if name != "none"]
    there = {row.slide_id for row in rows}
    for name in wanted:
        if name not in there and name not in known:
            raise DataError(
                f"--exclude {name}: no slide of this name; the literature leaves out {', '.join(known)}"
            )
    for name in wanted:
        if name in there:
            print(f"left out: {name} ({known.get(name, 'as asked')})")
    return [row for row in rows if row.slide_id not in wanted]
