"""push and pull: a run folder in an object store (s3://, gs://, ...), where nothing can be renamed.

The store of each slide is a unit; all other files of the run are one more unit. Beside a unit lies its
manifest, which lists the digest of every file. The manifest is removed before anything of the unit changes,
and written when all of the unit is there. So a unit without a manifest is incomplete.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.errors import DataError
from wsi_mil.io.files import TEMPORARY, digest_file, write_aside
from wsi_mil.io.json import json_text, parse_json
from wsi_mil.io.remote import open_url
from wsi_mil.logs import progress
from wsi_mil.paths import below, problem_of
from wsi_mil.run.folder import RunFolder

Manifest = dict[str, str]
"""Path below the unit -> digest of the file."""
MANIFEST = ".manifest.json"
RUN_UNIT = "run"
"""The unit of all files that belong to no slide."""
PARALLEL_UNITS = 8


@dataclass(frozen=True)
class Copied:
    """Numbers of units that were copied, and that were equal already; the incomplete units, left out."""

    copied: int = 0
    same: int = 0
    incomplete: tuple[str, ...] = ()


class RemoteRun:
    """The copy of a run at `url`. Methods raise DataError, with the address, if the server fails."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._base = open_url(self.url)

    def _call(self, action: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{self.url}: {action} failed ({type(error).__name__}: {reason})") from error

    def units(self) -> list[str]:
        """Return the names of all complete units, sorted."""
        found = self._call("listing", self._files.find, self._base)
        below = [str(name).removeprefix(self._base).lstrip("/") for name in found]
        return sorted(name.removesuffix(MANIFEST) for name in below if name.endswith(MANIFEST))

    def manifest(self, unit: str) -> Manifest | None:
        """Return the manifest of a unit, None if it is incomplete or absent.

        Raises DataError for a manifest that names a file outside of the unit.
        """
        path = f"{self._base}/{unit}{MANIFEST}"
        if not self._call("looking", self._files.exists, path):
            return None
        where = f"{self.url}/{unit}{MANIFEST}"
        names = _parsed(self._call("reading", self._files.cat_file, path), where)
        for name in names:
            problem = problem_of(name)
            if problem:
                raise DataError(f"{where} names a file outside of its unit: {name!r} {problem}")
            if unit == RUN_UNIT and (name.startswith((".", "slides/")) or "/." in name):
                raise DataError(f"{where} names {name!r}, expected no hidden file and no store of a slide")
        return names

    def put(self, unit: str, folder: Path, manifest: Manifest) -> None:
        """Make the unit equal to `folder`: send the files that differ, remove those that `manifest` lacks."""
        before = self.manifest(unit)
        if before is not None:
            self._call("removing", self._files.rm_file, f"{self._base}/{unit}{MANIFEST}")
        for name, digest in manifest.items():
            if (before or {}).get(name) != digest:
                target = f"{self._base}/{unit}/{name}"
                self._call("writing", self._files.put_file, str(below(folder, name)), target)
        for name in (before or {}).keys() - manifest.keys():
            self._call("removing", self._files.rm_file, f"{self._base}/{unit}/{name}")
        text = json_text(manifest, indent=1).encode()
        self._call("writing", self._files.pipe_file, f"{self._base}/{unit}{MANIFEST}", text)

    def get(self, unit: str, name: str, digest: str, target: Path) -> None:
        """Copy one file to `target`. Raises DataError if its content has another digest."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._call("reading", self._files.get_file, f"{self._base}/{unit}/{name}", str(target))
        if digest_file(target) != digest:
            raise DataError(f"{self.url}/{unit}/{name} does not match its digest: push the run again")


def push(run: RunFolder, url: str) -> Copied:
    """Copy the run to `url`. Files that are equal there are not sent; incomplete stores are left out."""
    remote = RemoteRun(url)
    incomplete = tuple(s for s in run.stored_slides() if run.store(s).tiles_digest() is None)
    stores = [_unit_of(run, slide_id) for slide_id in run.stored_slides() if slide_id not in incomplete]

    def send(unit: str) -> bool:
        folder = run.path if unit == RUN_UNIT else below(run.path, unit)
        manifest = _local_manifest(folder, unit)
        if remote.manifest(unit) == manifest:
            return False
        remote.put(unit, folder, manifest)
        return True

    copied = _for_units(stores, send, "push")
    return Copied(sum(copied), len(copied) - sum(copied), incomplete)


def pull(url: str, run: Path) -> Copied:
    """Copy a run from `url` into the folder `run`; other files in the folder stay.

    A store is copied whole or not at all, and every file is compared with its digest. Raises DataError if no
    push to `url` has finished, or if the folder holds files and is no run.
    """
    remote = RemoteRun(url)
    units = remote.units()
    if RUN_UNIT not in units:
        raise DataError(f"{url} holds no run that was pushed to its end: run `wsi-mil push RUN {url}`")

    _require_run_or_nothing(run)
    for unit in units:
        if unit != RUN_UNIT and not (unit.startswith("slides/") and unit.endswith(".zarr")):
            raise DataError(f"{url} holds {unit!r}, expected {RUN_UNIT!r} and slides/<id>.zarr: it is no run")

    def fetch(unit: str) -> bool:
        manifest = remote.manifest(unit)
        folder = run if unit == RUN_UNIT else below(run, unit, f"{url}: the unit")
        if manifest is None or manifest.items() <= _local_manifest(folder, unit).items():
            return False
        if unit != RUN_UNIT:
            with write_aside(folder) as aside:
                for name, digest in manifest.items():
                    remote.get(unit, name, digest, below(aside, name))
            return True
        for name, digest in manifest.items():
            with write_aside(below(folder, name, f"{url}: the file")) as aside:
                remote.get(unit, name, digest, aside)
        return True

    copied = _for_units(units, fetch, "pull")
    return Copied(sum(copied), len(copied) - sum(copied))


def _require_run_or_nothing(folder: Path) -> None:
    """Raise DataError for a folder with files that is no run, nor the copy of one that was cut short."""
    entries = {path.name for path in folder.glob("[!.]*")}
    if entries and not entries & {"provenance.json", "config.yaml", "slides"}:
        raise DataError(
            f"{folder} holds {', '.join(sorted(entries)[:3])} and is no run: give a new folder, or a run"
        )


def _parsed(data: bytes, where: str) -> Manifest:
    """Return a manifest. Raises DataError for a file that is none."""
    try:
        found = parse_json(data)
    except ValueError as error:
        raise DataError(f"{where} is no manifest ({error}): push the run again") from error
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise DataError(f"{where} is no manifest (expected file names and digests): push the run again")
    return found


def _unit_of(run: RunFolder, slide_id: str) -> str:
    return run.store(slide_id).path.relative_to(run.path).as_posix()


def _local_manifest(folder: Path, unit: str) -> Manifest:
    """Return the digests of a unit's files; the run's unit has no stores, no lock and no hidden files."""
    if not folder.is_dir():
        return {}
    paths = list(folder.iterdir())
    if unit == RUN_UNIT:
        paths = [path for path in paths if path.name != "slides" and not path.name.startswith(".")]
    files = [p for path in paths for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file()]
    kept = [
        path
        for path in sorted(files)
        if not path.name.endswith(TEMPORARY) and not (unit == RUN_UNIT and path.name.startswith("."))
    ]
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in kept}


def _for_units(units: Iterable[str], function: Callable[[str], bool], label: str) -> list[bool]:
    """Return `function` of every unit: stores several at a time, since a server answers slowly; the run's
    unit last.

    The run's unit comes last so that its manifest marks a copy that is complete.
    """
    stores = [unit for unit in units if unit != RUN_UNIT]
    with ThreadPoolExecutor(PARALLEL_UNITS, thread_name_prefix=label) as pool:
        done = list(progress(pool.map(function, stores), total=len(stores), label=label, unit="store"))
    return [*done, function(RUN_UNIT)]
