"""How much a file from outside may ask for before any work is done on it; docs/limits.md is made from this.

A limit lies far above what real files hold (docs/limits.md says how each was chosen), and low enough that the
work it allows ends in time and fits in memory.
"""

from dataclasses import dataclass

from wsi_mil.errors import DataError, WsiMilError

MIB = 1 << 20


@dataclass(frozen=True)
class Limit:
    """The largest figure that is read. what: what is counted, with its unit. why: what a larger one does.
    remedy: what the user does about it."""

    what: str
    most: int
    why: str
    remedy: str

    def check(self, found: float, where: str, error: type[WsiMilError] = DataError) -> None:
        """Raise `error` in one line, with `where` (file or slide), figure, limit and remedy, if `found` is
        larger.

        >>> LEVELS.check(3, "a.svs")
        """
        if not found <= self.most:  # also for NaN
            raise error(f"{where}: {found:,} {self.what}, at most {self.most:,} are read: {self.remedy}")


DAMAGED = "the file is damaged, or no slide: copy it again"
DAMAGED_FILE = "the file is damaged: copy it again"
SMALLER_TILES = "the file is damaged, or must be written again in tiles of 256 px"

SIDE_PX = Limit(
    "pixels along a side of an image",
    2_000_000,
    "glass of 200 mm scanned at 0.1 µm/px; coordinates of tiles are 32-bit numbers",
    DAMAGED,
)
IMAGE_PX = Limit(
    "pixels in an image",
    10**12,
    "16 times a slide of 250,000 x 250,000 px; more fills the memory with the table of its tiles",
    DAMAGED,
)
SLIDE_MM2 = Limit(
    "mm² of glass",
    30_000,
    "more than the largest glass in use (127 x 178 mm); the tissue mask grows with it",
    "its size or its µm per pixel is wrong: give the scale by the column mpp of the labels or by slides.mpp",
)
TILE_SIDE_PX = Limit(
    "pixels along a side of a tile", 65_500, "the largest side of a JPEG picture", SMALLER_TILES
)
TILE_PX = Limit(
    "pixels in one tile or strip",
    1 << 28,
    "decoding one takes 1 GiB; a tile of 204,800 x 204,800 px ends OpenSlide's process",
    SMALLER_TILES,
)
TILE_BYTES = Limit(
    "bytes in one decoded tile or strip",
    1024 * MIB,
    "each thread decodes at least one at once",
    SMALLER_TILES,
)
TILES = Limit(
    "tiles or strips in an image",
    1 << 24,
    "their places fill 256 MiB; a slide of 250,000 x 250,000 px in tiles of 256 px has 955,000",
    SMALLER_TILES,
)
IMAGES = Limit("images in one file", 10_000, "each is looked at before the first pixel is read", DAMAGED)
LEVELS = Limit("levels of one image", 64, "64 halvings reduce every image to one pixel", DAMAGED)
TAGS = Limit("tags of one image", 4_096, "each is looked at; slides have fewer than 100", DAMAGED)
TAG_BYTES = Limit(
    "bytes in one tag",
    256 * MIB,
    "libraries read a tag whole; the places of 16 million tiles fill 128 MiB",
    DAMAGED,
)
TEXT_BYTES = Limit(
    "bytes in one text tag",
    8 * MIB,
    "libraries read and search descriptions whole, several times; the OME-XML of a large slide has 5 MiB",
    "remove the description, for example with tiffcomment or tiffset",
)
FRAMES = Limit(
    "frames of a DICOM file", 1 << 24, "as for the tiles of an image", "the file is damaged: copy it again"
)
OUTLINE_POINTS = Limit(
    "points in one outline",
    2_000_000,
    "outlines of whole slides have up to 100,000; checking one takes time that grows with it",
    "simplify it or divide it into parts",
)
CROSSINGS = Limit(
    "crossings of one outline with itself",
    2_000,
    "repairing grows with the square: 1,200 take 0.5 s, 10,000 take 25 s",
    "draw the outline again, or simplify it",
)
GEOJSON_BYTES = Limit(
    "bytes of GeoJSON, unpacked",
    1024 * MIB,
    "QuPath's outlines of a slide have up to 100 MiB; reading takes ten times the memory",
    "export the annotations alone, without cells and tiles",
)
XML_BYTES = Limit(
    "bytes of XML",
    256 * MIB,
    "outlines of a slide have up to 20 MiB; reading takes ten times the memory",
    "export fewer or simpler outlines",
)
XML_ELEMENTS = Limit(
    "elements of XML",
    4_000_000,
    "one per point: as many as 256 MiB of points have; each takes 600 bytes of memory",
    "export fewer or simpler outlines",
)
XML_DEPTH = Limit(
    "levels of XML within each other", 200, "annotations and OME-XML have fewer than 20", DAMAGED_FILE
)
JSON_DEPTH = Limit(
    "levels of lists and objects within each other",
    100,
    "GeoJSON has 10, and 2 more for each object within an object; thousands end Python's stack",
    DAMAGED_FILE,
)
OBJECTS = Limit(
    "objects in an annotation file",
    500_000,
    "annotations of a slide are up to 10,000; joining 100,000 outlines takes 20 s",
    "export the annotations alone, without cells and tiles",
)
POINTS = Limit(
    "points in the outlines of an annotation file",
    10_000_000,
    "as for the points of one outline",
    "export fewer or simpler outlines",
)
PICTURE_PX = Limit(
    "pixels in a picture (JPEG, PNG, WebP, BMP, GIF)",
    1 << 28,
    "heatmaps and previews have up to 10 million; decoding this many takes 800 MiB",
    DAMAGED_FILE,
)
PACKED = Limit(
    "unpacked bytes for each stored byte of an array above 256 MiB",
    100,
    "features are packed to a third at best; a file of 16 MiB could state 16 GiB",
    "the file is damaged: make it again, or write it without compression",
)
TABLE_BYTES = Limit(
    "bytes in a table (CSV, or .xlsx unpacked)",
    256 * MIB,
    "a million rows have 100 MiB",
    "keep the columns and rows that are needed",
)
CELLS = Limit(
    "cells in a sheet",
    10_000_000,
    "empty rows and columns count: one filled cell at the end of a sheet states 17,000 million",
    "remove what lies far from the table, or save it as CSV",
)
CONFIG_BYTES = Limit(
    "bytes of YAML",
    MIB,
    "configurations have up to 10 kB; reading 1 MiB takes seconds",
    "it is probably no configuration: name another file",
)
JSON_BYTES = Limit(
    "bytes of JSON",
    256 * MIB,
    "descriptions of models, runs and arrays have up to 1 MiB",
    "the file is damaged: make it again, or copy it again",
)
ROWS = Limit(
    "rows of one slide",
    1 << 24,
    "one row per tile; a slide of 250,000 x 250,000 px in tiles of 256 px has 955,000",
    "the file is damaged: make it again, or copy it again",
)
ARRAY_BYTES = Limit(
    "bytes in arrays, unpacked",
    16 * 1024 * MIB,
    "a million tiles with 4,096 features of 32 bits; more does not fit in the memory of most machines",
    "the file is damaged: make it again, or copy it again",
)
