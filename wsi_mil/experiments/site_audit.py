"""The audit of sites: how labels, features and models of a run depend on the centre. Nothing is trained."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_mil.config import RunConfig
from wsi_mil.config.validation import require_detection
from wsi_mil.errors import ConfigError, DataError, nearest
from wsi_mil.experiments.site_slides import SiteSlides, read_site_slides, tumour_tiles
from wsi_mil.io.files import write_text
from wsi_mil.io.json import write_json
from wsi_mil.logs import logger
from wsi_mil.randomness import named_generator
from wsi_mil.report.sites_page import render_site_audit
from wsi_mil.robustness.audit.audit_file import refuse_other_audit
from wsi_mil.robustness.sites.index import RobustnessIndex, robustness_index
from wsi_mil.robustness.sites.performance import ModelSites, model_by_centre
from wsi_mil.robustness.sites.probe import Probe, probe_centres
from wsi_mil.robustness.sites.results import KIND, Sampling, SiteAudit
from wsi_mil.robustness.sites.tie import label_tie
from wsi_mil.run.context import RunContext, open_run
from wsi_mil.run.lock import locked
from wsi_mil.scoring import read_slide_scores


def run_site_audit(config: RunConfig, models: Sequence[str] = (), out: Path | None = None) -> SiteAudit:
    """Audit a run by the centres of its labels; write sites.json and sites.html into RUN/sites, or audit.json
    and audit.html into `out`.

    models: whose slide AUC is given by centre; () for all that have scores. Raises ConfigError for an unknown
    model, DataError without a centre column, with one centre only, or without features.
    """
    require_detection(config, "audit --sites")
    if out is not None:
        refuse_other_audit(out, KIND, ("audit.html",))
    with locked(config.run):
        context = open_run(config, keep_configuration=True)
        names = _models(context, models)
        slides = read_site_slides(context)
        seed, draws = config.evaluation.seed, config.evaluation.bootstrap
        centres, patients = slides.columns(range(len(slides.labels)))
        found = SiteAudit(
            config.encoder.key,
            label_tie(centres, slides.positive, patients, named_generator(seed, "sites", "permutations")),
            _probes(slides, seed, draws),
            _indices(slides, tumour_tiles(context, slides), seed, draws),
            tuple(_by_centre(context, name) for name in names),
            Sampling(seed, len(slides.tiles), sum(map(len, slides.tiles)), slides.tiles_a_slide),
            slides.without_centre,
        )
        for name in found.probes[0].left_out:
            logger().warning("audit: centre %s has one patient: features cannot be tested on it", name)
        if out is not None:
            write_json(out / "audit.json", found.as_json())
            write_text(out / "audit.html", render_site_audit(found))
        else:
            write_json(context.run.sites / "sites.json", found.as_json())
            write_text(context.run.sites / "sites.html", render_site_audit(found))
        return found


def _models(context: RunContext, asked: Sequence[str]) -> list[str]:
    """Return the models to audit: those asked for, else those with scores."""
    known = list(context.config.models)
    for name in asked:
        if name not in known:
            raise ConfigError(f"the run has no model {name!r}. Nearest: {nearest(name, known)}")
        if not context.run.slide_scores(name).exists():
            raise DataError(f"model {name!r} of {context.run.path} has no scores: run `wsi-mil score` first")
    return list(asked) or [name for name in known if context.run.slide_scores(name).exists()]


def _probes(slides: SiteSlides, seed: int, draws: int) -> tuple[Probe, ...]:
    """Return the probes of slide means and of tiles, of all slides and of negative slides."""
    everything = range(len(slides.labels))
    negative = [int(row) for row in np.flatnonzero(~slides.positive)]
    found = []
    for what, rows in (("all slides", everything), ("negative slides", negative)):
        centres, patients = slides.columns(rows)
        name = f"slide means, {what}"
        rng = named_generator(seed, "site probe", name)
        found.append(probe_centres(name, slides.means[list(rows)], centres, patients, rng, draws))
    for what, rows in (("all slides", everything), ("negative slides", negative)):
        name = f"tiles, {what}"
        values, owners = _tiles_of(slides, rows)
        centres, patients = slides.columns(owners)
        rng = named_generator(seed, "site probe", name)
        found.append(probe_centres(name, values, centres, patients, rng, draws))
    return tuple(found)


def _tiles_of(slides: SiteSlides, rows: Sequence[int]) -> tuple[NDArray[np.float32], list[int]]:
    """Return the sampled tiles (m, D) of some slides, and the slide of each (m,)."""
    parts = [slides.tiles[row] for row in rows]
    owners = [row for row, part in zip(rows, parts, strict=True) for _ in part]
    return np.concatenate(parts) if parts else np.zeros((0, slides.means.shape[1]), np.float32), owners


def _indices(
    slides: SiteSlides, tumour: Sequence[NDArray[np.float32]], seed: int, draws: int
) -> tuple[RobustnessIndex, ...]:
    """Return the index of slide means (of two classes of slides), and of tiles: tumour tiles, and tiles of
    negative slides."""
    centres, patients = slides.columns(range(len(slides.labels)))
    classes = slides.positive.astype(int).tolist()
    rng = named_generator(seed, "robustness index", "slides")
    of_slides = robustness_index("slide means", slides.means, classes, centres, patients, rng, draws)
    what = "tiles, tumour and normal"
    if not any(map(len, tumour)):
        return of_slides, RobustnessIndex(what, reason="the outlines of the lesions are not known")
    parts = [tumour[row] if positive else slides.tiles[row] for row, positive in enumerate(slides.positive)]
    owners = [row for row, part in enumerate(parts) for _ in part]
    centres, patients = slides.columns(owners)
    classes = slides.positive[owners].astype(int).tolist()
    rng = named_generator(seed, "robustness index", "tiles")
    values = np.concatenate(parts)
    return of_slides, robustness_index(what, values, classes, centres, patients, rng, draws)


def _by_centre(context: RunContext, name: str) -> ModelSites:
    """Return a model's AUC by centre on its labelled test slides."""
    rows = [
        row
        for row in read_slide_scores(context.run.slide_scores(name))[0]
        if row.part == "test" and row.label is not None
    ]
    centre_of = {slide_id: row.centre for slide_id, row in context.require_labels().rows.items()}
    rows = [row for row in rows if centre_of.get(row.slide_id)]
    if not rows:
        raise DataError(
            f"no test slide of model {name!r} has a label, a score and a centre: see outcomes.csv"
        )
    return model_by_centre(
        name,
        tuple(sorted({row.model_digest for row in rows})),
        np.array([row.positive for row in rows], bool),
        np.array([row.probability for row in rows], np.float64),
        [centre_of[row.slide_id] for row in rows],
        [row.patient for row in rows],
        context.config.evaluation.seed,
        context.config.evaluation.bootstrap,
    )
