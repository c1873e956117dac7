"""tissue/<slide>.geojson: written by us, edited in QuPath, read back. An edit is never overwritten."""

from pathlib import Path

import shapely
from shapely import MultiPolygon

import wsi_mil
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.errors import DataError
from wsi_mil.files import digest_bytes, digest_json
from wsi_mil.geojson import (
    GRID_PX,
    class_of,
    feature,
    geometry_of,
    polygonal,
    read_features,
    stable_id,
    write_features,
)
from wsi_mil.tissue.segmentation import TissueSpec, mask_from_polygons
from wsi_mil.units import px2_to_mm2

COLOUR = (0, 150, 0)
NOT_TISSUE = {"ignore*", "ignore", "background", "glass", "artefact", "artifact", "pen", "hole"}


def write_tissue(path: Path, tissue: TissueMask, info: SlideInfo, spec: TissueSpec) -> None:
    """Write the outline as QuPath annotations, in the frame that QuPath shows, with a digest to tell edits by."""
    offset_x, offset_y = info.qupath_offset_px
    shifted = [shapely.transform(p, lambda xy: xy - [offset_x, offset_y]) for p in tissue.polygons.geoms]
    features = [
        feature(
            polygonal(polygon, GRID_PX),
            object_type="annotation",
            uid=stable_id(info.slide_id, "tissue", number),
            class_name="Tissue",
            colour=COLOUR,
            name=f"tissue {number + 1}",
            measurements={"area_mm2": px2_to_mm2(polygon.area, info.mpp_x, info.mpp_y)},
        )
        for number, polygon in enumerate(shifted)
        if not polygonal(polygon, GRID_PX).is_empty
    ]
    header = {
        "kind": "tissue",
        "format": 1,
        "producer": f"wsi_mil {wsi_mil.__version__}",
        "slide_id": info.slide_id,
        "slide_size_px": [info.width_px, info.height_px],
        "bounds_offset_px": [offset_x, offset_y],
        "source": tissue.source,
        "spec_digest": spec.digest(),
        "content_digest": _content_digest(features),
    }
    write_features(path, features, header)


def read_tissue(path: Path, info: SlideInfo, spec: TissueSpec) -> TissueMask | None:
    """Return the tissue that `path` holds: a user's edit always; our own outline only if made with this spec.

    None: the tissue has to be found (again). Raises DataError if an edit lies outside the slide.
    """
    if not path.exists():
        return None
    features, header = read_features(path)
    ours = header.get("kind") == "tissue" and header.get("content_digest") == _content_digest(features)
    if ours and (
        header.get("spec_digest") != spec.digest() or header.get("slide_size_px") != [info.width_px, info.height_px]
    ):
        return None
    offset = tuple(header.get("bounds_offset_px", info.qupath_offset_px))
    geometry = _tissue_polygons(features, (float(offset[0]), float(offset[1])))
    slide = shapely.box(0, 0, info.width_px, info.height_px)
    if not geometry.is_empty and not geometry.intersects(slide):
        raise DataError(
            f"tissue polygons in {path.name} span {[round(v) for v in geometry.bounds]} px, outside slide "
            f"{info.slide_id!r} of {info.width_px} x {info.height_px} px: drawn on another slide or at another scale"
        )
    source = str(header.get("source", "user")) if ours else "user"
    return mask_from_polygons(geometry.intersection(slide), info, spec.mpp, source)


def _tissue_polygons(features: list[dict[str, object]], offset_px: tuple[float, float]) -> MultiPolygon:
    """Union of all polygons, less those whose class says that they are no tissue."""
    plus: list[MultiPolygon] = []
    minus: list[MultiPolygon] = []
    for item in features:
        geometry = geometry_of(item, offset_px)
        if geometry is not None:
            (minus if (class_of(item) or "").lower() in NOT_TISSUE else plus).append(geometry)
    return polygonal(shapely.difference(shapely.union_all(plus), shapely.union_all(minus)))


def _content_digest(features: list[dict[str, object]]) -> str:
    return digest_json([[item.get("geometry"), class_of(item)] for item in features])


def tissue_digest(tissue: TissueMask) -> str:
    """Return the digest of the outline on the 0.01 px grid: what the tiles depend on."""
    return digest_bytes(shapely.to_wkb(shapely.normalize(tissue.polygons)), str(tissue.mpp).encode())
