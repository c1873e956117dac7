"""Find the slides of a folder and give each an id."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsi_mil.errors import DataError
from wsi_mil.io.remote import Location, below, find_urls, is_url

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
]  # endings of files that OpenSlide or tiffslide may be able to open


@dataclass(frozen=True)
class SlideFile:
    """A slide's id (its path below the folder, without the ending) and its path or URL."""

    slide_id: str
    path: Location


def find_slides(folder: str | Path) -> list[SlideFile]:
    """Return the slides below `folder` (path or URL) sorted by id; for the path of a file, that one slide.

    The id is the relative path without its ending, with '/' between folders, so that equal names in two
    folders have different ids. Two files that differ only in their ending both keep it. Hidden files and
    folders are left out. Raises DataError if there is no such folder.
    """
    found: dict[PurePosixPath, Location]
    if isinstance(folder, str) and is_url(folder):
        found = {PurePosixPath(below(url, folder)): url for url in find_urls(folder)}
    else:
        folder = Path(folder)
        if folder.is_file():
            return [SlideFile(folder.stem, folder)]
        if not folder.is_dir():
            raise DataError(f"no slide folder at {folder}: give slides.folder=PATH")
        found = {
            PurePosixPath(p.relative_to(folder)): p
            for p in folder.rglob("*")
            if p.suffix.lower() in SLIDE_SUFFIXES and p.is_file()
        }
    names = [
        name
        for name in found
        if name.suffix.lower() in SLIDE_SUFFIXES and not any(part.startswith(".") for part in name.parts)
    ]
    stems = Counter(str(name.with_suffix("")) for name in names)
    slides = []
    for name in names:
        stem = str(name.with_suffix(""))
        slides.append(SlideFile(stem if stems[stem] == 1 else str(name), found[name]))
    return sorted(slides, key=lambda slide: slide.slide_id)
