"""The plan of a run (`--dry-run`): what it would start from."""

from dataclasses import dataclass
from pathlib import Path

from wsi_mil.config import RunConfig
from wsi_mil.io.files import digest_json
from wsi_mil.io.remote import Location
from wsi_mil.run.encoder_choice import kept_encoder
from wsi_mil.run.folder import RunFolder
from wsi_mil.slides import find_slides


@dataclass(frozen=True)
class CohortPlan:
    """A synthetic cohort that would be written first: the number of slides, and the folder."""

    slides: int
    folder: Path


@dataclass(frozen=True)
class SlidesPlan:
    """The slides of a run: how many there are, how many have tiles and features, and which models were
    trained."""

    folder: Location
    slides: int
    tiled: int
    extracted: int
    trained: tuple[str, ...]


@dataclass(frozen=True)
class RunPlan:
    """What a run would start from. `work`: the cohort to be made, or the slides that exist. `config` has the
    precision and backend that the run began with."""

    config: RunConfig
    exists: bool
    work: CohortPlan | SlidesPlan
    config_digest: str


def plan_run(config: RunConfig) -> RunPlan:
    """Return what a run of this configuration would start from. Reads the run folder and writes nothing."""
    digest = digest_json(config.model_dump(mode="json"))
    encoder = kept_encoder(config.encoder, RunFolder(config.run))
    config = config.model_copy(update={"encoder": encoder})
    return RunPlan(config, config.run.exists(), _cohort(config) or _slides(config), digest)


def _cohort(config: RunConfig) -> CohortPlan | None:
    """Return the synthetic cohort that is asked for and not made yet; None without one."""
    if config.slides.folder is not None or config.synthetic is None:
        return None
    folder = config.run / "cohort"
    if (folder / "cohort.json").exists():
        return None
    return CohortPlan(2 * config.synthetic.pairs + len(config.synthetic.odd), folder)


def _slides(config: RunConfig) -> SlidesPlan:
    run = RunFolder(config.run)
    slides = find_slides(config.slide_folder)
    stores = [run.store(slide.slide_id) for slide in slides]
    return SlidesPlan(
        folder=config.slide_folder,
        slides=len(slides),
        tiled=sum(store.tiles_digest() is not None for store in stores),
        extracted=sum(store.stored_features(config.encoder.key) is not None for store in stores),
        trained=tuple(name for name in config.models if run.model(name, 0).parent.is_dir()),
    )
