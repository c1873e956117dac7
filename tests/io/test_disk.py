"""Errors of writing name the file, what it needs and what is free, whichever library writes."""

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsi_mil.errors import DataError, MachineError, SlideError
from wsi_mil.execution.guard import cause_of
from wsi_mil.io.disk import bytes_in, free_text, writing
from wsi_mil.io.files import write_aside, write_bytes, write_text

NOISE = np.random.default_rng(0).integers(0, 255, 3_000_000, dtype=np.uint8)


@contextmanager
def small_files(limit: int = 500_000) -> Iterator[None]:
    """The kernel refuses to make files larger than `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = Path(
        tempfile.mkdtemp()
    )  # not below pytest's folder, which it could not remove if this is killed
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # torch keeps a file open
        folder.rmdir()


def safetensors_file(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.from_numpy(NOISE)}, path)


def torch_file(path: Path) -> None:
    import torch

    torch.save(torch.from_numpy(NOISE), path)


def parquet_file(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": NOISE}), path, compression="zstd")


def hdf5_file(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["a"] = NOISE


def numpy_file(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, NOISE)  # its error has no errno


def numpy_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, a=NOISE)


def zarr_store(path: Path) -> None:
    import zarr

    group = zarr.create_group(store=str(path))
    group.create_array("a", shape=NOISE.shape, dtype="uint8", compressors=None, chunks=NOISE.shape)[:] = NOISE


def tiff_file(path: Path) -> None:
    import tifffile

    with tifffile.TiffWriter(path) as tiff:
        tiff.write(NOISE.reshape(1000, 1000, 3), tile=(256, 256), photometric="rgb")


def png_file(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(20, 20), dpi=100)
    figure.subplots().imshow(NOISE.reshape(1500, 2000))
    figure.savefig(path, format="png")


def plain_file(path: Path) -> None:
    path.write_bytes(NOISE.tobytes())


LIBRARIES = [
    safetensors_file,
    torch_file,
    parquet_file,
    hdf5_file,
    numpy_file,
    numpy_archive,
    zarr_store,
    tiff_file,
    png_file,
    plain_file,
]
Write = Callable[[Path], None]


@pytest.mark.parametrize("write", LIBRARIES, ids=lambda write: write.__name__)
def test_a_full_disk_is_named_for_every_library(small_disk: Path, write: Write) -> None:
    path = small_disk / "deep" / "file"
    with pytest.raises(MachineError) as caught, write_aside(path) as aside:
        write(aside)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be written: No space left on device (failed after ")
    assert "bytes free on its file system): remove files there" in text
    assert caught.value.__cause__ is not None
    assert cause_of(caught.value) == "machine"
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("write", LIBRARIES, ids=lambda write: write.__name__)
def test_a_limit_of_file_size_is_named_for_every_library(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "file"
    expected = r"file cannot be written: File too large .*ulimit"
    with small_files(), pytest.raises(MachineError, match=expected), write_aside(path) as aside:
        write(aside)
    assert list(tmp_path.iterdir()) == []


def test_what_is_needed_is_named_where_it_is_known(tmp_path: Path) -> None:
    with small_files(), pytest.raises(MachineError, match=r"\(3,000,000 bytes needed, [\d,]+ bytes free"):
        write_bytes(tmp_path / "a", NOISE.tobytes())


def test_a_file_that_is_replaced_stays_whole(small_disk: Path) -> None:
    write_text(small_disk / "a", "old")
    with pytest.raises(MachineError, match="No space left"):
        write_bytes(small_disk / "a", NOISE.tobytes())
    assert (small_disk / "a").read_text() == "old"
    assert [file.name for file in small_disk.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_made_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(MachineError, match=r"Read-only file system .* mount it for writing"):
        write_text(small_disk / "new" / "a", "text")


def fail_in_the_middle(aside: Path, error: Exception) -> None:
    aside.write_text("half")
    raise error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EIO, "Input/output error"), False),  # of a slide that is read meanwhile
        (PermissionError(errno.EACCES, "Permission denied", "/slides/a.svs"), False),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), False),
        (ValueError("a slide without pixels (errno 5)"), False),
        (SlideError("No space left on device (os error 28)"), False),
        (MemoryError(), False),
    ],
)
def test_errors_of_reading_pass_unchanged(tmp_path: Path, error: Exception, ours: bool) -> None:
    expected = MachineError if ours else type(error)
    with pytest.raises(expected) as caught, write_aside(tmp_path / "a") as aside:
        fail_in_the_middle(aside, error)
    assert ours or caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_permission_and_io_errors_of_the_file_itself_are_named(tmp_path: Path) -> None:
    for number, advice in ((errno.EACCES, "change the permissions"), (errno.EIO, "the system's log")):
        with pytest.raises(MachineError, match=advice), write_aside(tmp_path / "a") as aside:
            raise OSError(number, os.strerror(number), str(aside / "zarr.json"))


def test_a_download_into_a_full_disk_is_named(tmp_path: Path) -> None:
    def fetch() -> Any:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise DataError("reading failed") from error

    with pytest.raises(MachineError, match="a cannot be written: No space"), write_aside(tmp_path / "a"):
        fetch()


def test_sizes_are_those_of_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one").write_bytes(b"123")
    (tmp_path / "two").write_bytes(b"45")
    assert (bytes_in(tmp_path), bytes_in(tmp_path / "two"), bytes_in(tmp_path / "none")) == (5, 2, 0)
    assert free_text(tmp_path / "not" / "yet").endswith("bytes free on its file system")
    with pytest.raises(MachineError, match="7 bytes needed"), writing(tmp_path / "a", needs=7):
        raise OSError(errno.ENOSPC, "full")
