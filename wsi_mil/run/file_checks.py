"""wsi-mil check RUN --deep: whether the files of a run outside its stores are what was written."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wsi_mil.bags import Split
from wsi_mil.config import load_config
from wsi_mil.errors import StoreError, WsiMilError
from wsi_mil.evaluation.metrics_file import read_metrics
from wsi_mil.execution.guard import reason_of
from wsi_mil.geojson import read_features
from wsi_mil.heatmaps.refined import read_refined
from wsi_mil.io.files import digest_bytes
from wsi_mil.io.json import read_json
from wsi_mil.io.seals import DamagedFileError, changed_files, current_digest, require_digest
from wsi_mil.logs import logger, progress
from wsi_mil.paths import below
from wsi_mil.refine.names import WEIGHTS as REFINER_WEIGHTS
from wsi_mil.run.folder import RunFolder
from wsi_mil.scoring import read_slide_scores, read_tile_scores
from wsi_mil.scoring.card import read_card
from wsi_mil.scoring.model import check_weights
from wsi_mil.training.checkpoint import Checkpoint

REPORT = re.compile(r"digests: page (\w+), curves\.png (\w+) -->$")


@dataclass(frozen=True)
class FilesChecked:
    """What `check_files` found: one line for each damaged file, and how many files were read."""

    problems: tuple[str, ...]
    files: int


def check_files(path: Path) -> FilesChecked:
    """Read every file of a run folder that has a digest, except its stores, and compare."""
    run, problems, files = RunFolder(path), list[str](), 0
    checks = list(_checks(run))
    for check, file in progress(checks, total=len(checks), label="check files", unit="file"):
        files += 1
        try:
            check(file)
        except WsiMilError as error:
            problems.append(str(error))
        except Exception as error:  # a damaged file of an earlier version, which has no digest
            logger().debug("%s", file, exc_info=True)
            problems.append(f"{file} cannot be read ({reason_of(error)}): remove it and run again")
    return FilesChecked((*problems, *run.ledger.damaged), files + (run.path / "outcomes.csv").exists())


def _checks(run: RunFolder) -> Iterator[tuple[Callable[[Path], object], Path]]:
    """Yield how a file is read, and its path."""
    by_pattern: Sequence[tuple[str, Callable[[Path], object]]] = (
        ("provenance.json", read_json),
        ("config.yaml", load_config),
        ("models/split.json", Split.load),
        ("models/*/fold*/model.json", _check_model),
        ("models/*/fold*/checkpoint.safetensors", Checkpoint.load),
        ("models/*/fold*/refiner.json", _check_refiner),
        ("scores/*/slides.parquet", read_slide_scores),
        ("scores/*/tiles/**/*.parquet", read_tile_scores),
        ("refined/*/**/*.npz", read_refined),
        ("heatmaps/*/index.json", lambda path: _check_heatmaps(run, path.parent.name)),
        ("evaluation/*/metrics.json", _check_evaluation),
        ("evaluation/**/*.json", read_json),
        ("audit/**/*.json", read_json),
        ("poison/**/*.json", read_json),
        ("tissue/**/*.geojson", read_features),
        ("report.html", lambda path: _check_report(run)),
    )
    for pattern, check in by_pattern:
        yield from ((check, path) for path in sorted(run.path.glob(pattern)) if "/." not in path.as_posix())
    for slide_id in run.stored_slides():
        if run.preview(slide_id).exists():
            yield partial(_check_preview, run, slide_id), run.preview(slide_id)


def _check_model(path: Path) -> None:
    check_weights(path.parent, read_card(path.parent))


def _check_refiner(path: Path) -> None:
    card = read_json(path, "remove it and run `wsi-mil refine` again")
    weights = path.parent / REFINER_WEIGHTS
    found = current_digest(weights) or "none"
    require_digest(weights, card["weights_digest"], found, "remove it and run `wsi-mil refine` again")


def _check_evaluation(path: Path) -> None:
    found = read_metrics(path)
    if found is not None:
        _refuse_changed(path.parent, changed_files(path.parent, found.files), "run `wsi-mil evaluate`")


def _check_heatmaps(run: RunFolder, name: str) -> None:
    read_json(run.heatmap_index(name), "remove it and run `wsi-mil heatmap`")
    changed = changed_files(run.path, run.heatmap_digests(name))
    _refuse_changed(run.path, changed, "remove it and run `wsi-mil heatmap`")


def _refuse_changed(folder: Path, changed: Sequence[str], remedy: str) -> None:
    if changed:
        more = f" (and {', '.join(changed[1:])})" if len(changed) > 1 else ""
        what = f"it{more} is gone or not what was written"
        raise DamagedFileError(below(folder, changed[0]), what, remedy)


def _check_preview(run: RunFolder, slide_id: str, path: Path) -> None:
    try:
        expected = run.store(slide_id).preview()
    except StoreError:  # of a damaged store, which has a row of its own
        return
    if expected is not None:
        require_digest(path, expected, current_digest(path) or "none", "run `wsi-mil tile`")


def _check_report(run: RunFolder) -> None:
    text = run.report.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    body, _, last = text.rpartition("\n")
    found, remedy = REPORT.search(last), "run `wsi-mil report`"
    if found is None:
        raise DamagedFileError(run.report, "its last line lacks the digests", remedy)
    require_digest(run.report, found[1], digest_bytes(body.encode()), remedy)
    require_digest(run.curves, found[2], current_digest(run.curves) or "none", remedy)
