"""GeoJSON as QuPath exports it. Only annotations count: cells, detections and tiles are no lesions."""

from collections.abc import Mapping

from wsi_mil.contracts.qupath import qupath_frame
from wsi_mil.errors import DataError
from wsi_mil.evaluation.annotations.drawn import Drawn
from wsi_mil.evaluation.annotations.formats.base import AnnotationFormat, FileToRead
from wsi_mil.geojson import Feature, class_names, geometry_of, object_type, offset_of, read_features


def read(file: FileToRead) -> list[Drawn]:
    """Return every feature. Coordinates of QuPath's cropped frame are moved to level 0.

    Raises DataError for a file that wsi_mil wrote for another purpose, such as a heatmap.
    """
    features, header = read_features(file.path)
    _refuse_our_own(header)
    offset = offset_of(header, qupath_frame(file.info, file.bounds).offset_px if file.info else (0, 0))
    return [_drawn(item, offset) for item in features]


def _refuse_our_own(header: Mapping[str, object]) -> None:
    kind, model = header.get("kind", "truth"), header.get("model")
    if kind != "truth" or model is not None:
        of_model = f" of model {model!r}" if model is not None else ""
        raise DataError(
            f"this file is a {kind}{of_model} that wsi_mil wrote, and no annotation of an expert: "
            "take it out of slides.annotations"
        )


def _drawn(item: Feature, offset: tuple[float, float]) -> Drawn:
    names, kind = class_names(item), object_type(item)
    if kind != "annotation":
        return Drawn(names, kind, None, f"a QuPath {kind}, no annotation")
    geometry = item.get("geometry")
    shape = str(geometry.get("type")) if isinstance(geometry, dict) else "no geometry"
    return Drawn(names, shape, geometry_of(item, offset))


FORMAT = AnnotationFormat("QuPath GeoJSON", 4, (".geojson", ".json", ".geojson.gz"), read)
