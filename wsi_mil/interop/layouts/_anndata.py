"""A slide as an AnnData object: tiles are observations, features are variables."""

from typing import Any

import numpy as np

from wsi_mil.interop.layouts.base import ExportedSlide, tile_attributes

PACKAGES = ("anndata",)


def to_anndata(slide: ExportedSlide) -> Any:
    """Return an `anndata.AnnData` of the readable tiles.

    `obsm["spatial"]` holds the centres of tiles in level-0 px, which squidpy and scanpy draw; `obs` the
    corners, the tissue fraction, scores and whether a tile lies in a lesion; `uns["wsi_mil"]` scales, encoder
    and label.
    """
    import anndata
    import pandas as pd

    features, coords = slide.readable_rows()
    kept, plan = slide.features.readable, slide.table.plan
    centres = coords + np.array([plan.tile_width0_px, plan.tile_height0_px]) / 2
    obs = {"x0_px": coords[:, 0], "y0_px": coords[:, 1], "tissue": slide.table.tissue[kept]}
    obs |= {name: values[kept] for name, values in slide.columns.items()}
    if slide.truth is not None:
        obs["lesion"] = slide.truth[kept]
    # names as objects: newer pandas would make Arrow strings of them, which older anndata cannot write
    names = pd.Index([f"{x}_{y}" for x, y in coords.tolist()], dtype=object)
    about = {key: value for key, value in tile_attributes(slide).items() if value is not None}
    about |= {"encoder": slide.features.encoder, "slide_id": slide.info.slide_id}
    if slide.label is not None:
        about["label"] = slide.label
    return anndata.AnnData(
        X=features,
        obs=pd.DataFrame(obs, index=names),
        var=pd.DataFrame(index=pd.Index([f"f{i}" for i in range(features.shape[1])], dtype=object)),
        obsm={"spatial": centres},
        uns={"wsi_mil": about},
    )
