"""One object of an annotation file, as its tool stored it."""

from dataclasses import dataclass

from shapely import MultiPolygon


@dataclass(frozen=True)
class Drawn:
    """One object of an annotation file.

    names: its classes, the most specific one first; none where the tool gave it no class.
    kind: its type in the words of the file, such as "Polygon" or "cell".
    area: what it encloses, in level-0 pixels; None where it encloses nothing.
    not_counted: why it is no lesion whatever its class is, "" where its class decides.
    excluded: whether the file itself says that the area is to be cut out. cut: whether that is done already,
    where it belongs to some of the other objects only.
    """

    names: tuple[str, ...]
    kind: str
    area: MultiPolygon | None
    not_counted: str = ""
    excluded: bool = False
    cut: bool = False
