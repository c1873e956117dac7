"""A folder with the annotation files of a run."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.contracts.lesion import Lesion
from wsi_mil.contracts.qupath import BoundsMode
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.errors import WsiMilError
from wsi_mil.evaluation.annotations.formats import formats
from wsi_mil.evaluation.annotations.reading import AnnotationRules, known_lesions
from wsi_mil.logs import logger
from wsi_mil.slides.ids import existing_files, refuse_same_text


@dataclass(frozen=True)
class AnnotationFolder:
    """A folder with one annotation file per slide. bounds, lesion_classes: see `AnnotationRules`."""

    path: Path
    bounds: BoundsMode = "auto"
    lesion_classes: tuple[str, ...] = ()

    @property
    def rules(self) -> AnnotationRules:
        """How the files of this folder are read."""
        return AnnotationRules(self.bounds, self.lesion_classes)

    def find(self, slide_id: str) -> Path | None:
        """Return the annotation file of a slide, or None.

        It is named by the slide id, in any Unicode form, and an ending of one of the formats. If there are
        several, outlines come before masks, and XML comes before GeoJSON. Raises DataError if names of two
        files differ only in Unicode form.
        """
        found = self.find_all(slide_id)
        refuse_same_text(found)
        return next(iter(found), None)

    def files(self, slide_ids: Iterable[str]) -> dict[str, Path]:
        """Return the annotation file of each slide that has one, by slide id."""
        found = {slide_id: self.find(slide_id) for slide_id in slide_ids}
        return {slide_id: path for slide_id, path in found.items() if path is not None}

    def find_all(self, slide_id: str) -> list[Path]:
        """Return every annotation file of a slide; the first one is used."""
        endings = dict.fromkeys(ending for known in formats() for ending in known.endings)
        spelled = [form for ending in endings for form in (ending, ending.upper())]
        paths = [path for ending in spelled for path in existing_files(self.path, f"{slide_id}{ending}")]
        return [path for path in paths if path.is_file()]


def lesions_or_unknown(
    path: Path | None, slide_id: str, info: SlideInfo, rules: AnnotationRules, used_for: str
) -> list[Lesion] | None:
    """Return the lesions of a positive slide, None where they are unknown: no file, or none that gives them.

    A file that gives no lesion is reported with the slide's name. used_for: what the slide is left out of.
    """
    if path is None:
        return None
    try:
        return known_lesions(path, slide_id, info, rules)
    except WsiMilError as error:
        logger().warning("slide %s is left out of %s: %s", slide_id, used_for, error)
        return None
