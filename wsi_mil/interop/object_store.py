"""push and pull: a run folder in an object store (s3://, gs://, ...), where nothing can be renamed.

The store of each slide is a unit, all other files of the run are one more. Beside a unit lies its manifest, which lists the digest of every
file: it is removed before anything of the unit changes and written when all of it is there. A unit without manifest does not count.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_mil.errors import DataError
from wsi_mil.io.files import TEMPORARY, digest_file, write_aside
from wsi_mil.io.json import json_text, parse_json
from wsi_mil.io.remote import filesystem
from wsi_mil.logs import progress
from wsi_mil.run.folder import RunFolder

Manifest = dict[str, str]
"""Path below the unit -> digest of the file."""
MANIFEST, REST, AT_ONCE = ".manifest.json", "run", 8


@dataclass(frozen=True)
class Mirrored:
    """How many units were copied, were the same already, and were passed over because they are not whole."""

    copied: int = 0
    same: int = 0
    incomplete: tuple[str, ...] = ()


class Mirror:
    """The copy of a run at `url`. Raises DataError, with the address, for whatever the server refuses."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files = filesystem(url)
        self._base = self._files._strip_protocol(self.url)

    def _asked(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{self.url}: {what} failed ({type(error).__name__}: {reason})") from error

    def units(self) -> list[str]:
        """Return the names of all whole units."""
        found = self._asked("listing", self._files.find, self._base)
        below = [str(name).removeprefix(self._base).lstrip("/") for name in found]
        return sorted(name.removesuffix(MANIFEST) for name in below if name.endswith(MANIFEST))

    def manifest(self, unit: str) -> Manifest | None:
        path = f"{self._base}/{unit}{MANIFEST}"
        if not self._asked("looking", self._files.exists, path):
            return None
        names = dict(parse_json(self._asked("reading", self._files.cat_file, path)))
        for name in names:
            if Path(name).is_absolute() or ".." in Path(name).parts:  # would be written outside of the run
                raise DataError(f"{self.url}/{unit}{MANIFEST} names a file outside of its unit: {name!r}")
        return names

    def put(self, unit: str, folder: Path, manifest: Manifest) -> None:
        before = self.manifest(unit)
        if before is not None:
            self._asked("removing", self._files.rm_file, f"{self._base}/{unit}{MANIFEST}")
        for name, digest in manifest.items():
            if (before or {}).get(name) != digest:
                target = f"{self._base}/{unit}/{name}"
                self._asked(
                    "making a folder",
                    lambda parent: self._files.makedirs(parent, exist_ok=True),
                    target.rpartition("/")[0],
                )
                self._asked("writing", self._files.pipe_file, target, (folder / name).read_bytes())
        for name in (before or {}).keys() - manifest.keys():
            self._asked("removing", self._files.rm_file, f"{self._base}/{unit}/{name}")
        text = json_text(manifest, indent=1).encode()
        self._asked("writing", self._files.pipe_file, f"{self._base}/{unit}{MANIFEST}", text)

    def get(self, unit: str, name: str, digest: str, target: Path) -> None:
        data = self._asked("reading", self._files.cat_file, f"{self._base}/{unit}/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        if digest_file(target) != digest:
            raise DataError(f"{self.url}/{unit}/{name} does not match its digest: push the run again")


def push(run: RunFolder, url: str) -> Mirrored:
    """Copy the run to `url`: what is there already, file for file, is left alone; a store that is not whole here is passed over."""
    mirror = Mirror(url)
    incomplete = tuple(s for s in run.stored_slides() if run.store(s).tiles_digest() is None)
    stores = [_unit(run, slide_id) for slide_id in run.stored_slides() if slide_id not in incomplete]

    def send(unit: str) -> bool:
        folder = run.path if unit == REST else run.path / unit
        manifest = _manifest(folder, rest=unit == REST)
        if mirror.manifest(unit) == manifest:
            return False
        mirror.put(unit, folder, manifest)
        return True

    copied = _each(stores, send, "push")
    return Mirrored(sum(copied), len(copied) - sum(copied), incomplete)


def pull(url: str, run: Path) -> Mirrored:
    """Copy a run from `url`: stores are whole or absent, every file is compared with its digest. What the folder holds besides stays."""
    mirror = Mirror(url)
    units = mirror.units()
    if REST not in units:
        raise DataError(f"{url} holds no run that was pushed to its end: run `wsi-mil push RUN {url}`")

    def fetch(unit: str) -> bool:
        manifest = mirror.manifest(unit)
        folder = run if unit == REST else run / unit
        if manifest is None or manifest.items() <= _manifest(folder, rest=unit == REST).items():
            return False
        if unit != REST:
            with write_aside(folder) as aside:
                for name, digest in manifest.items():
                    mirror.get(unit, name, digest, aside / name)
            return True
        for name, digest in manifest.items():
            with write_aside(folder / name) as aside:
                mirror.get(unit, name, digest, aside)
        return True

    copied = _each(units, fetch, "pull")
    return Mirrored(sum(copied), len(copied) - sum(copied))


def _unit(run: RunFolder, slide_id: str) -> str:
    return run.store(slide_id).path.relative_to(run.path).as_posix()


def _manifest(folder: Path, rest: bool) -> Manifest:
    """The files of a unit; `rest`: of the run but for its stores, its lock and what is hidden."""
    if not folder.is_dir():
        return {}
    tops = [
        path
        for path in folder.iterdir()
        if not (rest and (path.name == "slides" or path.name.startswith(".")))
    ]
    paths = [path for top in tops for path in (top.rglob("*") if top.is_dir() else [top])]
    kept = [
        p
        for p in paths
        if p.is_file() and not p.name.endswith(TEMPORARY) and not (rest and p.name.startswith("."))
    ]
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in sorted(kept)}


def _each(units: Iterable[str], one: Callable[[str], bool], label: str) -> list[bool]:
    """Stores several at once, since an object store answers slowly, but many at a time; the rest of the run last."""
    stores = [unit for unit in units if unit != REST]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix=label) as pool:
        done = list(progress(pool.map(one, stores), total=len(stores), label=label, unit="store"))
    return [*done, one(REST)]
