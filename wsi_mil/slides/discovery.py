"""The slides of a folder and their ids."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import DataError

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
]  # what OpenSlide or tiffslide may open; whether they can is found out by opening


@dataclass(frozen=True)
class SlideFile:
    """A slide's id (path below the folder, without its ending) and where it lies."""

    slide_id: str
    path: Path


def find_slides(folder: str | Path) -> list[SlideFile]:
    """Return the slides below `folder` (or the one slide that it is), sorted by id.

    The id is the relative path without its ending, with '/' between folders, so equal names in two folders never
    collide; two files that differ only in their ending both keep it. Hidden files are passed over.
    """
    folder = Path(folder)
    if folder.is_file():
        return [SlideFile(folder.stem, folder)]
    if not folder.is_dir():
        raise DataError(f"no slide folder at {folder}: give slides.folder=PATH")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SLIDE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    stems = Counter(path.relative_to(folder).with_suffix("").as_posix() for path in paths)
    slides = []
    for path in paths:
        relative = path.relative_to(folder)
        stem = relative.with_suffix("").as_posix()
        slides.append(SlideFile(stem if stems[stem] == 1 else relative.as_posix(), path))
    return sorted(slides, key=lambda slide: slide.slide_id)
