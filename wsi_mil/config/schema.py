"""The configuration of a run: one block for the settings of each stage, which are defined beside the
stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, field_validator

from wsi_mil.bags.labels import LabelSource
from wsi_mil.bags.splits import SplitSpec
from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.spec import Spec
from wsi_mil.contracts.tiles import TileSpec
from wsi_mil.encoders.spec import EncoderSpec
from wsi_mil.errors import ConfigError, DataError, nearest
from wsi_mil.evaluation.annotations import AnnotationFolder
from wsi_mil.evaluation.annotations.vocabulary import check_patterns
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.execution import ExecutionSpec
from wsi_mil.heatmaps.spec import HeatmapSpec
from wsi_mil.io.remote import Location, as_location
from wsi_mil.paths import problem_of
from wsi_mil.refine.spec import RefineSpec
from wsi_mil.robustness.poison.spec import PoisonSpec
from wsi_mil.synthetic.cohort import SynthSpec
from wsi_mil.tasks.spec import TaskSpec
from wsi_mil.tissue import TissueSpec
from wsi_mil.training.spec import TrainSpec
from wsi_mil.trust import is_reference


def _location(value: object) -> Location:
    if not isinstance(value, str | Path):
        raise ValueError("expected a path or a URL")
    return as_location(value) if isinstance(value, str) else value


PathOrUrl = Annotated[Location, PlainValidator(_location), PlainSerializer(str, when_used="json")]


class SlidesConfig(Spec):
    """Where the slides, their labels and their outlines are.

    `folder`: a path, or a URL that fsspec reads (s3://, gs://, ...). The id of a slide is its path below
    `folder` without the ending. `annotations`: a folder of <id>.xml (ASAP, ImageScope), <id>.ndpa (NDP.view),
    <id>.geojson (QuPath) or <id>.tif (mask), for evaluation only.
    """

    folder: PathOrUrl | None = None
    labels: Path | None = None
    annotations: Path | None = None
    reader: str = "auto"
    mpp: float | None = Field(
        default=None, gt=0, description="µm/px for slides that do not state theirs, or state it wrongly"
    )
    slide_table: Path | None = Field(
        default=None,
        description="table of the slides of each patient, where `labels` has one row for each patient",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="columns of the label table whose names do not say what they hold, such as "
        "{patient: mother, slide: scan}",
    )
    class_names: tuple[str, ...] | None = Field(
        default=None, description="the classes in the order of their numbers; by default they are sorted"
    )
    positive: tuple[str, ...] | None = Field(
        default=None,
        description="the positive (tumour) classes, for labels that known words such as tumor and normal do "
        "not decide",
    )

    lesion_classes: tuple[str, ...] = Field(
        default=(),
        description="classes of outlines that are lesions, besides the known ones: names or patterns "
        "(`*`, `?`); `none`: outlines without a class",
    )

    @field_validator("positive", "class_names", mode="before")
    @classmethod
    def _as_words(cls, value: object) -> object:
        """Return one name as a list of one, and numbers as text: `positive: 1` is the class 1."""
        if value is None or isinstance(value, dict):
            return value
        if isinstance(value, bool):
            raise ValueError(f"{value} is YAML's word for true or false: put the name of the class in quotes")
        names = list(value) if isinstance(value, list | tuple) else [value]
        return [str(name) if isinstance(name, int | float) else name for name in names]

    @field_validator("lesion_classes")
    @classmethod
    def _check_lesion_classes(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        try:
            check_patterns(patterns)
        except DataError as error:
            raise ValueError(str(error)) from error
        return patterns


class RunConfig(Spec):
    """The settings of one run: from slides to report, in the folder `run`."""

    run: Path
    seed: int = Field(
        default=0,
        ge=0,
        description="seed of split, training and bootstrap, for blocks that do not set their own",
    )
    slides: SlidesConfig = SlidesConfig()
    task: TaskSpec = TaskSpec()
    synthetic: SynthSpec | None = Field(
        default=None, description="make this cohort if slides.folder is not given"
    )
    tissue: TissueSpec = TissueSpec()
    tiles: TileSpec = TileSpec()
    encoder: EncoderSpec = EncoderSpec()
    split: SplitSpec = SplitSpec()
    train: TrainSpec = Field(default=TrainSpec(), description="settings that all models share")
    models: dict[str, dict[str, Any]] = Field(
        default={"focus_mil": {}},
        min_length=1,
        description="model name -> the settings that differ from `train`",
    )
    heatmaps: HeatmapSpec = HeatmapSpec()
    refine: RefineSpec = RefineSpec()
    qupath: QuPathSpec = QuPathSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    poison: PoisonSpec = PoisonSpec()
    execution: ExecutionSpec = ExecutionSpec()

    @field_validator("models")
    @classmethod
    def _names_are_file_names(cls, models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in models:
            problem = problem_of(name) or ("holds '/'" if "/" in name else "")
            if problem:
                raise ValueError(f"the model name {name!r} {problem}: expected a name for its folder")
        return models

    @field_validator("encoder")
    @classmethod
    def _refuse_a_single_view(cls, encoder: EncoderSpec) -> EncoderSpec:
        if encoder.view:
            raise ValueError(
                f"view={encoder.view} is set by the program: give encoder.views=N and leave `view` out"
            )
        return encoder

    def train_spec(self, name: str) -> TrainSpec:
        """Return the settings of one model: `train` with the model's own on top."""
        own = self.models[name]
        known = list(TrainSpec.model_fields)
        for key in own:
            if key not in known:
                raise ConfigError(f"unknown key 'models.{name}.{key}'. Nearest: {nearest(key, known)}")
        merged = {**self.train.model_dump(), **own}
        merged["aggregator"] = merged["aggregator"] or name
        return TrainSpec(**merged)

    @property
    def slide_folder(self) -> Location:
        """Where the slides are. Raises ConfigError if neither slides nor a synthetic cohort are given."""
        if self.slides.folder is not None:
            return self.slides.folder
        if self.synthetic is not None:
            return self.run / "cohort" / "slides"
        raise ConfigError("no slides: give slides.folder=PATH (or a `synthetic` block to make some)")

    @property
    def imported(self) -> bool:
        """Whether features come from another tool (`wsi-mil import`): no stage tiles or extracts, and slides
        may be absent."""
        return self.encoder.name.startswith("imported:")

    @property
    def label_source(self) -> LabelSource | None:
        """Where the labels are, and what `slides` says of them; None if there are none."""
        if self.labels_path is None:
            return None
        slides = self.slides
        return LabelSource(
            self.labels_path, slides.class_names, slides.positive, slides.columns, slides.slide_table
        )

    @property
    def labels_path(self) -> Path | None:
        """The labels CSV; None if there is none."""
        made = self.slides.folder is None and self.synthetic is not None
        return self.slides.labels or (self.run / "cohort" / "labels.csv" if made else None)

    @property
    def annotations(self) -> AnnotationFolder | None:
        """The folder of outlines; None if there is none."""
        made = self.slides.folder is None and self.synthetic is not None
        folder = self.slides.annotations or (self.run / "cohort" / "annotations" if made else None)
        return AnnotationFolder(folder, self.qupath.bounds, self.slides.lesion_classes) if folder else None


def with_aggregators(config: RunConfig, patterns: Sequence[str]) -> RunConfig:
    """Return `config` with one model per aggregator that matches a pattern (see `matching_aggregators`).

    Settings of a name that `models` already has are kept. A model of package.module:Class is called Class,
    since the name becomes a folder. Without patterns, `config` is returned unchanged.
    """
    from wsi_mil.aggregators.names import matching_aggregators

    models = {}
    for name in matching_aggregators(patterns):
        own = {"aggregator": name} if is_reference(name) else {}
        key = name.partition(":")[2] if is_reference(name) else name
        models[key] = {**config.models.get(key, {}), **own}
    return config.model_copy(update={"models": models}) if models else config
