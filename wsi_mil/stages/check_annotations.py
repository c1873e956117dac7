"""check --annotations: what each annotation file holds, what of it is used, and what is not and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation.annotations import AnnotationFolder, SlideAnnotation, read_annotation_file
from wsi_mil.io.tables import text_table
from wsi_mil.slides import SlideFile
from wsi_mil.units import px2_to_mm2

HEADER = ["slide", "file", "format", "objects", "used", "cut out", "lesions", "mm²", "skipped, problems"]
SHOWN = 5  # names in a line that lists files or slides


@dataclass(frozen=True)
class AnnotationRow:
    """One annotation file. found: None where it cannot be read. area_mm2: None where the slide is unknown."""

    slide_id: str
    file: str
    found: SlideAnnotation | None
    area_mm2: float | None
    problems: str

    @property
    def failed(self) -> bool:
        """Whether the file cannot be read."""
        return self.found is None

    @property
    def without_lesion(self) -> bool:
        """Whether the file can be read and gives no lesion."""
        return self.found is not None and not self.found.lesions

    def cells(self) -> list[str]:
        """Return the row as text."""
        if self.found is None:
            return [self.slide_id, self.file, *["-"] * 6, self.problems]
        counts = [self.found.objects, self.found.used, self.found.excluded, len(self.found.lesions)]
        area = "-" if self.area_mm2 is None else f"{self.area_mm2:.4g}"
        return [self.slide_id, self.file, self.found.format_name, *map(str, counts), area, self.problems]


def check_annotation(
    slide: SlideFile, folder: AnnotationFolder, info: SlideInfo | None
) -> AnnotationRow | None:
    """Return what the annotation file of a slide holds; None where there is no file.

    info: of the slide, None if it cannot be opened.
    """
    files = folder.find_all(slide.slide_id)
    if not files:
        return None
    path, problems = files[0], []
    if len(files) > 1:
        problems.append(f"not read: {', '.join(other.name for other in files[1:])}")
    if info is None:
        problems.append("the slide cannot be opened, so places and area are not checked")
    try:
        path = folder.find(slide.slide_id) or path
        found = read_annotation_file(path, slide.slide_id, info, folder.rules)
    except WsiMilError as error:
        return AnnotationRow(slide.slide_id, path.name, None, None, "; ".join([*problems, str(error)]))
    if not found.lesions:
        problems.append("no lesion: its lesions are unknown if the slide is positive")
    area = sum(lesion.geometry.area for lesion in found.lesions)
    area_mm2 = px2_to_mm2(area, info.mpp_x, info.mpp_y) if info else None
    problems += [found.reasons] if found.reasons else []
    return AnnotationRow(slide.slide_id, path.name, found, area_mm2, "; ".join(problems))


def annotation_table(rows: Sequence[AnnotationRow]) -> str:
    """Return the rows as aligned text."""
    return text_table([HEADER, *(row.cells() for row in rows)])


def annotation_summary(rows: Sequence[AnnotationRow], slide_ids: Sequence[str], folder: Path) -> list[str]:
    """Return lines that count the files, and name those without lesion and those that belong to no slide.

    Raises DataError if the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"--annotations {folder}: no such folder")
    read = [row for row in rows if not row.failed]
    empty = [row.slide_id for row in rows if row.without_lesion]
    known = AnnotationFolder(folder)
    owned = {path for slide_id in slide_ids for path in known.find_all(slide_id)}
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    stray = sorted(str(path.relative_to(folder)) for path in files if path not in owned)
    lines = [
        f"annotations: {len(read)} of {len(rows)} files can be read, {len(slide_ids) - len(rows)} slides "
        "have none"
    ]
    if empty:
        lines.append(f"annotations without lesion: {_named(empty)}; slides.lesion_classes names more classes")
    if stray:
        lines.append(f"files in {folder} that belong to no slide, or that no format claims: {_named(stray)}")
    return lines


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{more}"
