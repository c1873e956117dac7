"""tissue/<slide>.geojson: written here, edited in QuPath, read again. An edited file is never overwritten."""

from pathlib import Path
from typing import Any

import shapely
from shapely import MultiPolygon
from shapely.geometry.base import BaseGeometry

import wsi_mil
from wsi_mil import limits
from wsi_mil.contracts.qupath import QuPathFrame, QuPathSpec, qupath_frame
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.errors import DataError
from wsi_mil.geojson import (
    GRID_PX,
    Feature,
    class_of,
    feature,
    geometry_of,
    offset_of,
    polygonal,
    read_features,
    stable_id,
    write_features,
)
from wsi_mil.io.files import digest_bytes, digest_json
from wsi_mil.tissue.segmentation import TissueSpec, mask_from_polygons
from wsi_mil.units import px2_to_mm2

COLOUR = (0, 150, 0)
BY_HAND = "tissue outline edited by hand"
NOT_TISSUE = {"ignore*", "ignore", "background", "glass", "artefact", "artifact", "pen", "hole"}


def tissue_features(polygons: MultiPolygon, info: SlideInfo, frame: QuPathFrame) -> list[Feature]:
    """Return one QuPath annotation per tissue polygon, moved to `frame` and cut at its border."""
    shifted = shapely.transform(polygons, lambda xy: xy - list(frame.offset_px))
    shown = polygonal(shapely.intersection(shifted, shapely.box(0, 0, *frame.size_px)), GRID_PX)
    return [
        feature(
            polygon,
            object_type="annotation",
            uid=stable_id(info.slide_id, "tissue", number),
            class_name="Tissue",
            colour=COLOUR,
            name=f"tissue {number + 1}",
            measurements={"area_mm2": px2_to_mm2(polygon.area, info.mpp_x, info.mpp_y)},
        )
        for number, polygon in enumerate(shown.geoms)
    ]


def write_tissue(
    path: Path, tissue: TissueMask, info: SlideInfo, spec: TissueSpec, qupath: QuPathSpec | None = None
) -> None:
    """Write the outline as QuPath annotations in QuPath's frame, with a digest that reveals edits."""
    qupath = qupath or QuPathSpec()
    frame = qupath_frame(info, qupath.bounds)
    features = tissue_features(tissue.polygons, info, frame)
    header = {
        "kind": "tissue",
        "format": 1,
        "producer": f"wsi_mil {wsi_mil.__version__}",
        "slide_id": info.slide_id,
        "slide_size_px": [info.width_px, info.height_px],
        **frame.header(),
        "source": tissue.source,
        "how": tissue.how,
        "spec_digest": spec.digest(),
        "qupath_digest": qupath.digest(),
        "content_digest": _content_digest(features),
    }
    write_features(path, features, header, qupath.version)


def read_tissue(
    path: Path, info: SlideInfo, spec: TissueSpec, qupath: QuPathSpec | None = None
) -> TissueMask | None:
    """Return the tissue that `path` holds, or None if it has to be found (again).

    A file that a user edited is always taken; our own outline only if it was made with the same
    specifications and slide size. A file that does not state its frame, as QuPath exports it, is taken to lie
    in the frame of `qupath`. Raises DataError, with what to do, for a file that cannot be read and for
    polygons outside the slide.
    """
    if not path.exists():
        return None
    try:
        return _read_tissue(path, info, spec, qupath or QuPathSpec())
    except DataError as error:
        raise _broken(path, info, error) from error


def _broken(path: Path, info: SlideInfo, error: DataError) -> DataError:
    """Return the error with slide, file and what to do."""
    where = "" if str(path) in str(error) else f"{path}: "
    return DataError(
        f"slide {info.slide_id!r}, tissue outline {where}{error}: restore the file, or delete it and run "
        "`wsi-mil tile`, which finds the tissue again"
    )


def _read_tissue(path: Path, info: SlideInfo, spec: TissueSpec, qupath: QuPathSpec) -> TissueMask | None:
    features, header = read_features(path)
    ours = _is_ours(features, header)
    made_with = {
        "spec_digest": spec.digest(),
        "qupath_digest": qupath.digest(),
        "slide_size_px": [info.width_px, info.height_px],
    }
    if ours and any(header.get(key) != value for key, value in made_with.items()):
        return None
    geometry, outlines = _placed(features, header, info, qupath)
    source = str(header.get("source", "user")) if ours else "user"
    how = str(header.get("how", "")) if ours else f"{BY_HAND}: {outlines} outline{'s' * (outlines != 1)}"
    return mask_from_polygons(geometry, info, spec.mpp, source, how)


def is_edited(path: Path) -> bool:
    """Return whether a person drew or changed a tissue outline; False without a file.

    Raises DataError for a file that cannot be read.
    """
    return path.exists() and not _is_ours(*read_features(path))


def _is_ours(features: list[Feature], header: dict[str, Any]) -> bool:
    """Return whether an outline is as `write_tissue` wrote it."""
    return header.get("kind") == "tissue" and header.get("content_digest") == _content_digest(features)


def read_outline(path: Path, info: SlideInfo, qupath: QuPathSpec) -> MultiPolygon:
    """Return the tissue polygons of a file, ours or a user's, in level-0 pixels."""
    try:
        return polygonal(_placed(*read_features(path), info, qupath)[0])
    except DataError as error:
        raise _broken(path, info, error) from error


def _placed(
    features: list[Feature], header: dict[str, Any], info: SlideInfo, qupath: QuPathSpec
) -> tuple[BaseGeometry, int]:
    """Return the part of the tissue on the slide, in level-0 px, and how many outlines it was drawn with.

    Raises DataError if all of it lies outside.
    """
    offset = offset_of(header, qupath_frame(info, qupath.bounds).offset_px)
    geometry, outlines = _tissue_polygons(features, offset)
    slide = shapely.box(0, 0, info.width_px, info.height_px)
    if not geometry.is_empty and not geometry.intersects(slide):
        raise DataError(
            f"its polygons span {[round(v) for v in geometry.bounds]} px, outside the slide of "
            f"{info.width_px} x {info.height_px} px (drawn on another slide, or at another scale)"
        )
    return geometry.intersection(slide), outlines


def _tissue_polygons(
    features: list[dict[str, object]], offset_px: tuple[float, float]
) -> tuple[MultiPolygon, int]:
    """Return the union of all polygons without those whose class is one of NOT_TISSUE, and the number of the
    former."""
    plus: list[MultiPolygon] = []
    minus: list[MultiPolygon] = []
    for item in features:
        geometry = geometry_of(item, offset_px)
        if geometry is not None:
            (minus if (class_of(item) or "").lower() in NOT_TISSUE else plus).append(geometry)
    limits.POINTS.check(int(shapely.get_num_coordinates([*plus, *minus]).sum()), "its outlines")
    return polygonal(shapely.difference(shapely.union_all(plus), shapely.union_all(minus))), len(plus)


def _content_digest(features: list[dict[str, object]]) -> str:
    return digest_json([[item.get("geometry"), class_of(item)] for item in features])


def tissue_digest(tissue: TissueMask) -> str:
    """Return the digest of the outline, which lies on a grid of 0.01 px; the tiles depend on it."""
    return digest_bytes(shapely.to_wkb(shapely.normalize(tissue.polygons)), str(tissue.mpp).encode())
