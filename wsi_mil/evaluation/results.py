"""The results of an evaluation as frozen records. `metrics_file` writes them to metrics.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsi_mil.contracts.labels import LabelScheme, TaskKind
from wsi_mil.contracts.metric import Metric
from wsi_mil.evaluation.delong import AucEstimate
from wsi_mil.evaluation.table import Level, MetricEntry

Metrics = Mapping[str, Metric]
"""The metrics of one level, by name."""


@dataclass(frozen=True)
class Confusion:
    """Numbers of slides: tp called positive and positive, fp called positive and negative, and so on."""

    tp: int
    fp: int
    fn: int
    tn: int


@dataclass(frozen=True)
class CalibrationBin:
    """The slides whose probability lies in [start, stop).

    low, high: the 95 % Wilson interval of `fraction_positive`.
    """

    start: float
    stop: float
    slides: int
    mean_probability: float
    fraction_positive: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """How well slide probabilities agree with the fractions of positive slides.

    brier_of_fraction: the Brier score of a model that gives every slide the fraction of positive slides; a
    useful model has a smaller one. expected_error: the mean over slides of the distance between mean
    probability and fraction of positive slides in their bin. bins: those that hold slides.
    """

    brier_of_fraction: float
    expected_error: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True)
class FoldSpread:
    """The AUC of every fold, NaN if undefined; mean and standard deviation (n - 1) of the defined ones."""

    auc: tuple[float, ...]
    mean: float
    std: float


@dataclass(frozen=True)
class SlideResult:
    """Slide level, over all test slides together.

    thresholds: (fold, threshold) pairs. delong: the AUC with its analytic variance; None where
    `delong_reason` says why.
    folds: with several folds only.
    """

    metrics: Metrics
    n: int
    n_positive: int
    confusion: Confusion
    calibration: Calibration
    thresholds: tuple[tuple[int, float], ...]
    delong: AucEstimate | None = None
    delong_reason: str = ""
    folds: FoldSpread | None = None


@dataclass(frozen=True)
class PredictionResult:
    """Slide level of tasks other than detection, over all test slides together."""

    metrics: Metrics
    n: int


@dataclass(frozen=True)
class ClassResult:
    """One class against all others. n: slides of the class. metrics: of the class's probability, by name."""

    name: str
    n: int
    metrics: Metrics


@dataclass(frozen=True)
class ClassesResult:
    """Slide level by class.

    metrics: of all classes together: macro AUC, accuracy and balanced accuracy of the most probable class.
    confusion[i][j]: number of slides of class i whose most probable class is j.
    """

    metrics: Metrics
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class WithinSlides:
    """The mean over slides of a metric within each slide, over the `n_slides` slides where it is defined."""

    mean: float
    n_slides: int


@dataclass(frozen=True)
class PatchFacts:
    """What the patch metrics were computed from.

    truth: the rule by which a tile counts as tumour. called: the rule by which a tile is called tumour.
    score_kind: what the tile scores are, such as attention.
    """

    n_slides: int
    n_tiles: int
    n_positive: int
    per_slide: Mapping[str, WithinSlides]
    truth: str
    called: str
    slides_without_annotation: tuple[str, ...]
    folds: FoldSpread | None = None
    score_kind: str = "probability"


@dataclass(frozen=True)
class PatchResult:
    """Patch level. Without annotations `facts` is None and all metrics are undefined."""

    metrics: Metrics
    facts: PatchFacts | None = None

    @property
    def score_kind(self) -> str:
        """What the tile scores are; "" without annotations."""
        return self.facts.score_kind if self.facts is not None else ""

    def within_slides(self, entry: MetricEntry) -> WithinSlides | None:
        """Return the mean of a patch metric within each slide; None if it is not known."""
        return None if self.facts is None else self.facts.per_slide.get(entry.within_slide or entry.name)


@dataclass(frozen=True)
class SizeClass:
    """The counted lesions of one class of length, and how many reached their slide's threshold."""

    size: str
    lesions: int
    found: int


@dataclass(frozen=True)
class FrocFacts:
    """What the lesion metrics were computed from, and the sensitivity at each number of false positives per
    slide.

    mask_mpp: µm per pixel of the evaluation mask; None if lesions are polygons. detections: how they were
    made.
    """

    sensitivity_at: Mapping[str, float]
    n_lesions: int
    n_slides: int
    by_size: tuple[SizeClass, ...]
    false_positives_at_threshold: int
    mode: str
    lesions: str
    mask_mpp: float | None
    isolated_below_um: float
    detections: str


@dataclass(frozen=True)
class FrocResult:
    """Lesion level. Without annotations `facts` is None and all metrics are undefined."""

    metrics: Metrics
    facts: FrocFacts | None = None


@dataclass(frozen=True)
class MetricsFile:
    """What metrics.json of one model holds. The digests say which inputs and which split it was made from.

    labels: what the classes mean; None for tasks without classes. classes: None where slides have no
    probability for each class. files: the digests of the other files of the evaluation, by path beside
    metrics.json; none in files of earlier versions. second_patch: the patch metrics of the model's second
    tile scores; None if it has none, or without annotations.
    """

    model: str
    inputs_digest: str
    split_digest: str
    slide: SlideResult | PredictionResult
    patch: PatchResult
    froc: FrocResult
    task: TaskKind = "detection"
    labels: LabelScheme | None = None
    classes: ClassesResult | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    second_patch: PatchResult | None = None

    def metrics(self, level: Level) -> Metrics:
        """Return the metrics of a level, by name; none at pixel level."""
        levels = {"slide": self.slide.metrics, "patch": self.patch.metrics, "lesion": self.froc.metrics}
        return levels.get(level, {})

    @property
    def patches(self) -> tuple[PatchResult, ...]:
        """The patch metrics of the main tile scores and, where there are any, of the second ones."""
        return (self.patch,) if self.second_patch is None else (self.patch, self.second_patch)

    def within_slides(self, entry: MetricEntry) -> WithinSlides | None:
        """Return the mean of a patch metric within each slide, by the main tile scores; None for other
        levels, or if it is not known."""
        return self.patch.within_slides(entry) if entry.level == "patch" else None
