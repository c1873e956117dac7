"""Scores as Parquet files: one of all slides, and one of tiles for each slide. Digests are in the
metadata."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_mil import limits
from wsi_mil.contracts.labels import LabelScheme
from wsi_mil.contracts.record import Record, require, require_name
from wsi_mil.contracts.score_kinds import SCORE_KINDS, score_kind
from wsi_mil.contracts.scores import SlideScoreRow, SlideScores, SlideScoresHeader
from wsi_mil.errors import DataError, StoreError, WsiMilError
from wsi_mil.io.files import digest_bytes, digest_json, write_aside
from wsi_mil.io.json import json_line, parse_json
from wsi_mil.io.seals import DamagedFileError, require_digest, sealed, unsealed
from wsi_mil.logs import logger

FORMAT = 3
"""Formats 1 (detection) and 2 (other tasks) did not say which classes are positive; they are read as well."""
TWO_SCORES = 4
"""The format of tile scores of which each tile has two; of those with one, the kind gives the format."""
DETECTION_ONLY = ("probability", "threshold", "predicted")
PREDICTION_ONLY = ("prediction", "target")
META = b"wsi_mil"
VALUES = "values_digest"
"""The key of the header with the digest of all columns; the header has a digest of its own."""
AGAIN = "remove it and run `wsi-mil score`"
OF_CLASS = "p_"
"""What the column of a class begins with."""


def write_tile_scores(path: Path, scores: SlideScores) -> None:
    """Write x0_px, y0_px, score and score01 of each tile, in the order of the tile table.

    The column of score01 is called `probability` if it is one (format 1), else `score01`. Tasks
    other than detection have no such column, and the slide's prediction in the header. Where tiles have class
    probabilities, each class has a column `p_<class>`, and the header lists the classes.

    A second score has the column `score_<kind>` and, in detection, its own score01 under the name of its kind
    (format 4): a file with attention and logits has `score`, `score01`, `score_logit` and `probability`.
    """
    kind = scores.kind
    table = pa.table(
        {
            "x0_px": scores.coords[:, 0],
            "y0_px": scores.coords[:, 1],
            "score": scores.tile_scores,
            kind.column: scores.tile_scores01(),
        }
    )
    header = {
        "kind": "tile scores",
        "format_version": TWO_SCORES if scores.second_kind else kind.format_version,
        "slide_id": scores.slide_id,
        "score_kind": scores.score_kind,
        "slide_probability": scores.probability if scores.prediction is None else None,
        "class_probabilities": list(scores.class_probabilities),
        "tiles_digest": scores.tiles_digest,
        "features_digest": scores.features_digest,
        "model_digest": scores.model_digest,
        **({} if scores.prediction is None else {"prediction": scores.prediction}),
        **({"class_names": list(scores.class_names)} if scores.class_names else {}),
    }
    if scores.prediction is not None:
        table = table.drop_columns([kind.column])
    if (second := scores.second) is not None:
        header["second_kind"] = second.score_kind
        table = table.append_column(second_column(second.score_kind), pa.array(second.tile_scores))
        if scores.prediction is None:
            table = table.append_column(second.kind.column, pa.array(second.tile_scores01()))
    for name in scores.class_names:
        table = table.append_column(f"{OF_CLASS}{name}", pa.array(scores.class_scores(name)))
    _write(path, table, header)


def read_tile_scores(path: Path) -> SlideScores:
    """Return what `write_tile_scores` wrote."""
    table, header = _read_tiles(path)
    names = tuple(header.get("class_names", ()))
    second = header.get("second_kind", "")
    return SlideScores(
        slide_id=header["slide_id"],
        probability=math.nan if header["slide_probability"] is None else header["slide_probability"],
        class_probabilities=tuple(header["class_probabilities"]),
        tile_scores=table["score"].to_numpy(),
        score_kind=header["score_kind"],
        coords=np.stack([table["x0_px"].to_numpy(), table["y0_px"].to_numpy()], 1),
        tiles_digest=header["tiles_digest"],
        features_digest=header["features_digest"],
        model_digest=header["model_digest"],
        prediction=header.get("prediction"),
        class_names=names,
        tile_class_probabilities=np.stack([table[f"{OF_CLASS}{name}"].to_numpy() for name in names], 1)
        if names
        else None,
        second_scores=table[second_column(second)].to_numpy() if second else None,
        second_kind=second,
    )


def second_column(kind: str) -> str:
    """Return the name of the column of a second score.

    >>> second_column("logit")
    'score_logit'
    """
    return f"score_{kind}"


@dataclass(frozen=True)
class TileScoresHeader(Record):
    """What a file of tile scores belongs to: a slide, and the digests of its tiles, features and model.

    class_names: the classes of which each tile has a probability. second_kind: the kind of the second score
    of each tile, "" if it has one.
    """

    slide_id: str
    score_kind: str
    tiles_digest: str
    features_digest: str
    model_digest: str
    class_names: tuple[str, ...] = ()
    second_kind: str = ""

    def __post_init__(self) -> None:
        require_name(self.slide_id, "tile scores", "slide_id")
        kinds = ("", *SCORE_KINDS)
        require(self.second_kind in kinds, "tile scores", "second_kind", f"one of {kinds}", self.second_kind)
        score_kind(self.score_kind)
        names = self.class_names
        require(len(set(names)) == len(names), "tile scores", "class_names", "different names", names)


def tile_scores_header(path: Path) -> TileScoresHeader | None:
    """Return the header of a file of tile scores; None if there is no file, or a damaged one.

    The whole file is compared with its digests, once per process and state of the file.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    return _header_of_state(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=1 << 16)
def _header_of_state(path: Path, size: int, changed_ns: int, inode: int) -> TileScoresHeader | None:
    """Return the header of a file; the other arguments identify the state in which it is read."""
    try:
        _, found = _read_tiles(path)
        found["class_names"] = tuple(found.get("class_names", ()))
        found.setdefault("second_kind", "")
        return TileScoresHeader(**{field.name: found[field.name] for field in fields(TileScoresHeader)})
    except (KeyError, TypeError, WsiMilError) as error:
        logger().debug("%s: %s", path, error)
        return None


def _read_tiles(path: Path) -> tuple[Any, dict[str, Any]]:
    table, header = _read(path, "tile scores", (1, 2, 3, TWO_SCORES))
    kind = score_kind(header["score_kind"])
    if header["format_version"] != (TWO_SCORES if header.get("second_kind") else kind.format_version):
        raise StoreError(
            f"{path} is of an earlier version, whose score01 of attention was not multiplied by the slide's "
            "probability: run `wsi-mil score` again"
        )
    return table, header


def write_slide_scores(path: Path, rows: Sequence[SlideScoreRow], header: SlideScoresHeader) -> None:
    """Write one row per slide, with the fields of `SlideScoreRow` that the task has as columns.

    A file that already holds these rows is kept.
    """
    if path.exists() and _same(path, rows, header):
        return
    detection = header.task == "detection"
    left_out: tuple[str, ...] = PREDICTION_ONLY if detection else DETECTION_ONLY
    if detection and not any(row.class_probabilities for row in rows):
        left_out = (*left_out, "class_probabilities")  # of two classes they follow from the probability
    if all(row.is_positive is None for row in rows):
        left_out = (*left_out, "is_positive")
    columns = [{k: v for k, v in asdict(row).items() if k not in left_out} for row in rows]
    head = {"kind": "slide scores", "format_version": FORMAT, **asdict(header)}
    _write(path, pa.Table.from_pylist(columns), head)


def _same(path: Path, rows: Sequence[SlideScoreRow], header: SlideScoresHeader) -> bool:
    try:
        return read_slide_scores(path) == (list(rows), header)
    except StoreError as error:
        logger().warning("%s is written again: %s", path.name, error)
        return False


def read_slide_scores(path: Path) -> tuple[list[SlideScoreRow], SlideScoresHeader]:
    """Return the rows and the header that `write_slide_scores` wrote.

    Raises StoreError if there is no such file, if it is unreadable, or if a column or a value is wrong. Each
    state of a file is read once per process.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError as error:
        raise StoreError(f"no slide scores at {path}: run `wsi-mil score`") from error
    rows, header = _slide_scores_of_state(path, state.st_size, state.st_mtime_ns, state.st_ino)
    return list(rows), header


@lru_cache(maxsize=16)
def _slide_scores_of_state(
    path: Path, size: int, changed_ns: int, inode: int
) -> tuple[tuple[SlideScoreRow, ...], SlideScoresHeader]:
    """Return rows and header of a file; the other arguments identify the state in which it is read."""
    table, header = _read(path, "slide scores", (1, 2, FORMAT))
    try:
        known = {"task": "detection", "scheme": None, "second_kind": "", "not_learned": (), **header}
        known["scheme"] = LabelScheme.from_json(known["scheme"])
        known["not_learned"] = tuple(known["not_learned"])
        head = SlideScoresHeader(**{field.name: known[field.name] for field in fields(SlideScoresHeader)})
        return tuple(_row(values) for values in table.to_pylist()), head
    except (KeyError, TypeError, DataError) as error:
        raise StoreError(
            f"{path} is no valid file of slide scores ({error}): run `wsi-mil score` again"
        ) from error


def _row(values: dict[str, Any]) -> SlideScoreRow:
    for key in ("target", "class_probabilities"):
        values[key] = tuple(values.get(key) or ())
    if "prediction" not in values:
        return SlideScoreRow(**values)
    return SlideScoreRow(**values, probability=math.nan, threshold=math.nan, predicted=False)


def _write(path: Path, table: Any, header: dict[str, Any]) -> None:
    metadata = {META: json_line(sealed({**header, VALUES: _values_digest(table)}), sort=True).encode()}
    with write_aside(path) as aside:
        pq.write_table(table.replace_schema_metadata(metadata), aside, compression="zstd")


def _read(path: Path, kind: str, formats: tuple[int, ...]) -> tuple[Any, dict[str, Any]]:
    if not path.exists():
        raise StoreError(f"no {kind} at {path}: run `wsi-mil score`")
    try:
        footer = pq.read_metadata(path)
        limits.ROWS.check(footer.num_rows, str(path), StoreError)
        nbytes = sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
        limits.ARRAY_BYTES.check(nbytes, str(path), StoreError)
        table = pq.read_table(path, partitioning=None)
        header = unsealed(parse_json(table.schema.metadata[META]), path, AGAIN)
        if (expected := header.pop(VALUES, None)) is not None:  # absent in files of earlier versions
            require_digest(path, expected, _values_digest(table), AGAIN)
    except DamagedFileError:
        raise
    except Exception as error:  # pyarrow raises many kinds of errors for bytes that it cannot read
        what = f"no readable file of {kind} ({type(error).__name__}: {' '.join(str(error).split())})"
        raise DamagedFileError(path, what, AGAIN) from error
    if header.get("kind") != kind or header.get("format_version") not in formats:
        expected = " or ".join(map(str, formats))
        raise StoreError(
            f"{path} holds {header.get('kind')} of format {header.get('format_version')}, "
            f"expected {kind} of format {expected}: run `wsi-mil score` again"
        )
    return table, header


def _values_digest(table: Any) -> str:
    """Return the digest of the names and values of all columns of an Arrow table."""
    parts = []
    for name in table.column_names:
        column = table[name]
        numbers = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        plain = numbers and column.null_count == 0
        values = column.to_numpy().tobytes() if plain else digest_json(column.to_pylist()).encode()
        parts += [name.encode(), values]
    return digest_bytes(*parts)
