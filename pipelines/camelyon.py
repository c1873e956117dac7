"""What the Camelyon studies share: the folders as their owners lay them out, runs over seeds, tables."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.config import RunConfig
from wsi_mil.errors import DataError
from wsi_mil.evaluation.intervals import spread
from wsi_mil.io.files import write_text
from wsi_mil.io.json import read_json
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage

Row = tuple[str, str, str, str, str]  # slide, label, patient, centre, split
COLUMNS = ("slide AUC", "accuracy", "F1", "patch AUC", "patch AUPRC", "patch F1", "FROC")


@dataclass(frozen=True)
class Download:
    """Slides and lesion outlines found below a download, by name without ending."""

    folder: Path
    slides: dict[str, Path]
    outlines: dict[str, Path]


def arguments_of(description: str | None, seeds: Sequence[int], exclude_help: str) -> argparse.Namespace:
    """Return the command line of a Camelyon study: config, overrides, --data, --seeds, --exclude."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", help="key.sub=value")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the download")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--exclude", action="append", metavar="SLIDE", help=exclude_help)
    return parser.parse_intermixed_args()


def find_files(folder: Path, pattern: str) -> Download:
    """Return the .tif slides and .xml outlines below `folder` whose name matches `pattern`, wherever they lie.

    Mask images are passed over. Raises DataError if there is no slide, or one name twice.
    """
    found: dict[str, dict[str, Path]] = {".tif": {}, ".xml": {}}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in found or not re.fullmatch(pattern, path.stem) or path.name.startswith("."):
            continue
        if (before := found[path.suffix].setdefault(path.stem, path)) != path:
            raise DataError(f"{path.name} lies in {before.parent} and in {path.parent}: keep one of them")
    if not found[".tif"]:
        raise DataError(
            f"no slide below {folder} is named like {pattern}.tif: give the folder of the download"
        )
    return Download(folder, found[".tif"], found[".xml"])


def find_one(folder: Path, name: str) -> Path:
    """Return the one file of this name below `folder`. Raises DataError if there is none."""
    paths = sorted(folder.rglob(name))
    if not paths:
        raise DataError(f"no {name} below {folder}: it comes with the slides, put it beside them")
    return paths[0]


def lay_out(folder: Path, download: Download, rows: Sequence[Row]) -> None:
    """Write labels.csv and links: slides/<name>.tif and annotations/<name>.xml, of the slides in `rows` and no others."""
    wanted = {row[0] for row in rows}
    for kind, files in (("slides", download.slides), ("annotations", download.outlines)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for link in (folder / kind).iterdir():
            if (
                link.stem not in wanted
                or link.stem not in files
                or link.resolve() != files[link.stem].resolve()
            ):
                link.unlink()
        for name in sorted(wanted & set(files)):
            link = folder / kind / files[name].name
            if not link.is_symlink():
                os.symlink(files[name].resolve(), link)
    lines = ["slide,label,patient,centre,split", *(",".join(row) for row in sorted(rows))]
    write_text(folder / "labels.csv", "\n".join(lines) + "\n")


def exclude(rows: Sequence[Row], names: Sequence[str], known: dict[str, str]) -> list[Row]:
    """Return `rows` without the named slides. "none": all stay. Raises DataError for a name that is no slide."""
    wanted = [name for name in names if name != "none"]
    there = {row[0] for row in rows}
    for name in wanted:
        if name not in there and name not in known:
            raise DataError(
                f"--exclude {name}: no slide of this name; the literature leaves out {', '.join(known)}"
            )
    for name in wanted:
        if name in there:
            print(f"left out: {name} ({known.get(name, 'as asked')})")
    return [row for row in rows if row[0] not in wanted]


def run_seeds(config: RunConfig, cohort: Path, seeds: Sequence[int]) -> list[RunFolder]:
    """Tile and extract once, then train, score and evaluate once per seed: split and weights follow the seed.

    Runs lie in `<run>/features` and `<run>/seed_<n>`; the latter share the former's stores by a link.
    """
    values = config.model_dump(mode="json")
    values["slides"] |= {
        "folder": str(cohort / "slides"),
        "labels": str(cohort / "labels.csv"),
        "annotations": str(cohort / "annotations"),
    }
    shared = RunConfig(**(values | {"run": str(config.run / "features")}))
    for stage in ("tile", "extract"):
        run_stage(shared, stage)
    runs = []
    for seed in seeds:
        folder = config.run / f"seed_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("slides", "tissue", "previews"):
            if not (folder / name).exists():
                os.symlink(Path("..") / "features" / name, folder / name)
        seeded = {block: values[block] | {"seed": seed} for block in ("split", "train", "evaluation")}
        one = RunConfig(**(values | seeded | {"run": str(folder), "seed": seed}))
        for stage in ("train", "score", "evaluate", "heatmap", "report"):
            if stage != "heatmap" or seed == seeds[0]:
                run_stage(one, stage)
        runs.append(RunFolder(folder))
    return runs


def metrics_of(run: RunFolder, model: str) -> list[float]:
    """Return the figures of COLUMNS; NaN where undefined."""
    found: dict[str, Any] = read_json(run.evaluation(model) / "metrics.json")
    slide, patch, froc = found["slide"], found["patch"], found["froc"]
    values = [
        slide["auc"],
        slide["accuracy"],
        slide["f1"],
        patch["auc"],
        patch["auprc"],
        patch.get("f1"),
        froc["score"],
    ]
    return [float("nan") if value is None else float(value) for value in values]


def table(runs: Sequence[RunFolder], models: Sequence[str]) -> str:
    """Return a Markdown table: mean over seeds and its 95 % t-interval, as the FocusMIL protocol reports."""
    lines = [f"| method | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for model in models:
        cells = []
        for values in zip(*(metrics_of(run, model) for run in runs), strict=True):
            s = spread(values)
            cells.append(
                "-"
                if s.count == 0
                else f"{s.mean:.3f}" + (f" ({s.low:.3f} to {s.high:.3f})" if s.count > 1 else "")
            )
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)
