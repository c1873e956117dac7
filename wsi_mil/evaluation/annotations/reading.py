"""From an annotation file to the lesions of a slide, with counts of what was used and what was skipped."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely
from shapely import MultiPolygon

from wsi_mil import limits
from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.qupath import BoundsMode
from wsi_mil.contracts.record import Record
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats import formats
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.evaluation.annotations.vocabulary import check_patterns, meaning
from wsi_mil.geojson import polygonal
from wsi_mil.io.xml import read_xml, tag
from wsi_mil.logs import logger


@dataclass(frozen=True)
class AnnotationRules(Record):
    """How annotation files are read.

    bounds: whether GeoJSON that does not name its frame is in coordinates that are cropped to the slide's
    bounds. lesion_classes: names or patterns of classes that are lesions, besides those that are known.
    """

    bounds: BoundsMode = "auto"
    lesion_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_patterns(self.lesion_classes)


@dataclass(frozen=True)
class Skipped(Record):
    """Objects of one type and class that are no lesion, why, and how many."""

    kind: str
    names: tuple[str, ...]
    reason: str
    count: int

    def __str__(self) -> str:
        of_class = " < ".join(repr(name) for name in self.names)
        return f"{self.count} {self.kind}{f' of class {of_class}' if of_class else ''}: {self.reason}"


@dataclass(frozen=True)
class SlideAnnotation(Record):
    """What one annotation file says of its slide.

    lesions: one for each connected region. objects: how many the file holds; used: those that are lesions;
    excluded: those that are cut out of them; the others are in `skipped`.
    """

    path: Path
    format_name: str
    lesions: tuple[Lesion, ...]
    objects: int
    used: int
    excluded: int
    skipped: tuple[Skipped, ...]

    @property
    def reasons(self) -> str:
        """What was skipped and why, in one line; "" where nothing was."""
        return "; ".join(map(str, self.skipped))

    def without_lesion(self) -> str:
        """Return why the file gives no lesion, and what to do."""
        cut = "all that is a lesion is cut out again" if self.used else "exclusions alone"
        found = self.reasons or (cut if self.excluded else "it holds nothing")
        return (
            f"{self.path}: no lesion in {self.objects} objects ({found}), so the lesions of the slide are "
            "unknown: name the classes that are lesions in slides.lesion_classes, or correct the file"
        )


def read_annotation_file(
    path: Path, slide_id: str, info: SlideInfo | None = None, rules: AnnotationRules | None = None
) -> SlideAnnotation:
    """Return the lesions of one file and what else it holds.

    info: needed for masks and NDPA. Raises DataError, which names the file, for a file that cannot be read
    and for a lesion outside the slide of `info`.
    """
    rules = rules or AnnotationRules()
    try:
        known = _format_of(path)
        drawn = known.read(FileToRead(path, info, rules.bounds))
        return _understood(path, known.name, slide_id, info, drawn, rules)
    except WsiMilError as error:
        if path.name in str(error):
            raise
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a library that fails on a damaged file may raise anything
        what = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {what[:200]})") from error


def read_annotations(
    path: Path,
    slide_id: str,
    info: SlideInfo | None = None,
    bounds: BoundsMode = "auto",
    lesion_classes: Sequence[str] = (),
) -> list[Lesion]:
    """Return the lesions of one file: one per connected region of the tumour polygons minus the excluded
    ones.

    info: needed for masks and NDPA. If given, GeoJSON from QuPath's cropped frame is moved to level-0
    coordinates (`bounds`: whether QuPath crops). lesion_classes: see `AnnotationRules`. An empty list means
    that the file has no lesion that was understood: `known_lesions` refuses such a file. Raises DataError as
    `read_annotation_file` does.
    """
    found = read_annotation_file(path, slide_id, info, AnnotationRules(bounds, tuple(lesion_classes)))
    if not found.lesions and found.objects:
        logger().warning("annotations of slide %s: %s", slide_id, found.without_lesion())
    return list(found.lesions)


def known_lesions(path: Path, slide_id: str, info: SlideInfo | None, rules: AnnotationRules) -> list[Lesion]:
    """Return the lesions of a positive slide: at least one.

    Raises DataError if the file gives none, since its lesions are then unknown; the error lists the classes
    and types that were found.
    """
    found = read_annotation_file(path, slide_id, info, rules)
    if not found.lesions:
        raise DataError(found.without_lesion())
    if any(part.reason == UNKNOWN for part in found.skipped):
        logger().warning("annotations of slide %s: %s: %s", slide_id, path.name, found.reasons)
    return list(found.lesions)


UNKNOWN = "its class is not known to be a lesion"
REASONS = {
    "unknown": UNKNOWN,
    "no lesion": "its class is no lesion",
    "no class": "it has no class",
}


def _understood(
    path: Path,
    format_name: str,
    slide_id: str,
    info: SlideInfo | None,
    drawn: Sequence[Drawn],
    rules: AnnotationRules,
) -> SlideAnnotation:
    limits.OBJECTS.check(len(drawn), str(path))
    points = shapely.get_num_coordinates([item.area for item in drawn if item.area is not None])
    limits.POINTS.check(int(points.sum()), str(path))
    plus: list[MultiPolygon] = []
    named: list[str] = []
    minus: list[MultiPolygon] = []
    skipped: Counter[tuple[str, tuple[str, ...], str]] = Counter()
    for item in drawn:
        what = meaning(item.names, rules.lesion_classes)
        area = item.area
        reason = item.not_counted or ("" if item.excluded else REASONS.get(what, ""))
        if reason or area is None or area.is_empty:
            skipped[item.kind, item.names, reason or "it encloses no area"] += 1
        elif item.excluded or what == "excluded":
            minus.append(MultiPolygon() if item.cut else area)
        else:
            plus.append(area)
            named.append(item.names[0] if item.names else "none")
    regions = polygonal(shapely.difference(shapely.union_all(plus), shapely.union_all(minus)))
    lesions = tuple(
        Lesion(slide_id, "tumour", MultiPolygon([region]), sources)
        for region, sources in zip(regions.geoms, _sources(regions, plus, named), strict=True)
    )
    _check_place(path, lesions, info)
    parts = tuple(Skipped(*key, count) for key, count in sorted(skipped.items()))
    return SlideAnnotation(path, format_name, lesions, len(drawn), len(plus), len(minus), parts)


def _sources(
    regions: MultiPolygon, drawn: Sequence[MultiPolygon], names: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return for each region the class names of the objects that it consists of, sorted."""
    found: list[set[str]] = [set() for _ in regions.geoms]
    if drawn and found:
        pairs = shapely.STRtree(list(regions.geoms)).query(drawn, predicate="intersects")
        for number, region in pairs.T.tolist():
            found[region].add(names[number])
    return [tuple(sorted(sources)) for sources in found]


def _check_place(path: Path, lesions: Sequence[Lesion], info: SlideInfo | None) -> None:
    """Raise DataError if a lesion lies outside the slide."""
    if info is None:
        return
    slide = shapely.box(0, 0, info.width_px, info.height_px)
    for lesion in lesions:
        if not lesion.geometry.intersects(slide):
            raise DataError(
                f"{path.name}: a lesion spans {[round(v) for v in lesion.geometry.bounds]} px, outside "
                f"slide {lesion.slide_id!r} of {info.width_px} x {info.height_px} px: "
                "drawn on another slide or at another scale"
            )


def _format_of(path: Path) -> AnnotationFormat:
    """Return the format of a file: by its ending, and for XML by its root element.

    Raises DataError for a file that no format claims.
    """
    name = path.name.lower()
    fitting = [known for known in formats() if name.endswith(tuple(e.lower() for e in known.endings))]
    if not any(known.root for known in fitting):
        if fitting:
            return fitting[0]
        endings = ", ".join(dict.fromkeys(ending for known in formats() for ending in known.endings))
        raise DataError(f"{path}: no annotation file by its ending, expected one of {endings}")
    root = tag(read_xml(path))
    rooted = [known for known in formats() if known.root]
    for known in rooted:
        if known.root == root:
            return known
    expected = ", ".join(f"<{known.root}> ({known.name})" for known in rooted)
    raise DataError(f"{path}: the root element is <{root}>, expected {expected}: export it in one of these")
