"""One slide's features in the layouts of other tools: TRIDENT, CLAM, torchmil, AnnData."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import wsi_mil
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.slide import SlideInfo
from wsi_mil.contracts.tiles import TileTable
from wsi_mil.errors import ConfigError
from wsi_mil.interop.foreign import open_h5
from wsi_mil.io.files import write_aside

LAYOUTS = ("trident", "clam", "torchmil", "h5ad", "zarr")
NOMINAL = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)


@dataclass(frozen=True)
class ExportedSlide:
    """What an export is made of; `columns`: further values per tile (scores, truth), (N,) each, for AnnData."""

    info: SlideInfo
    table: TileTable
    features: FeatureTable
    label: int | None = None
    truth: NDArray[np.bool_] | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)


def export_slide(slide: ExportedSlide, folder: Path, layout: str) -> list[Path]:
    """Write one slide in a layout below `folder`; return the files. Tiles that could not be read are left out: other tools
    know no such thing as an unreadable tile."""
    writers = {"trident": _trident, "clam": _clam, "torchmil": _torchmil, "h5ad": _anndata, "zarr": _anndata}
    return writers[layout](slide, folder, layout)


def _rows(slide: ExportedSlide) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    kept = slide.features.readable
    return slide.features.features[kept].astype(np.float32), slide.table.coords[kept].astype(np.int64)


def tile_attributes(slide: ExportedSlide) -> dict[str, Any]:
    """Return what TRIDENT's readers look for beside coordinates, and the exact values that its whole numbers hide.

    Magnifications are nominal, 10 / mpp: shown only where they are within 5 % of one that is sold.
    """
    spec, plan, info = slide.table.spec, slide.table.plan, slide.info
    values = {
        "patch_size": spec.size_px,
        "patch_size_level0": round(plan.tile_width0_px),
        "overlap": spec.size_px - spec.step_px,
        "name": info.slide_id,
        "level0_width": info.width_px,
        "level0_height": info.height_px,
        "tile_px": spec.size_px,
        "tile_overlap_px": spec.size_px - spec.step_px,
        "tile_width0_px": plan.tile_width0_px,
        "tile_height0_px": plan.tile_height0_px,
        "tile_mpp": spec.mpp,
        "level0_mpp": info.mpp,
        "producer": f"wsi_mil {wsi_mil.__version__}",
    }
    for name, mpp in (("level0_magnification", info.mpp), ("target_magnification", spec.mpp)):
        closest = min(NOMINAL, key=lambda nominal: abs(10 / mpp / nominal - 1))
        if abs(10 / mpp / closest - 1) <= 0.05:
            values[name] = int(closest) if closest == int(closest) else closest
    return values


def _write_h5(
    path: Path,
    features: NDArray[np.float32] | None,
    coords: NDArray[np.int64],
    of_coords: dict[str, Any],
    of_features: dict[str, Any],
) -> Path:
    with write_aside(path) as aside, open_h5(aside, "w") as file:
        if features is not None:
            file.create_dataset("features", data=features)
            file["features"].attrs.update(of_features)
        file.create_dataset("coords", data=coords)
        file["coords"].attrs.update(of_coords)
    return path


def _trident(slide: ExportedSlide, folder: Path, _layout: str) -> list[Path]:
    spec = slide.table.spec
    features, coords = _rows(slide)
    tiling = f"{spec.mpp:g}mpp_{spec.size_px}px_{spec.size_px - spec.step_px}px_overlap"
    name = slide.features.encoder.replace(":", ".")
    path = folder / tiling / f"features_{name}" / f"{slide.info.slide_id}.h5"
    said = tile_attributes(slide)
    encoder = {"encoder": slide.features.encoder.removeprefix("imported:"), "name": slide.info.slide_id}
    return [_write_h5(path, features, coords, said, encoder)]


def _clam(slide: ExportedSlide, folder: Path, _layout: str) -> list[Path]:
    import torch

    features, coords = _rows(slide)
    slide_id = slide.info.slide_id
    # CLAM's patch_size counts pixels of patch_level; level 0 is what every slide has
    said = tile_attributes(slide) | {
        "patch_level": 0,
        "patch_size": round(slide.table.plan.tile_width0_px),
        "downsample": np.array([1.0, 1.0]),
        "level_dim": np.array([slide.info.width_px, slide.info.height_px]),
    }
    del said["overlap"]
    paths = [
        _write_h5(folder / "patches" / f"{slide_id}.h5", None, coords, said, {}),
        _write_h5(folder / "h5_files" / f"{slide_id}.h5", features, coords, {}, {}),
        folder / "pt_files" / f"{slide_id}.pt",
    ]
    with write_aside(paths[2]) as aside:
        torch.save(torch.from_numpy(features), aside)
    return paths


def flat_name(slide_id: str) -> str:
    """Return the name of a bag for tools that know no folders.

    >>> flat_name("centre_1/slide_7")
    'centre_1__slide_7'
    """
    return slide_id.replace("/", "__")


def _torchmil(slide: ExportedSlide, folder: Path, _layout: str) -> list[Path]:
    """torchmil joins tiles whose coordinates are at most 1.5 apart: so coordinates are in steps of the tile grid."""
    features, coords = _rows(slide)
    plan, spec = slide.table.plan, slide.table.spec
    step0_px = np.array([plan.tile_width0_px, plan.tile_height0_px]) * spec.step_px / spec.size_px
    arrays: dict[str, NDArray[Any]] = {
        "features": features,
        "coords": np.rint(coords / step0_px).astype(np.int64),
        "coords_level0_px": coords,
    }
    if slide.label is not None:
        arrays["labels"] = np.array([slide.label])
    if slide.truth is not None:
        arrays["inst_labels"] = slide.truth[slide.features.readable].astype(np.int64)
    paths = []
    for name, values in arrays.items():
        path = folder / name / f"{flat_name(slide.info.slide_id)}.npy"
        with write_aside(path) as aside, aside.open("wb") as handle:
            np.save(handle, values, allow_pickle=False)
        paths.append(path)
    return paths


def _anndata(slide: ExportedSlide, folder: Path, layout: str) -> list[Path]:
    """Tiles as observations; `obsm["spatial"]` holds their centres in level-0 px, as squidpy and scanpy draw them."""
    try:
        import anndata
        import pandas as pd
    except ImportError as error:
        raise ConfigError("AnnData needs: pip install 'wsi-mil[interop]'") from error
    features, coords = _rows(slide)
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
    table = anndata.AnnData(
        X=features,
        obs=pd.DataFrame(obs, index=names),
        var=pd.DataFrame(index=pd.Index([f"f{i}" for i in range(features.shape[1])], dtype=object)),
        obsm={"spatial": centres},
        uns={"wsi_mil": about},
    )
    path = folder / f"{slide.info.slide_id}.{'h5ad' if layout == 'h5ad' else 'zarr'}"
    with write_aside(path) as aside:
        if layout == "h5ad":
            table.write_h5ad(aside)
        else:
            table.write_zarr(aside)
    return [path]
