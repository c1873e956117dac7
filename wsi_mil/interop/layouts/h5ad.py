"""AnnData in one HDF5 file per slide, `<slide>.h5ad`."""

from pathlib import Path

from wsi_mil.interop.layouts._anndata import PACKAGES, to_anndata
from wsi_mil.interop.layouts.base import ExportedSlide, ExportLayout
from wsi_mil.io.files import write_aside
from wsi_mil.paths import below


class H5ad(ExportLayout):
    """Written by anndata; see `to_anndata` for what it holds."""

    packages = PACKAGES

    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        path = below(folder, f"{slide.info.slide_id}.h5ad")
        with write_aside(path) as aside:
            to_anndata(slide).write_h5ad(aside)
        return [path]


LAYOUT = H5ad()
