"""The context that every stage works on: configuration, run folder, slides and labels."""

from dataclasses import dataclass
from functools import cached_property

from wsi_mil.bags import Split
from wsi_mil.bags.labels import LabelTable, check_against_slides, read_label_source
from wsi_mil.config import RunConfig, load_config, save_config, write_provenance
from wsi_mil.config.validation import refuse_other_features, refuse_unknown_names
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.errors import DataError, StoreError
from wsi_mil.io.remote import Location
from wsi_mil.logs import logger
from wsi_mil.paths import input_below
from wsi_mil.run.encoder_choice import chosen_encoder, kept_encoder
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import find_slides
from wsi_mil.synthetic import write_cohort


@dataclass(frozen=True)
class RunContext:
    """An open run. `labels` is None if the run has no labels."""

    config: RunConfig
    run: RunFolder
    slides: tuple[SlideSource, ...]
    labels: LabelTable | None

    @property
    def slide_ids(self) -> list[str]:
        """The ids of the slides, in the order of `slides`."""
        return [source.slide_id for source in self.slides]

    @cached_property
    def sources(self) -> dict[str, SlideSource]:
        """The slides by id."""
        return {source.slide_id: source for source in self.slides}

    def source_of(self, slide_id: str) -> SlideSource:
        """Return a slide that was scored. Of one that has left the folder of slides since, the path lies in
        this folder and has no suffix: a stage that reads it fails it by name, and does the others."""
        if slide_id in self.sources or self.config.imported:
            return self.sources.get(slide_id) or SlideSource(slide_id, None, None)
        folder = self.config.slide_folder
        path = f"{folder}/{slide_id}" if isinstance(folder, str) else input_below(folder, slide_id)
        return SlideSource(slide_id, path, None)

    def empty_labelled(self) -> list[Outcome]:
        """Return the outcomes of the slides that have a label but no tile."""
        labelled = self.labels.rows if self.labels else {}
        return [
            row for row in self.run.ledger.rows("tile") if row.status == "empty" and row.slide_id in labelled
        ]

    def labelled_slides(self) -> int:
        """Return how many slides have a label."""
        return len(set(self.slide_ids) & set(self.labels.rows)) if self.labels else 0

    def require_labels(self) -> LabelTable:
        """Return the labels. Raises DataError if the run has none."""
        if self.labels is None:
            raise DataError(
                "training and evaluation need labels: give slides.labels=PATH (a CSV with slide,label)"
            )
        return self.labels

    def require_split(self) -> Split:
        """Return the split that training saved. Raises StoreError if there is none."""
        if not self.run.split.exists():
            raise StoreError(f"no split at {self.run.split}: run `wsi-mil train` first")
        return Split.load(self.run.split)


def open_run(config: RunConfig, keep_configuration: bool = False, extracts: bool = False) -> RunContext:
    """Return the context of a run: check its folder, make its synthetic cohort, find its slides, read its
    labels.

    `config` is saved as the configuration of the run folder. With `keep_configuration` (poison, audit) an
    existing run keeps the saved one, and ConfigError is raised if `config` asks for other slides, tiles or
    features. Where `encoder` says auto, the context has the values that the run began with. `extracts`:
    features will be computed, so values are chosen where the run has none yet.
    """
    refuse_unknown_names(config)
    run, asked = RunFolder(config.run), config.encoder
    config = config.model_copy(update={"encoder": kept_encoder(asked, run)})
    saved = config.run / "config.yaml"
    keep = keep_configuration and saved.exists()
    if keep:
        before = load_config(saved)
        encoder = kept_encoder(before.encoder, run)
        refuse_other_features(config, before.model_copy(update={"encoder": encoder}))
    if config.synthetic is not None and config.slides.folder is None:
        write_cohort(config.run / "cohort", config.synthetic, config.execution)
    labels = None
    if (source := config.label_source) is not None:
        labels = read_label_source(source, config.task)
        logger().info("%s", labels.line)
    sources = tuple(
        SlideSource(slide_id, path, (labels.mpp_of(slide_id) if labels else None) or config.slides.mpp)
        for slide_id, path in _slide_files(run, config).items()
    )
    if extracts and not config.imported:
        encoder = chosen_encoder(config.encoder, asked, config.execution)
        config = config.model_copy(update={"encoder": encoder})
    if not keep:
        write_provenance(config.run, config)
        save_config(config, saved)
    context = RunContext(config, run, sources, labels)
    _record_unmatched_labels(context)
    return context


def _slide_files(run: RunFolder, config: RunConfig) -> dict[str, Location | None]:
    """Return slide id -> file. A run with imported features has the slides of its stores; their files may be
    absent."""
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


def _record_unmatched_labels(context: RunContext) -> None:
    """Write an outcome for every label without slide and for every slide without label."""
    labels, run = context.labels, context.run
    run.ledger.keep_only({*context.slide_ids, *(labels.rows if labels else ())})
    if labels is None or context.config.labels_path is None:
        return
    without_slide, without_label = check_against_slides(
        labels, set(context.slide_ids), context.config.labels_path
    )
    for row in run.ledger.rows("labels"):
        if row.slide_id not in without_slide and row.slide_id not in without_label:
            run.ledger.remove(row.slide_id, "labels")
    for slide_id in without_slide:
        reason = f"label without slide: no file of this id below {context.config.slide_folder}"
        run.ledger.put(Outcome(slide_id, "labels", "failed", reason))
    for slide_id in without_label:
        reason = "slide without label: scored, but not trained on"
        run.ledger.put(Outcome(slide_id, "labels", "skipped", reason))
    run.ledger.save()


@dataclass(frozen=True)
class RunSummary:
    """What a call did: stage -> how many slides or models needed work, and the outcomes that failed or were
    skipped. empty_labelled: how many of the `labelled` slides have no tile."""

    work: dict[str, int]
    problems: list[Outcome]
    empty_labelled: int = 0
    labelled: int = 0

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes that failed."""
        return [row for row in self.problems if row.status == "failed"]
