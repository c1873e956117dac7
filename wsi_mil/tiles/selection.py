"""Select the tiles of a slide that hold enough tissue."""

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.tiles.coverage import tissue_fractions
from wsi_mil.tiles.geometry import plan_reading, tile_grid
from wsi_mil.tissue import mask_from_polygons

MASK_PX_PER_TILE = 8
MAX_MASK_PX = 64_000_000


def tile_slide(info: SlideInfo, tissue: TissueMask, spec: TileSpec) -> TileTable:
    """Return the tiles with at least the fraction `spec.min_tissue_fraction` of tissue, sorted by (y, x).

    Tiles without any tissue are never kept, so the table may be empty. Raises SlideError if the slide is
    coarser than requested.
    """
    plan = plan_reading(info, spec)
    coords = tile_grid(info, spec)
    fine = _fine_enough(tissue, info, spec)
    fractions = tissue_fractions(fine, coords, plan.tile_width0_px, plan.tile_height0_px)
    keep = (fractions >= spec.min_tissue_fraction) & (fractions > 0)
    return TileTable(
        slide_id=info.slide_id,
        spec=spec,
        plan=plan,
        coords=coords[keep],
        tissue=fractions[keep],
        slide_size_px=(info.width_px, info.height_px),
        mpp_xy=(info.mpp_x, info.mpp_y),
        tissue_source=tissue.source,
    )


def _fine_enough(tissue: TissueMask, info: SlideInfo, spec: TileSpec) -> TissueMask:
    """Return the tissue as a mask of at least 8 px along the side of a tile, but at most 64 million px."""
    area_um2 = info.width_px * info.mpp_x * info.height_px * info.mpp_y
    mpp = max(spec.size_um / MASK_PX_PER_TILE, (area_um2 / MAX_MASK_PX) ** 0.5)
    return tissue if mpp >= tissue.mpp else mask_from_polygons(tissue.polygons, info, mpp, tissue.source)
