"""slides/<slide_id>.zarr: tiles and features of one slide. docs/contracts.md lists every field.

A group is written under a temporary name and renamed when its completeness mark is written, so a store never
holds an incomplete table. Nothing that differs between runs (time, host, process) is written: equal input
gives equal bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
import zarr
from numpy.typing import NDArray

import wsi_mil
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.errors import StoreError
from wsi_mil.features.mapped import MappedFeatures
from wsi_mil.features.stored import FeatureOrigin, StoredFeatures
from wsi_mil.io.files import digest_bytes, remove, sweep_temporaries, write_aside

FORMAT = 1
CHUNK_ROWS = 2048
SHARD_ROWS = 8 * CHUNK_ROWS


@final
class SlideStore:
    """The store of one slide at `path`. Creating this object opens no file."""

    def __init__(self, path: Path, slide_id: str) -> None:
        self.path = path
        self.slide_id = slide_id

    # ---- tiles

    def tiles_digest(self) -> str | None:
        """Return the digest of the stored tile table, or None if there is no complete one."""
        attributes = self._attributes("tiles")
        return None if attributes is None else str(attributes["digest"])

    def made_from(self) -> str | None:
        """Return the digest of what the tiles were made from (slide, tissue, specification), or None."""
        attributes = self._attributes("tiles")
        return None if attributes is None else str(attributes["made_from"])

    def source(self) -> str | None:
        """Return the fingerprint of the slide's file that was tiled, or None if the store has none."""
        attributes = self._attributes("tiles")
        return None if attributes is None else attributes.get("source")

    def write_tiles(
        self, table: TileTable, info: SlideInfo, made_from: str, source: str | None = None
    ) -> None:
        """Replace the whole store by this tile table; features of other tiles are removed.

        `made_from`: digest of slide, tissue and specification. `source`: fingerprint of the slide's file, by
        which a file that is replaced later is noticed.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(self.path.parent)
        with write_aside(self.path) as aside:
            root = zarr.create_group(store=str(aside), attributes=self._root_attributes(info))
            group = root.create_group("tiles")
            rows = max(len(table), 1)
            for name, values in (("coords", table.coords), ("tissue", table.tissue)):
                chunk = (min(rows, SHARD_ROWS), *values.shape[1:])
                array = group.create_array(
                    name, shape=values.shape, dtype=values.dtype, chunks=chunk, compressors=None
                )
                if len(values):
                    array[:] = values
            group.attrs.update(
                {
                    "kind": "tile table",
                    "format_version": FORMAT,
                    "units": "level-0 px, (x, y) of the top-left corner",
                    "order": "sorted by (y, x); the row number is the tile's identity",
                    "spec": table.spec.explicit(),
                    "plan": asdict(table.plan),
                    "slide_size_px": list(table.slide_size_px),
                    "mpp_xy": list(table.mpp_xy),
                    "tissue_source": table.tissue_source,
                    "rows": len(table),
                    "digest": table.digest(),
                    "made_from": made_from,
                    **({"source": source} if source else {}),
                    "complete": True,
                }
            )

    def read_tiles(self) -> TileTable:
        """Return the tile table. Raises StoreError if it is absent or does not match its own digest."""
        attributes = self._require("tiles", "run `wsi-mil tile`")
        group = self._group("tiles")
        table = TileTable(
            slide_id=self.slide_id,
            spec=TileSpec(**attributes["spec"]),
            plan=ReadPlan(**attributes["plan"]),
            coords=np.asarray(group["coords"][:]),
            tissue=np.asarray(group["tissue"][:]),
            slide_size_px=tuple(attributes["slide_size_px"]),
            mpp_xy=tuple(attributes["mpp_xy"]),
            tissue_source=attributes["tissue_source"],
        )
        if table.digest() != attributes["digest"]:
            raise StoreError(
                f"{self.path}: the tile table does not match its digest (damaged?): remove the store and run "
                "`wsi-mil tile`"
            )
        return table

    def read_info(self) -> SlideInfo:
        """Return the slide's info as it was when it was tiled. Raises StoreError if there is no store."""
        try:
            values = dict(zarr.open_group(str(self.path), mode="r").attrs["slide"])
        except (FileNotFoundError, KeyError) as error:
            raise StoreError(f"{self.path}: no slide store: run `wsi-mil tile`") from error
        values["bounds"] = Bounds(**values["bounds"]) if values["bounds"] else None
        values["level_sizes_px"] = tuple(tuple(size) for size in values["level_sizes_px"])
        values["level_downsamples"] = tuple(values["level_downsamples"])
        values["notes"] = tuple(values["notes"])
        return SlideInfo(**values)

    # ---- features

    def encoders(self) -> list[str]:
        """Return the keys of the encoders that have complete features here."""
        folder = self.path / "features"
        names = (
            sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
        )
        return [name for name in names if self._attributes(f"features/{name}") is not None]

    def stored_features(self, key: str) -> StoredFeatures | None:
        """Return the description of the features of encoder `key`, or None if there are no complete ones.

        Raises StoreError for features of another format, or whose description lacks a field.
        """
        attributes = self._attributes(f"features/{key}")
        if attributes is None:
            return None
        try:
            return StoredFeatures.from_attributes(attributes)
        except (KeyError, TypeError, ValueError, StoreError) as error:
            raise StoreError(
                f"features {key!r} of slide {self.slide_id!r} have a damaged description "
                f"({type(error).__name__}: {error}): remove {self.path}/features/{key} and "
                "run `wsi-mil extract`"
            ) from error

    @contextmanager
    def write_features(self, key: str, dim: int, origin: FeatureOrigin) -> Iterator["FeatureWriter"]:
        """Yield a writer of rows in order.

        After the block the features are complete; after an error, absent.
        """
        table = self.read_tiles()
        folder = self.path / "features"
        folder.mkdir(exist_ok=True)
        sweep_temporaries(folder)
        if not (folder / "zarr.json").exists():
            zarr.create_group(store=str(folder), overwrite=False)
        with write_aside(folder / key) as aside:
            group = zarr.create_group(store=str(aside))
            writer = FeatureWriter(group, len(table), dim)
            yield writer
            digest = writer.finish()
            group.attrs.update(
                {
                    "kind": "features",
                    "format_version": FORMAT,
                    "units": "row i belongs to tile i",
                    "tiles_digest": table.digest(),
                    "mpp": table.spec.mpp,
                    "rows": len(table),
                    "readable_rows": writer.readable_rows,
                    "dim": dim,
                    "digest": digest,
                    "producer": f"wsi_mil {wsi_mil.__version__}",
                    **origin.attributes(),
                    "complete": True,
                }
            )

    def read_features(self, key: str, check: bool = True) -> FeatureTable:
        """Return the features of encoder `key` with their coordinates.

        `check`: compare with the stored digest. Raises StoreError if there are none, if they belong to
        another tile table, or if they are damaged.
        """
        stored = self._require_features(key)
        group = self._group(f"features/{key}")
        table = self.read_tiles()
        if stored.tiles_digest != table.digest():
            raise StoreError(
                f"features {key!r} of slide {self.slide_id!r} were made from tile table "
                f"{stored.tiles_digest}, the store now holds {table.digest()}: run `wsi-mil extract`"
            )
        features = np.asarray(group["features"][:])
        readable = np.asarray(group["readable"][:])
        if check and digest_bytes(features.tobytes(), readable.tobytes()) != stored.digest:
            raise StoreError(self._damaged(key))
        return FeatureTable(
            slide_id=self.slide_id,
            encoder=str(stored.origin.encoder["name"]),
            encoder_digest=stored.encoder_digest,
            tiles_digest=stored.tiles_digest,
            mpp=stored.mpp,
            features=features,
            coords=table.coords,
            readable=readable,
            digest=stored.digest,
        )

    def map_features(self, key: str, check: bool = True) -> MappedFeatures:
        """Return the readable rows of encoder `key`, mapped into memory.

        `check`: compare with the stored digest. Raises StoreError if there are none or if they are damaged.
        """
        stored = self._require_features(key)
        readable = self.read_readable(key)
        array = self.path / "features" / key / "features"
        if check:
            whole = MappedFeatures(array, np.ones_like(readable))
            found = digest_blocks(whole.blocks(), whole.rows_stored * whole.dim * 2, readable)
            if found != stored.digest:
                raise StoreError(self._damaged(key))
        return MappedFeatures(array, readable)

    def read_readable(self, key: str) -> NDArray[np.bool_]:
        """Return (N,) bool: which tiles could be read for encoder `key`."""
        return np.asarray(self._group(f"features/{key}")["readable"][:])

    # ---- inside

    def _damaged(self, key: str) -> str:
        return (
            f"features {key!r} of slide {self.slide_id!r} do not match their digest (damaged?): remove "
            f"{self.path}/features/{key} and run `wsi-mil extract`"
        )

    def _root_attributes(self, info: SlideInfo) -> dict[str, Any]:
        return {
            "kind": "wsi_mil slide",
            "format_version": FORMAT,
            "producer": f"wsi_mil {wsi_mil.__version__}",
            "slide": asdict(info),
        }

    def _group(self, name: str) -> Any:
        return zarr.open_group(str(self.path / name), mode="r")

    def _attributes(self, name: str) -> dict[str, Any] | None:
        """Return the attributes of a complete group; None for one that has to be made (again).

        Raises StoreError for a group of another format version.
        """
        if not (self.path / name / "zarr.json").exists():
            return None
        try:
            attributes = dict(self._group(name).attrs)
        except (ValueError, KeyError, OSError):
            return None
        if attributes.get("format_version", FORMAT) != FORMAT:
            raise StoreError(
                f"{self.path}/{name} has format {attributes['format_version']}, this version reads {FORMAT}: "
                "use the version that made it, or another run folder"
            )
        return attributes if attributes.get("complete") else None

    def _require(self, name: str, remedy: str) -> dict[str, Any]:
        attributes = self._attributes(name)
        if attributes is None:
            raise StoreError(f"slide {self.slide_id!r} has no complete {name} in {self.path}: {remedy}")
        return attributes

    def _require_features(self, key: str) -> StoredFeatures:
        stored = self.stored_features(key)
        if stored is None:
            raise StoreError(
                f"slide {self.slide_id!r} has no complete features/{key} in {self.path}: "
                f"run `wsi-mil extract` for encoder {key!r}"
            )
        return stored

    def remove(self) -> None:
        """Delete the store."""
        remove(self.path)


def digest_blocks(blocks: Iterable[NDArray[np.float16]], nbytes: int, readable: NDArray[np.bool_]) -> str:
    """Return the digest of features whose rows come in blocks: the same as of the whole array.

    `nbytes`: size of all blocks together. `readable`: (N,) which rows could be read.
    """
    found = hashlib.sha256(nbytes.to_bytes(8, "little"))
    for block in blocks:
        found.update(np.ascontiguousarray(block).data)
    flags = readable.tobytes()
    found.update(len(flags).to_bytes(8, "little"))
    found.update(flags)
    return found.hexdigest()[:16]


@final
class FeatureWriter:
    """Writes feature rows in order, shard by shard: at most one shard of rows is in memory."""

    def __init__(self, group: Any, rows: int, dim: int) -> None:
        chunk = min(CHUNK_ROWS, max(rows, 1))
        shard = chunk * min(SHARD_ROWS // CHUNK_ROWS, -(-max(rows, 1) // chunk))
        self._features = group.create_array(
            "features",
            shape=(rows, dim),
            dtype="float16",
            chunks=(chunk, dim),
            shards=(shard, dim),
            compressors=None,
            config={"write_empty_chunks": True},  # MappedFeatures needs every chunk, also one of zeros
        )
        self._readable = group.create_array(
            "readable", shape=(rows,), dtype="bool", chunks=(max(rows, 1),), compressors=None
        )
        self._rows = rows
        self._buffer = np.empty((min(shard, max(rows, 1)), dim), np.float16)
        self._flags = np.zeros(rows, np.bool_)
        self._filled = self._written = 0
        self._hash = hashlib.sha256()
        self._hash.update((rows * dim * 2).to_bytes(8, "little"))

    def append(self, features: NDArray[np.floating], readable: NDArray[np.bool_]) -> None:
        """Add the next rows (n, D); rows that are not readable are stored as zeros.

        Raises StoreError if a value is not finite or does not fit float16.
        """
        with np.errstate(over="ignore"):
            rows = np.where(readable[:, None], features, 0).astype(np.float16)
        if not np.isfinite(rows).all():
            raise StoreError(
                "features hold NaN, infinity or values beyond float16 (largest "
                f"{np.nanmax(np.abs(features)):.3g}): the encoder or its precision is at fault"
            )
        start = self._written + self._filled
        self._flags[start : start + len(rows)] = readable
        while len(rows):
            taken = min(len(rows), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._filled == len(self._buffer):
                self._flush()

    def _flush(self) -> None:
        if self._filled:
            block = self._buffer[: self._filled]
            self._features[self._written : self._written + self._filled] = block
            self._hash.update(block.tobytes())
            self._written += self._filled
            self._filled = 0

    @property
    def readable_rows(self) -> int:
        """How many of the rows so far could be read."""
        return int(self._flags.sum())

    def finish(self) -> str:
        """Write the last rows and return the digest. Raises StoreError if rows are missing."""
        self._flush()
        if self._written != self._rows:
            raise StoreError(f"{self._written} of {self._rows} feature rows were written")
        if self._rows:
            self._readable[:] = self._flags
        flags = self._flags.tobytes()
        self._hash.update(len(flags).to_bytes(8, "little"))
        self._hash.update(flags)
        return self._hash.hexdigest()[:16]
