"""torchmil: folders of npy files, one file per bag: features, coords, labels, inst_labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_mil.interop.layouts.base import ExportedSlide, ExportLayout, flat_name
from wsi_mil.io.files import write_aside
from wsi_mil.paths import below


class TorchMIL(ExportLayout):
    """`coords` are in steps of the tile grid: torchmil joins tiles that are at most 1.5 apart.

    `coords_level0_px` holds the pixels. `inst_labels` is written where the lesions are known.
    """

    def write(self, slide: ExportedSlide, folder: Path) -> list[Path]:
        features, coords = slide.readable_rows()
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
            path = below(folder, f"{name}/{flat_name(slide.info.slide_id)}.npy")
            with write_aside(path) as aside, aside.open("wb") as handle:
                np.save(handle, values, allow_pickle=False)
            paths.append(path)
        return paths


LAYOUT = TorchMIL()
