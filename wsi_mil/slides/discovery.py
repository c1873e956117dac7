"""Find the slides of a folder and give each an id."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsi_mil.errors import DataError
from wsi_mil.io.remote import Location, below, find_urls, is_url
from wsi_mil.logs import logger
from wsi_mil.slides.dicom import one_file_per_series
from wsi_mil.slides.ids import refuse_same_text, slide_id_text

SLIDE_SUFFIXES = [
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".bif",
    ".vms",
    ".vmu",
    ".svslide",
    ".qptiff",
    ".btf",
    ".czi",
    ".dcm",
]  # endings of files that OpenSlide, tifffile or tiffslide may be able to open


@dataclass(frozen=True)
class SlideFile:
    """A slide's id (its path below the folder, without the ending) and its path or URL."""

    slide_id: str
    path: Location


def find_slides(folder: str | Path) -> list[SlideFile]:
    """Return the slides below `folder` (path or URL) sorted by id; for the path of a file, that one slide.

    The id is the relative path without its ending, with '/' between folders, so that equal names in two
    folders have different ids. Two files that differ only in their ending both keep it. Ids are in Unicode
    form NFC, paths as they are on disk. The files of one DICOM series are one slide. Hidden files and folders
    are left out. Folders behind symbolic links are entered once, also where links form a loop; links to
    nothing, and folders that may not be read, are reported. Raises DataError if there is no such folder, or
    if two names differ only in Unicode form.
    """
    found: dict[PurePosixPath, Location]
    if isinstance(folder, str) and is_url(folder):
        found = {PurePosixPath(below(url, folder)): url for url in find_urls(folder)}
    else:
        folder = Path(folder)
        if folder.is_file():
            return [SlideFile(slide_id_text(folder.stem), folder)]
        if not folder.is_dir():
            raise DataError(f"no slide folder at {folder}: give slides.folder=PATH")
        files = one_file_per_series([path for path in _files(folder) if _is_slide(path)])
        found = {PurePosixPath(path.relative_to(folder)): path for path in files}
    names = [name for name in found if _is_slide(name) and not any(p.startswith(".") for p in name.parts)]
    refuse_same_text(found[name] for name in names)
    stems = Counter(slide_id_text(str(name.with_suffix(""))) for name in names)
    slides = []
    for name in names:
        stem = slide_id_text(str(name.with_suffix("")))
        slides.append(SlideFile(stem if stems[stem] == 1 else slide_id_text(str(name)), found[name]))
    return sorted(slides, key=lambda slide: slide.slide_id)


def _is_slide(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in SLIDE_SUFFIXES


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`. Real folders come before links to folders, which may lead back."""
    entered = {os.path.realpath(folder)}
    links: list[Path] = []
    waiting = [folder]
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        if here.is_symlink() and here != folder:
            real = os.path.realpath(here)
            if real in entered:
                continue
            entered.add(real)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            logger().warning(
                "%s cannot be listed (%s): its slides are not read", here, error.strerror or error
            )
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not path.exists():
                logger().warning("%s is a link to nothing (%s): skipped", path, os.readlink(path))
            elif entry.is_dir():
                if entry.is_symlink():
                    links.append(path)
                elif (real := os.path.realpath(path)) not in entered:
                    entered.add(real)
                    waiting.append(path)
            elif entry.is_file():
                yield path
