"""A DICOM series of a slide as scanners write it: one file for each level, in tiles."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage

from wsi_mil.contracts.arrays import RGB

TILE_PX = 64


def tiles_of(image: RGB) -> list[RGB]:
    """Return the tiles of an image, row by row; those at its edge are filled with white."""
    height, width = image.shape[:2]
    tiles = []
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            part = image[top : top + TILE_PX, left : left + TILE_PX]
            tiles.append(np.full((TILE_PX, TILE_PX, 3), 255, np.uint8))
            tiles[-1][: part.shape[0], : part.shape[1]] = part
    return tiles


def as_jpeg(tile: RGB) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(tile).save(packed, "JPEG", quality=95)
    return packed.getvalue()


def write_dicom(path: Path, image: RGB, level: int = 0, jpeg: bool = False) -> Path:
    """Write one level of the series 1.2.3.4, of 0.5 µm/px at level 0."""
    tiles, data = tiles_of(image), Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    data.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    data.SOPInstanceUID = f"1.2.3.4.{level + 1}"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    data.Modality = "SM"
    data.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED" if level else "NONE"]
    data.DimensionOrganizationType = "TILED_FULL"
    data.Rows = data.Columns = TILE_PX
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = image.shape[:2]
    data.NumberOfFrames = len(tiles)
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.0005 * 2**level] * 2
    shared.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PixelData = (
        encapsulate([as_jpeg(t) for t in tiles]) if jpeg else b"".join(t.tobytes() for t in tiles)
    )
    data["PixelData"].is_undefined_length = jpeg
    data.save_as(path, enforce_file_format=True)
    return path
