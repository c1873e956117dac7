"""A run that is open: its configuration, folder, slides and labels."""

from dataclasses import dataclass

from wsi_mil.bags import Split, read_labels
from wsi_mil.bags.labels import LabelTable, check_against_slides
from wsi_mil.config import RunConfig, load_config, provenance, save_config
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import ConfigError, DataError, StoreError
from wsi_mil.io.files import read_json, write_json
from wsi_mil.io.remote import Location
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import find_slides
from wsi_mil.synthetic import write_cohort


@dataclass(frozen=True)
class RunContext:
    """A run with its slides and labels at hand."""

    config: RunConfig
    run: RunFolder
    slides: tuple[SlideSource, ...]
    labels: LabelTable | None

    @property
    def slide_ids(self) -> list[str]:
        return [source.slide_id for source in self.slides]

    def require_labels(self) -> LabelTable:
        if self.labels is None:
            raise DataError(
                "training and evaluation need labels: give slides.labels=PATH (a CSV with slide,label)"
            )
        return self.labels


def open_run(config: RunConfig, guest: bool = False) -> RunContext:
    """Return the run of a configuration: folder checked, cohort made if asked, slides found, labels read.

    A `guest` (poison, audit) leaves the configuration of a run that exists as it is, and may not ask for other slides, tiles or features.
    """
    _refuse_unknown_names(config)
    run = RunFolder(config.run)
    saved = config.run / "config.yaml"
    if guest and saved.exists():
        _refuse_other_features(config, load_config(saved))
    if config.synthetic is not None and config.slides.folder is None:
        write_cohort(config.run / "cohort", config.synthetic, config.execution)
    labels = None
    if config.labels_path is not None:
        labels = read_labels(config.labels_path, config.slides.class_names)
    sources = tuple(
        SlideSource(slide_id, path, (labels.mpp_of(slide_id) if labels else None) or config.slides.mpp)
        for slide_id, path in _slide_files(run, config).items()
    )
    if not (guest and saved.exists()):
        _write_provenance(run, config)
        save_config(config, saved)
    context = RunContext(config, run, sources, labels)
    _account_for_labels(context)
    return context


def _slide_files(run: RunFolder, config: RunConfig) -> dict[str, Location | None]:
    """Slide id -> file. Of imported features the stores say which slides there are, and a slide's file may be elsewhere."""
    if config.imported and config.slides.folder is None:
        files = []
    else:
        files = find_slides(config.slide_folder)
        if not files:
            raise DataError(
                f"no slide below {config.slide_folder}: expected files such as .svs, .tiff, .ndpi, .mrxs"
            )
    paths: dict[str, Location | None] = {file.slide_id: file.path for file in files}
    if config.imported:
        paths = {slide_id: paths.get(slide_id) for slide_id in run.stored_slides()}
        if not paths:
            raise DataError(f"{run.path} holds no imported features: run `wsi-mil import` again")
    return paths


def _refuse_unknown_names(config: RunConfig) -> None:
    """A name that does not exist is told now, not after hours of extraction."""
    from wsi_mil.aggregators.names import AGGREGATORS
    from wsi_mil.encoders.names import check_encoder
    from wsi_mil.encoders.published import refuse_other_scale
    from wsi_mil.slides.opening import check_reader

    if config.slides.reader != "auto":
        check_reader(config.slides.reader)
    check_encoder(config.encoder.name)
    refuse_other_scale(config.encoder, config.tiles)
    for name in config.models:
        _ = AGGREGATORS[config.train_spec(name).aggregator or name]


def _refuse_other_features(config: RunConfig, saved: RunConfig) -> None:
    for block in ("tissue", "tiles", "encoder"):
        if getattr(config, block) != getattr(saved, block):
            raise ConfigError(
                f"{block}: {saved.run} was made with other settings, and its features are to stay as they are: leave `{block}` out, or "
                "give another run folder (run=PATH)"
            )
    if config.slides.folder != saved.slides.folder:
        raise ConfigError(
            f"slides.folder: {saved.run} holds the slides of {saved.slides.folder}: give another run folder (run=PATH)"
        )


def _write_provenance(run: RunFolder, config: RunConfig) -> None:
    path, value = run.path / "provenance.json", provenance(config)
    if not path.exists() or read_json(path) != value:
        write_json(path, value)


def _account_for_labels(context: RunContext) -> None:
    """Every label without slide and every slide without label becomes a row of the outcomes."""
    labels, run = context.labels, context.run
    run.ledger.keep_only({*context.slide_ids, *(labels.rows if labels else ())})
    if labels is None or context.config.labels_path is None:
        return
    without_slide, without_label = check_against_slides(
        labels, set(context.slide_ids), context.config.labels_path
    )
    for row in run.ledger.rows("labels"):
        if row.slide_id not in without_slide and row.slide_id not in without_label:
            run.ledger.forget(row.slide_id, "labels")
    for slide_id in without_slide:
        reason = f"label without slide: no file of this id below {context.config.slide_folder}"
        run.ledger.put(Outcome(slide_id, "labels", "failed", reason))
    for slide_id in without_label:
        run.ledger.put(
            Outcome(slide_id, "labels", "skipped", "slide without label: scored, but not trained on")
        )
    run.ledger.save()


def saved_split(context: RunContext) -> Split:
    if not context.run.split.exists():
        raise StoreError(f"no split at {context.run.split}: run `wsi-mil train` first")
    return Split.load(context.run.split)


@dataclass(frozen=True)
class RunSummary:
    """What a call did: pieces of work per stage, and the slides that failed or were skipped."""

    work: dict[str, int]
    problems: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        return [row for row in self.problems if row.status == "failed"]
