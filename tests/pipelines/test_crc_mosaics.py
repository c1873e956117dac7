"""The colon mosaics: what `slides.annotations` reads of them is the truth of the patches."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.crc.mosaics import MPP, TILE_PX, write_mosaics
from wsi_mil.evaluation import AnnotationRules, lesions_or_unknown
from wsi_mil.slides import open_slide


def test_the_annotations_are_read_as_lesions(tmp_path: Path) -> None:
    """Five patches of a patient, two of them cancerous and not side by side: their area is outlined."""
    cancerous = np.array([False, True, False, False, True])
    images = np.full((5, TILE_PX, TILE_PX, 3), 120, np.uint8)
    np.savez(tmp_path / "cells.npz", images=images, patient=np.full(5, 7), cancerous=cancerous)
    truth = write_mosaics(tmp_path / "cells.npz", tmp_path)
    assert truth["patient_007"].tolist() == cancerous.tolist()
    path = tmp_path / "annotations" / "patient_007.geojson"
    with open_slide(tmp_path / "slides" / "patient_007.tiff") as slide:
        found = lesions_or_unknown(path, "patient_007", slide.info, AnnotationRules(), "a test")
        assert slide.info.mpp == MPP
    assert found is not None
    assert sum(lesion.geometry.area for lesion in found) == pytest.approx(2 * TILE_PX**2)
