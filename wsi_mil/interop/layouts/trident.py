"""TRIDENT: one HDF5 file per slide, `<slide>.h5`, with `features`, `coords` and the attributes of both."""

from pathlib import Path

from wsi_mil.interop.foreign import ForeignBag
from wsi_mil.interop.layouts._hdf5 import read_h5_bag, write_h5
from wsi_mil.interop.layouts.base import (
    ExportedSlide,
    ExportLayout,
    ImportLayout,
    SlideFiles,
    slide_id_of,
    tile_attributes,
)
from wsi_mil.paths import below


class Trident(ImportLayout, ExportLayout):
    """Written as `<mpp>mpp_<px>px_<overlap>px_overlap/features_<encoder>/<slide>.h5`."""

    packages = ("h5py",)
    expected = "<slide>.h5 files"

    def find(self, folder: Path) -> list[SlideFiles]:
        return [SlideFiles(slide_id_of(path, folder), path) for path in folder.rglob("*.h5")]

    def read(self, files: SlideFiles) -> ForeignBag:
        return read_h5_bag(files)

    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        spec, encoder = slide.table.spec, slide.features.encoder
        features, coords = slide.readable_rows()
        tiling = f"{spec.mpp:g}mpp_{spec.size_px}px_{spec.size_px - spec.step_px}px_overlap"
        of_encoder = f"{tiling}/features_{encoder.replace(':', '.')}"
        path = below(folder, f"{of_encoder}/{slide.info.slide_id}.h5")
        of_features = {"encoder": encoder.removeprefix("imported:"), "name": slide.info.slide_id}
        return [write_h5(path, features, coords, tile_attributes(slide), of_features)]


LAYOUT = Trident()
