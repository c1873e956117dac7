"""What the heatmaps of one slide and model are drawn from, and which files they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsi_mil.contracts.qupath import QuPathSpec
from wsi_mil.contracts.scores import SlideScoreRow
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.evaluation.spec import EvaluationSpec
from wsi_mil.heatmaps.spec import HeatmapSpec
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.refine.names import CARD
from wsi_mil.run.folder import RunFolder, class_heatmap_name, heatmap_name
from wsi_mil.run.states import digest_of_states, settings_digest, states_of
from wsi_mil.training.learning import NOT_LEARNED

GEOJSON = {"0.3": "geojson", "0.4": "geojson.gz"}
MAPS = ("png", "ome.tif")


@dataclass(frozen=True)
class HeatmapJob:
    """What `heatmap_one` needs, in values that pickle. It needs no GPU.

    classes: those that get a heatmap each. drawn_from: digest of what the present files were drawn from;
    None if the slide was not drawn before. pictures: the digests of its PNG files, by path in the run folder.
    learned: False if the model's training has learned nothing.
    """

    slide_id: str
    run: Path
    name: str
    row: SlideScoreRow
    source: SlideSource
    reader: str
    spec: HeatmapSpec
    evaluation: EvaluationSpec
    qupath: QuPathSpec
    classes: tuple[str, ...]
    drawn_from: str | None
    pictures: Mapping[str, str] = field(default_factory=dict)
    learned: bool = True

    @property
    def stage(self) -> str:
        """The name of the stage in outcomes.csv."""
        return f"heatmap {self.name}"

    def _drawn(self) -> Iterator[tuple[str | None, str]]:
        """Yield class (None: of the slide's own heatmap) and suffix of each file."""
        yield from ((None, suffix) for suffix in (*MAPS, GEOJSON[self.qupath.version]))
        yield from ((class_name, suffix) for class_name in self.classes for suffix in MAPS)

    def files(self) -> list[Path]:
        """The files that are drawn for this slide. Raises DataError for a link that leads out of the run."""
        run = RunFolder(self.run)
        return [
            run.heatmap(self.name, self.slide_id, suffix)
            if class_name is None
            else run.class_heatmap(self.name, class_name, self.slide_id, suffix)
            for class_name, suffix in self._drawn()
        ]

    def names(self) -> list[str]:
        """The paths of `files` relative to the run folder. No file system is asked: they may not exist."""
        return [
            heatmap_name(self.name, self.slide_id, suffix)
            if class_name is None
            else class_heatmap_name(self.name, class_name, self.slide_id, suffix)
            for class_name, suffix in self._drawn()
        ]

    def digest(self, refiner: str | None, format_version: int = 1, second_kind: str = "") -> str:
        """Return the digest of everything that the heatmap is drawn from.

        refiner: the digest of the refined maps. format_version: of the GeoJSON file. second_kind: of the
        second tile scores.
        """
        row, spec = self.row, self.spec
        made_from: list[str | float] = [
            row.model_digest,
            row.features_digest,
            row.tiles_digest,
            row.threshold if row.prediction is None else row.prediction,
            *([refiner] if refiner is not None else []),
            spec.digest(),
            self.qupath.digest(),
        ]
        if "detections" in spec.objects:
            made_from.append(self.evaluation.digest())
        if "tissue" in spec.objects:
            made_from.append(digest_file(RunFolder(self.run).tissue(self.slide_id)))
        made_from += self.classes
        if not self.learned:
            made_from.append(NOT_LEARNED)
        if format_version > 1:  # files of an earlier format are drawn again
            made_from.append(format_version)
        if self.spec.score != "main" and second_kind:
            made_from.append(second_kind)
        return digest_json(made_from)

    def state(self, run: RunFolder, drawn_from: str | None) -> str:
        """Return the digest of settings and files: of all that `digest` depends on, and of what is drawn.

        drawn_from: the digest of what the files are drawn from now, as index.json holds it.
        """
        row, slide_id = self.row, self.slide_id
        read = [
            f"scores/{self.name}/tiles/{slide_id}.parquet",
            f"refined/{self.name}/{slide_id}.npz",
            f"models/{self.name}/fold{row.fold}/{CARD}",
            *([f"tissue/{slide_id}.geojson"] if "tissue" in self.spec.objects else []),
        ]
        of_slide = [row.model_digest, row.features_digest, row.tiles_digest, row.threshold, row.prediction]
        specs = settings_digest(self.spec, self.qupath, self.evaluation)
        settings = [drawn_from, of_slide, specs, self.classes, self.learned]
        return digest_of_states(settings, states_of(run, read), states_of(run, self.names()))
