"""wsi-mil check RUN: whether the stores of a run are complete, and whether their bytes match their
digests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.execution.guard import reason_of
from wsi_mil.features import SlideStore
from wsi_mil.io.tables import text_table
from wsi_mil.logs import logger
from wsi_mil.run.folder import RunFolder
from wsi_mil.tissue.files import is_edited


@dataclass(frozen=True)
class StoreRow:
    """What the store of one slide holds. `problem`: what is wrong with it and what to do, "" if nothing
    is. `networks`: key, precision and backend of each network that made features."""

    slide_id: str
    tiles: int = 0
    features: tuple[str, ...] = ()
    problem: str = ""
    networks: tuple[str, ...] = ()


def is_run(path: Path) -> bool:
    """Return whether a folder is a run folder."""
    return (path / "provenance.json").exists()


def check_store(store: SlideStore, deep: bool) -> StoreRow:
    """Read a store as training would. `deep`: every byte of its features is read and compared with its
    digest."""
    features: list[str] = []
    networks: list[str] = []
    tiles = 0
    try:
        table = store.read_tiles()
        tiles = len(table)
        keys = store.encoders()
        folder = store.path / "features"
        broken = (
            [p.name for p in folder.iterdir() if p.is_dir() and p.name not in keys] if folder.is_dir() else []
        )
        if broken:
            return StoreRow(
                store.slide_id,
                tiles,
                (),
                f"features {', '.join(sorted(broken))} are not complete: run `wsi-mil extract`",
            )
        for key in keys:
            stored = store.stored_features(key)
            if stored is None:
                continue
            unreadable = f", {stored.unreadable_rows} unreadable" if stored.unreadable_rows else ""
            features.append(f"{key} ({stored.rows}{unreadable})")
            if (precision := stored.origin.encoder.get("precision")) is not None:
                networks.append(f"{key}: {precision}, {stored.origin.encoder.get('backend', 'torch')}")
            if stored.tiles_digest != table.digest():
                return StoreRow(
                    store.slide_id,
                    tiles,
                    tuple(features),
                    f"features {key} are of other tiles: run `wsi-mil extract`",
                )
            if deep:
                store.read_features(key)
    except WsiMilError as error:
        logger().debug("%s", store.path, exc_info=True)
        return StoreRow(store.slide_id, tiles, tuple(features), str(error))
    except Exception as error:  # Zarr raises many kinds of errors for bytes that it cannot read
        logger().debug("%s", store.path, exc_info=True)
        remedy = f"remove {store.path}, then run `wsi-mil tile` and `wsi-mil extract`"
        return StoreRow(
            store.slide_id, tiles, tuple(features), f"cannot be read ({reason_of(error)}): {remedy}"
        )
    return StoreRow(store.slide_id, tiles, tuple(features), networks=tuple(networks))


def network_lines(rows: Sequence[StoreRow]) -> list[str]:
    """Return one line for each network, precision and backend, with the number of slides, sorted.

    >>> network_lines([StoreRow("a", networks=("uni: bf16, torch",)), StoreRow("b")])
    ['features uni: bf16, torch (slides: 1)']
    """
    counts = Counter(network for row in rows for network in row.networks)
    return [f"features {network} (slides: {count})" for network, count in sorted(counts.items())]


def stores_of(path: Path) -> list[SlideStore]:
    """Return the stores of a run, sorted by slide. Raises StoreError for a folder of another version."""
    run = RunFolder(path)
    return [run.store(slide_id) for slide_id in run.stored_slides()]


def edited_outlines(path: Path) -> list[str]:
    """Return the slides of a run whose tissue outline a person drew or changed: `wsi-mil tile` uses it.

    An outline that cannot be read is left to `check_files`, which names it.
    """
    run, found = RunFolder(path), []
    for slide_id in run.stored_slides():
        try:
            if is_edited(run.tissue(slide_id)):
                found.append(slide_id)
        except DataError:
            logger().debug("%s", run.tissue(slide_id), exc_info=True)
    return found


def store_table(rows: Sequence[StoreRow]) -> str:
    """Return the rows as aligned text, problems last."""
    header = ("slide", "tiles", "features", "problem")
    cells = [header] + [
        (row.slide_id, str(row.tiles), ", ".join(row.features) or "-", row.problem or "-") for row in rows
    ]
    return text_table(cells)
