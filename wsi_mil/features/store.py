"""slides/<slide_id>.zarr: tiles and features of one slide. docs/contracts.md lists every field.

A group is written under a temporary name and renamed when its completeness mark is written, so a store never
holds an incomplete table. Nothing that differs between runs (time, host, process) is written: equal input
gives equal bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, ShardingCodec

import wsi_mil
from wsi_mil import limits
from wsi_mil.contracts.features import FeatureTable
from wsi_mil.contracts.slide import Bounds, SlideInfo
from wsi_mil.contracts.tiles import ReadPlan, TileSpec, TileTable
from wsi_mil.errors import StoreError
from wsi_mil.features.damage import named_damage
from wsi_mil.features.mapped import MappedFeatures
from wsi_mil.features.stored import FeatureOrigin, Origins, StoredFeatures
from wsi_mil.features.writing import SHARD_ROWS, FeatureWriter, digest_blocks, feature_bytes
from wsi_mil.io.disk import writing
from wsi_mil.io.files import digest_bytes, remove, sweep_temporaries, write_aside
from wsi_mil.io.json import read_plain_json
from wsi_mil.io.seals import DamagedFileError, sealed, unsealed
from wsi_mil.paths import below, child

FORMAT = 1
DAMAGED = "damaged"
"""An empty file in the folder of features that did not match their digest when they were read."""


@final
@dataclass(frozen=True)
class SlideStore:
    """The store of one slide at `path`. Creating this object opens no file.

    tile_again, extract_again: what errors say to do about damaged tiles and features.
    """

    path: Path
    slide_id: str
    tile_again: str = "run `wsi-mil tile`"
    extract_again: str = "run `wsi-mil extract`"

    # ---- tiles

    def tiles_digest(self) -> str | None:
        """Return the digest of the stored tile table, or None if there is no complete one."""
        return self._of_tiles("digest")

    def tiles_header(self) -> tuple[str, int] | None:
        """Return the digest and the number of the stored tiles without reading them; None without tiles."""
        attributes = self._attributes("tiles")
        return None if attributes is None else (str(attributes["digest"]), int(attributes["rows"]))

    def made_from(self) -> str | None:
        """Return the digest of what the tiles were made from (slide, tissue, specification), or None."""
        return self._of_tiles("made_from")

    def source(self) -> str | None:
        """Return the fingerprint of the slide's file that was tiled, or None if the store has none."""
        return self._of_tiles("source")

    def preview(self) -> str | None:
        """Return the digest of the picture of the tiles; None if the store has none."""
        return self._of_tiles("preview")

    def _of_tiles(self, key: str) -> str | None:
        attributes = self._attributes("tiles")
        return None if attributes is None else attributes.get(key)

    def write_tiles(
        self,
        table: TileTable,
        info: SlideInfo,
        made_from: str,
        source: str | None = None,
        preview: str | None = None,
    ) -> None:
        """Replace the whole store by this tile table; features of other tiles or another file are removed.

        `made_from`: digest of slide, tissue and specification. `source`: fingerprint of the slide's file, by
        which a file that is replaced later is noticed. `preview`: digest of the picture of the tiles.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(self.path.parent)
        repairs = self._keeps_features(table, info, source)
        whole = self.path / ".repaired" if repairs else self.path
        with write_aside(whole) as aside:
            root = zarr.create_group(store=str(aside), attributes=sealed(self._root_attributes(info)))
            group = root.create_group("tiles")
            rows = max(len(table), 1)
            for name, values in (("coords", table.coords), ("tissue", table.tissue)):
                chunk = (min(rows, SHARD_ROWS), *values.shape[1:])
                array = group.create_array(
                    name, shape=values.shape, dtype=values.dtype, chunks=chunk, compressors=None
                )
                if len(values):
                    array[:] = values
            attributes = {
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
                **({"preview": preview} if preview else {}),
                "complete": True,
            }
            group.attrs.update(sealed(attributes))
        if repairs:
            for name in ("tiles", "zarr.json"):
                with write_aside(self.path / name) as part:
                    (whole / name).rename(part)
            remove(whole)

    def _keeps_features(self, table: TileTable, info: SlideInfo, source: str | None) -> bool:
        """Return whether the store has features, all of them of this tile table and of this file."""
        before = None
        with suppress(StoreError):
            before = self.source()
        try:
            found = [self._attributes(f"features/{key}") for key in self.encoders()]
        except StoreError:
            return False
        wanted = Origins(table.digest(), source, before, info.path)
        return bool(found) and all(one is not None and wanted.are_of(one) for one in found)

    def read_tiles(self) -> TileTable:
        """Return the tile table. Raises StoreError if it is absent or does not match its own digest."""
        attributes = self._require("tiles", self.tile_again)
        with named_damage(self.path / "tiles", self.tile_again):
            group = self._group("tiles")
            table = TileTable(
                slide_id=self.slide_id,
                spec=TileSpec(**attributes["spec"]),
                plan=ReadPlan(**attributes["plan"]),
                coords=_values(group, "coords"),
                tissue=_values(group, "tissue"),
                slide_size_px=tuple(attributes["slide_size_px"]),
                mpp_xy=tuple(attributes["mpp_xy"]),
                tissue_source=attributes["tissue_source"],
            )
        if table.digest() != attributes["digest"]:
            what = f"the tile table does not match its digest {attributes['digest']}, found {table.digest()}"
            raise DamagedFileError(self.path / "tiles", what, self.tile_again)
        return table

    def read_info(self) -> SlideInfo:
        """Return the slide's info as it was when it was tiled. Raises StoreError if there is no store."""
        path = self.path / "zarr.json"
        try:
            attributes = read_plain_json(path, self.tile_again)["attributes"]
            values = dict(unsealed(attributes, path, self.tile_again)["slide"])
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}: no slide store: {self.tile_again}") from error
        except (KeyError, TypeError) as error:
            raise DamagedFileError(path, f"it lacks {error}", self.tile_again) from error
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
            what = f"features {key!r} of slide {self.slide_id!r} have a damaged description "
            what += f"({type(error).__name__}: {error})"
            raise DamagedFileError(self._features(key), what, self.extract_again) from error

    @contextmanager
    def write_features(self, key: str, dim: int, origin: FeatureOrigin) -> Iterator["FeatureWriter"]:
        """Yield a writer of rows in order.

        After the block the features are complete; after an error, absent.
        """
        table = self.read_tiles()
        folder = self.path / "features"
        with writing(folder):
            folder.mkdir(exist_ok=True)
            sweep_temporaries(folder)
            if not (folder / "zarr.json").exists():
                zarr.create_group(store=str(folder), overwrite=False)
        with write_aside(child(folder, key, "encoder name"), feature_bytes(len(table), dim)) as aside:
            group = zarr.create_group(store=str(aside))
            writer = FeatureWriter(group, len(table), dim)
            yield writer
            digest = writer.finish()
            group.attrs.update(
                sealed(
                    {
                        "kind": "features",
                        "format_version": FORMAT,
                        "units": "row i belongs to tile i",
                        "tiles_digest": table.digest(),
                        **({"source": source} if (source := self.source()) else {}),
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
                f"{stored.tiles_digest}, the store now holds {table.digest()}: {self.extract_again}"
            )
        with self._reading_features(key):
            features = _values(group, "features")
            readable = _values(group, "readable")
            if check:
                self._require_digest(key, stored, digest_bytes(features.tobytes(), readable.tobytes()))
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
        array = self._features(key) / "features"
        with self._reading_features(key):
            if check:
                whole = MappedFeatures(array, np.ones_like(readable))
                nbytes = whole.rows_stored * whole.dim * 2
                self._require_digest(key, stored, digest_blocks(whole.blocks(), nbytes, readable))
            return MappedFeatures(array, readable)

    def read_readable(self, key: str) -> NDArray[np.bool_]:
        """Return (N,) bool: which tiles could be read for encoder `key`."""
        with self._reading_features(key):
            return _values(self._group(f"features/{key}"), "readable")

    # ---- inside

    @contextmanager
    def _reading_features(self, key: str) -> Iterator[None]:
        """Mark features that turn out to be damaged, so that the next run makes them again.

        Finding out there would mean to read all features at every start.
        """
        folder = self._features(key)
        try:
            with named_damage(folder, self.extract_again):
                yield
        except StoreError:
            with suppress(OSError):  # a run that cannot be written is read all the same
                (folder / DAMAGED).touch()
            raise

    def _require_digest(self, key: str, stored: StoredFeatures, found: str) -> None:
        if found != stored.digest:
            what = (
                f"features {key!r} of slide {self.slide_id!r} do not match their digest {stored.digest}, "
                f"found {found}"
            )
            raise DamagedFileError(self._features(key), what, self.extract_again)

    def _root_attributes(self, info: SlideInfo) -> dict[str, Any]:
        return {
            "kind": "wsi_mil slide",
            "format_version": FORMAT,
            "producer": f"wsi_mil {wsi_mil.__version__}",
            "slide": asdict(info),
        }

    def _group(self, name: str) -> Any:
        return zarr.open_group(str(below(self.path, name)), mode="r", zarr_format=3)

    def _attributes(self, name: str) -> dict[str, Any] | None:
        """Return the attributes of a complete group; None for one that has to be made (again).

        Raises StoreError for a damaged group, and for one of another format version.
        """
        path = below(self.path, name) / "zarr.json"
        if not path.exists():
            if any(path.parent.glob(".z[ag]r*")):
                raise StoreError(f"{path.parent} is of Zarr format 2, expected 3: move it elsewhere")
            return None
        remedy = self.tile_again if name == "tiles" else self.extract_again
        if (path.parent / DAMAGED).exists():
            raise DamagedFileError(path.parent, "its bytes did not match their digest when read", remedy)
        with named_damage(path, remedy):
            attributes = read_plain_json(path, remedy).get("attributes", {})
        if not attributes:  # a group that was made and not filled
            return None
        attributes = unsealed(attributes, path, remedy)
        if attributes.get("format_version", FORMAT) != FORMAT:
            raise StoreError(
                f"{self.path}/{name} has format {attributes['format_version']}, this version reads {FORMAT}: "
                "use the version that made it, or another run folder"
            )
        return attributes if attributes.get("complete") else None

    def _features(self, key: str) -> Path:
        return child(self.path / "features", key, "encoder name", self.path)

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
                f"{self.extract_again} for encoder {key!r}"
            )
        return stored

    def remove(self) -> None:
        """Delete the store."""
        remove(self.path)


def _values(group: Any, name: str) -> NDArray[Any]:
    """Return an array of a group; raise StoreError if it states more than the limits, before it is read."""
    array = group[name]
    if not _is_plain(array.metadata.codecs):  # a packed chunk may unpack to any size
        raise StoreError(f"{name} is compressed, expected plain bytes")
    limits.ROWS.check(max(array.shape[0], array.chunks[0]), name, StoreError)
    limits.ARRAY_BYTES.check(array.nbytes, name, StoreError)
    return np.asarray(array[:])


def _is_plain(codecs: Sequence[Any]) -> bool:
    """Return whether an array is stored as plain bytes, in shards or not."""
    return all(
        _is_plain(codec.codecs) if isinstance(codec, ShardingCodec) else isinstance(codec, BytesCodec)
        for codec in codecs
    )
