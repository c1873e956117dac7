"""Which files a slide is read from, and whether they are still those that were opened."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_mil.contracts.record import Record
from wsi_mil.errors import SlideError, WsiMilError
from wsi_mil.io.files import digest_json, fingerprint
from wsi_mil.io.remote import Location
from wsi_mil.slides.dicom_frames import series_files

INDEX_SUFFIXES = (".vms", ".vmu")
"""Text files of Hamamatsu that name the files of the slide."""
INDEX_BYTES = 1 << 20
AGAIN = "Wait until nothing writes to it, or put it back, and run again"


class ChangedSlideError(SlideError):
    """The files of a slide are no longer those that were opened: what was read may be of two slides."""


@dataclass(frozen=True)
class FileState(Record):
    """One file: its size, when it was last modified, and its number in the file system."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int

    def __str__(self) -> str:
        seconds, rest = divmod(self.mtime_ns, 10**9)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
        return f"{self.size_bytes:,} bytes of {stamp}.{rest:09d} UTC"


@dataclass(frozen=True)
class SlideState(Record):
    """What a slide was read from. files: all of its local files; () behind a URL. digest: of their content,
    by `io.files.fingerprint`."""

    slide_id: str
    path: Location
    files: tuple[FileState, ...]
    digest: str

    def check(self) -> None:
        """Raise ChangedSlideError, with expected and found, unless the slide is what it was.

        A file that was replaced has another size, time or content. Its number in the file system alone proves
        nothing: some network file systems give new numbers to files that are the same.
        """
        other_number = not self.files
        for file in self.files:
            found = self._found(file)
            if (found.size_bytes, found.mtime_ns) != (file.size_bytes, file.mtime_ns):
                raise self._changed(f"expected {file}, found {found}", file.path)
            other_number |= found.inode != file.inode
        if other_number:
            digest = self._digest()
            if digest != self.digest:
                raise self._changed(f"expected content {self.digest}, found {digest}", str(self.path))

    def _found(self, file: FileState) -> FileState:
        try:
            return _file_state(Path(file.path))
        except FileNotFoundError as error:
            raise ChangedSlideError(
                f"slide {self.slide_id!r} was removed while it was read: expected {file}, found no file at "
                f"{file.path}. {AGAIN}"
            ) from error
        except OSError as error:
            raise self._lost(error) from error

    def _digest(self) -> str:
        try:
            return _digest(self.path, self.files)
        except (OSError, WsiMilError) as error:
            raise self._lost(error) from error

    def _changed(self, how: str, path: str) -> ChangedSlideError:
        return ChangedSlideError(
            f"slide {self.slide_id!r} was changed while it was read: {how}: {path}. {AGAIN}"
        )

    def _lost(self, error: Exception) -> ChangedSlideError:
        what = getattr(error, "strerror", None) or str(error)
        return ChangedSlideError(
            f"slide {self.slide_id!r} could not be reached any more while it was read ({what}): {self.path}. "
            "Check that its folder is mounted and may be read, and run again"
        )


def file_states(path: Path) -> tuple[FileState, ...]:
    """Return the files that a slide on a disk is read from now, sorted: see `slide_state`. Opens none of
    them, except to see whether it is DICOM. Raises OSError if there is no file."""
    return tuple(_file_state(file) for file in sorted(set(_files_of(path))))


def slide_state(path: Location, slide_id: str) -> SlideState:
    """Return what a slide is read from now. Raises SlideError if there is no file, or an empty one.

    DICOM: all files of the series. MRXS, VMS, VMU: the file and those that belong to it. A folder: all files
    in it.
    """
    if isinstance(path, str):
        return SlideState(slide_id, path, (), _digest(path, ()))
    try:
        files = file_states(path)
        if files and path.is_file() and path.stat().st_size == 0:
            raise SlideError(f"slide {slide_id!r}: the file is empty (0 bytes): {path}. Copy it again")
        return SlideState(slide_id, path, files, _digest(path, files))
    except FileNotFoundError as error:
        raise SlideError(
            f"slide {slide_id!r}: no file at {path}. Put it back, or correct the path, and run again"
        ) from error


def _digest(path: Location, files: Sequence[FileState]) -> str:
    if len(files) <= 1 or (isinstance(path, Path) and path.is_dir()):
        return fingerprint(path)
    return digest_json([(Path(file.path).name, fingerprint(Path(file.path))) for file in files])


def _file_state(path: Path) -> FileState:
    found = os.stat(path)
    return FileState(str(path), found.st_size, found.st_mtime_ns, found.st_ino)


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _files_below(path)
        return
    yield path
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        yield from _files_below(path.with_suffix(""))
    elif suffix in INDEX_SUFFIXES:
        yield from _named_files(path)
    else:
        yield from map(Path, series_files(str(path)))


def _files_below(folder: Path) -> Iterator[Path]:
    yield from (file for file in folder.rglob("*") if file.is_file())


def _named_files(index: Path) -> Iterator[Path]:
    """Yield the files beside an index that its lines `Key=name` name."""
    with index.open("rb") as file:
        text = file.read(INDEX_BYTES).decode("latin-1")
    names = {line.partition("=")[2].strip() for line in text.splitlines()}
    yield from (file for file in index.parent.iterdir() if file.name in names and file.is_file())
