"""The slides of an audit of sites: labels, means of features, and samples of tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_mil.bags import LabelTable
from wsi_mil.contracts.labels import SlideLabel
from wsi_mil.errors import DataError
from wsi_mil.logs import progress
from wsi_mil.randomness import named_generator
from wsi_mil.run.context import RunContext
from wsi_mil.run.slide_outlines import outlined_shares, read_outlines

MOST_TILES = 10_000
MOST_TILES_A_SLIDE = 50


@dataclass(frozen=True)
class SiteSlides:
    """The labelled slides of known centre that have features, in order of their ids.

    means (n, D): of each slide's readable tiles. tiles: of each slide a random sample (m, D). without_centre:
    labelled slides with features whose centre is not known.
    """

    labels: tuple[SlideLabel, ...]
    positive: NDArray[np.bool_]
    means: NDArray[np.float64]
    tiles: tuple[NDArray[np.float32], ...]
    tiles_a_slide: int
    without_centre: int

    def columns(self, rows: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return the centre and the patient of some slides."""
        return [self.labels[row].centre for row in rows], [self.labels[row].patient for row in rows]


def read_site_slides(context: RunContext) -> SiteSlides:
    """Return the slides of a run that the audit uses. Raises DataError if centres or features are missing."""
    labels, key = context.require_labels(), context.config.encoder.key
    with_features = [
        row
        for slide_id, row in sorted(labels.rows.items())
        if row.target is not None
        and (stored := context.run.store(slide_id).stored_features(key)) is not None
        and stored.readable_rows > 0
    ]
    if not with_features:
        raise DataError(
            f"no labelled slide has {key} features in {context.run.path}: run `wsi-mil extract` first"
        )
    rows = [row for row in with_features if row.centre]
    _require_centres(rows, context)
    most = max(min(MOST_TILES_A_SLIDE, MOST_TILES // len(rows)), 1)
    means, tiles = [], []
    for row in progress(rows, total=len(rows), label="audit"):
        features = context.run.store(row.slide_id).read_features(key)
        values = features.features[features.readable]
        rng = named_generator(context.config.evaluation.seed, "site tiles", row.slide_id)
        means.append(values.mean(0, dtype=np.float64))
        chosen = np.sort(rng.permutation(len(values))[:most])
        tiles.append(values[chosen].astype(np.float32))
    positive = np.array([_is_positive(labels, row) for row in rows], bool)
    left_out = len(with_features) - len(rows)
    return SiteSlides(tuple(rows), positive, np.stack(means), tuple(tiles), most, left_out)


def _is_positive(labels: LabelTable, row: SlideLabel) -> bool:
    return labels.scheme is not None and row.label is not None and labels.scheme.is_positive(row.label)


def _require_centres(rows: Sequence[SlideLabel], context: RunContext) -> None:
    """Raise DataError unless there are two centres."""
    where = context.config.labels_path
    centres = sorted({row.centre for row in rows})
    if not centres:
        raise DataError(
            f"{where} says no centre of any slide: add a column `centre`, or name yours with "
            "slides.columns.centre=COLUMN"
        )
    if len(centres) == 1:
        raise DataError(
            f"{where}: all {len(rows)} slides are of centre {centres[0]!r}, an audit of sites needs at least "
            "two"
        )


def tumour_tiles(context: RunContext, slides: SiteSlides) -> tuple[NDArray[np.float32], ...]:
    """Return a sample of the tumour tiles (m, D) of each slide; none where lesions are not outlined.

    A tile is tumour if at least `evaluation.patch_overlap` of it lies on a lesion. Worker processes read the
    outlines.
    """
    config, none = context.config, np.zeros((0, slides.means.shape[1]), np.float32)
    if config.annotations is None:
        return (none,) * len(slides.labels)
    positive = [row.slide_id for row, is_one in zip(slides.labels, slides.positive, strict=True) if is_one]
    shares = read_outlines(
        outlined_shares,
        context.run,
        config.annotations.files(positive),
        config.annotations.rules,
        stage="audit",
        used_for="the tumour tiles of the robustness index",
        execution=config.execution,
    )
    found = []
    for row in slides.labels:
        if row.slide_id not in shares:
            found.append(none)
            continue
        features = context.run.store(row.slide_id).read_features(config.encoder.key)
        known = features.readable & (shares[row.slide_id] >= config.evaluation.patch_overlap)
        rng = named_generator(config.evaluation.seed, "tumour tiles", row.slide_id)
        chosen = np.sort(rng.permutation(np.flatnonzero(known))[: slides.tiles_a_slide])
        found.append(features.features[chosen].astype(np.float32))
    return tuple(found)
