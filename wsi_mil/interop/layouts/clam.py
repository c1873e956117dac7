"""CLAM: features in h5_files/ or pt_files/, coordinates and what belongs to them in patches/."""

from pathlib import Path

import numpy as np

from wsi_mil.errors import DataError
from wsi_mil.interop.foreign import ForeignBag
from wsi_mil.interop.layouts._hdf5 import bag_of, feature_matrix, read_coords, read_h5_bag, write_h5
from wsi_mil.interop.layouts.base import (
    ExportedSlide,
    ExportLayout,
    ImportLayout,
    SlideFiles,
    slide_id_of,
    tile_attributes,
)
from wsi_mil.io.files import write_aside
from wsi_mil.io.torch_files import read_torch_file
from wsi_mil.paths import below
from wsi_mil.slides.ids import existing_file


class Clam(ImportLayout, ExportLayout):
    """patches/ is in the folder of features or beside it. Of a slide with both, h5 is read, not pt.

    A slide whose coordinates are missing is found all the same, so that its import fails by name.
    """

    packages = ("h5py",)
    expected = "h5_files/ or pt_files/ (and patches/ for pt)"

    def find(self, folder: Path) -> list[SlideFiles]:
        patches = next((p for p in (folder / "patches", folder.parent / "patches") if p.is_dir()), None)
        found: dict[str, SlideFiles] = {}
        for path in (folder / "pt_files").rglob("*.pt"):
            slide_id = slide_id_of(path, folder / "pt_files")
            found[slide_id] = SlideFiles(slide_id, path, _coordinates(patches, slide_id))
        for path in (folder / "h5_files").rglob("*.h5"):
            slide_id = slide_id_of(path, folder / "h5_files")
            found[slide_id] = SlideFiles(slide_id, path, _coordinates(patches, slide_id))
        return list(found.values())

    def read(self, files: SlideFiles) -> ForeignBag:
        return _read_pt(files) if files.features.suffix == ".pt" else read_h5_bag(files)

    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        import torch

        features, coords = slide.readable_rows()
        slide_id = slide.info.slide_id
        attributes = tile_attributes(slide) | {
            # CLAM counts patch_size in pixels of patch_level; level 0 is the one level that every slide has
            "patch_level": 0,
            "patch_size": round(slide.table.plan.tile_width0_px),
            "downsample": np.array([1.0, 1.0]),
            "level_dim": np.array([slide.info.width_px, slide.info.height_px]),
        }
        del attributes["overlap"]
        pt_path = below(folder, f"pt_files/{slide_id}.pt")
        with write_aside(pt_path) as aside:
            torch.save(torch.from_numpy(features), aside)
        return [
            write_h5(below(folder, f"patches/{slide_id}.h5"), None, coords, attributes, {}),
            write_h5(below(folder, f"h5_files/{slide_id}.h5"), features, coords, {}, {}),
            pt_path,
        ]


def _coordinates(patches: Path | None, slide_id: str) -> Path | None:
    path = existing_file(patches, f"{slide_id}.h5") if patches is not None else None
    return path if path is not None and path.is_file() else None


def _read_pt(files: SlideFiles) -> ForeignBag:
    import torch

    path = files.features
    if files.coordinates is None:
        raise DataError(
            f"{path} holds features without the coordinates of their tiles: expected them in "
            f"patches/{files.slide_id}.h5, in the folder of pt_files or beside it. CLAM's "
            "create_patches_fp.py writes that file: copy it there"
        )
    try:  # tensors only: nothing in the file is run (ADR 2)
        features = read_torch_file(path)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path} is not a tensor that torch reads without unpickling ({type(error).__name__})"
        ) from error
    if not isinstance(features, torch.Tensor):
        raise DataError(f"{path} holds a {type(features).__name__}, expected one (N, D) tensor")
    coords, attributes = read_coords(files.coordinates)
    return bag_of(files, feature_matrix(features.float().numpy()), coords, attributes)


LAYOUT = Clam()
