"""AnnData in one Zarr folder per slide, `<slide>.zarr`."""

from pathlib import Path

from wsi_mil.errors import StoreError
from wsi_mil.interop.layouts._anndata import PACKAGES, to_anndata
from wsi_mil.interop.layouts.base import ExportedSlide, ExportLayout
from wsi_mil.io.files import write_aside
from wsi_mil.paths import below


class Zarr(ExportLayout):
    """Written by anndata; see `to_anndata` for what it holds."""

    packages = PACKAGES

    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        path = below(folder, f"{slide.info.slide_id}.zarr")
        if path.exists() and not (path / "uns" / "wsi_mil").is_dir():
            raise StoreError(
                f"{path} was not written by an export: move it elsewhere, or export into another folder"
            )
        with write_aside(path) as aside:
            to_anndata(slide).write_zarr(aside)
        return [path]


LAYOUT = Zarr()
