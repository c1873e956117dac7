"""Errors of libraries for bytes that they cannot read, as one error that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_mil.io.seals import DamagedFileError


@contextmanager
def named_damage(path: Path, remedy: str) -> Iterator[None]:
    """Raise DamagedFileError that names `path` instead of whatever Zarr raises for bytes that it cannot
    read."""
    try:
        yield
    except (DamagedFileError, MemoryError):
        raise
    except Exception as error:
        what = f"it cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
        raise DamagedFileError(path, what, remedy) from error
