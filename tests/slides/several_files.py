"""Slides of several files as scanners write them: MIRAX (.mrxs) and Hamamatsu VMS, of 1 µm per pixel.

Both have one level of 64 x 64 px images, or one image; sides are multiples of 64 px.
"""

import io
import struct
from pathlib import Path

from PIL import Image

from wsi_mil.contracts.arrays import RGB

SIDE_PX = 64


def write_mrxs(path: Path, image: RGB) -> list[Path]:
    """Write `path` (.mrxs) and its folder with Slidedat.ini, Index.dat and Data0000.dat; return these
    three."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_bytes(b"a picture of the glass, which nobody reads")
    rows, columns = image.shape[0] // SIDE_PX, image.shape[1] // SIDE_PX
    places, data = [], b""
    for number in range(rows * columns):
        top, left = number // columns * SIDE_PX, number % columns * SIDE_PX
        packed = io.BytesIO()
        Image.fromarray(image[top : top + SIDE_PX, left : left + SIDE_PX]).save(packed, "PNG")
        places.append((number, len(data), packed.tell(), 0))
        data += packed.getvalue()
    files = [folder / "Slidedat.ini", folder / "Index.dat", folder / "Data0000.dat"]
    files[0].write_text(_slidedat(rows, columns))
    files[1].write_bytes(_index(places))
    files[2].write_bytes(data)
    return files


SLIDE_ID = "ABCD"


def _slidedat(rows: int, columns: int) -> str:
    groups = {
        "GENERAL": {
            "SLIDE_VERSION": "01.02",
            "SLIDE_ID": SLIDE_ID,
            "IMAGENUMBER_X": columns,
            "IMAGENUMBER_Y": rows,
            "OBJECTIVE_MAGNIFICATION": 10,
        },
        "HIERARCHICAL": {
            "HIER_COUNT": 1,
            "NONHIER_COUNT": 0,
            "INDEXFILE": "Index.dat",
            "HIER_0_NAME": "Slide zoom level",
            "HIER_0_COUNT": 1,
            "HIER_0_VAL_0_SECTION": "LEVEL_0",
        },
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
        "LEVEL_0": {
            "IMAGE_CONCAT_FACTOR": 0,
            "OVERLAP_X": 0,
            "OVERLAP_Y": 0,
            "MICROMETER_PER_PIXEL_X": 1.0,
            "MICROMETER_PER_PIXEL_Y": 1.0,
            "IMAGE_FILL_COLOR_BGR": 0xFFFFFF,
            "DIGITIZER_WIDTH": SIDE_PX,
            "DIGITIZER_HEIGHT": SIDE_PX,
            "IMAGE_FORMAT": "PNG",
        },
    }
    lines = []
    for group, values in groups.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in values.items()), ""]
    return "\n".join(lines)


def _index(places: list[tuple[int, int, int, int]]) -> bytes:
    """Return Index.dat. places: number, offset, length and file of every image."""
    head = b"01.02" + SLIDE_ID.encode()
    root = len(head) + 8  # behind the pointers to the hierarchy and to what is outside of it: nothing
    level, page = root + 4, root + 12
    numbers = [root, 0, level, 0, page, len(places), 0, *(value for place in places for value in place)]
    return head + struct.pack(f"<{len(numbers)}i", *numbers)


def write_vms(path: Path, image: RGB) -> list[Path]:
    """Write `path` (.vms), its image and its map; return these two."""
    height, width = image.shape[:2]
    files = [path.with_name(f"{path.stem}.jpg"), path.with_name(f"{path.stem}_map.jpg")]
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, pixels in zip(files, (image, image[::SIDE_PX, ::SIDE_PX]), strict=True):
        Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, restart_marker_rows=1)
    values = {
        "NoLayers": 1,
        "NoJpegColumns": 1,
        "NoJpegRows": 1,
        "ImageFile": files[0].name,
        "MapFile": files[1].name,
        "PhysicalWidth": width * 1000,
        "PhysicalHeight": height * 1000,
        "SourceLens": 10,
    }
    lines = ["[Virtual Microscope Specimen]", *(f"{key}={value}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return files
