"""From a slide's geometry and its tissue to the table of kept tiles."""

from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileSpec, TileTable
from wsi_mil.contracts.tissue import TissueMask
from wsi_mil.tiles.coverage import tissue_fractions
from wsi_mil.tiles.geometry import lattice, plan_reading


def tile_slide(info: SlideInfo, tissue: TissueMask, spec: TileSpec) -> TileTable:
    """Return the tiles of at least `spec.min_tissue_fraction` tissue, sorted by (y, x); possibly none."""
    plan = plan_reading(info, spec)
    coords = lattice(info, spec)
    fractions = tissue_fractions(tissue, coords, plan.tile_width0_px, plan.tile_height0_px)
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
