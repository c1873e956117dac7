"""Files of torch are read without running code, and without taking more memory than they have bytes."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from wsi_mil.encoders.weights import read_checkpoint
from wsi_mil.errors import DataError, EncoderError
from wsi_mil.io.torch_files import read_torch_file

VALUES: dict[str, Any] = {
    "f32": torch.randn(3, 4),
    "view": torch.randn(6, 4)[1:3, ::2],
    "empty": torch.zeros(0, 5),
    "scalar": torch.tensor(3, dtype=torch.int64),
    **{
        str(dtype): torch.ones(2, dtype=dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.bool, torch.complex64)
    },
    "parameter": torch.nn.Parameter(torch.randn(2)),
    "module": torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).state_dict(),
    "nested": {"epoch": 3, "names": ["a", "b"], "shape": torch.Size([1, 2]), "state": OrderedDict(a=1.5)},
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return bool(a == b)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", VALUES)
def test_what_torch_writes_is_read(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save({"value": VALUES[name]}, path, _use_new_zipfile_serialization=zipped)
    assert same(read_torch_file(path), torch.load(path, weights_only=True))


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Writer(pickle._Pickler):
    """Writes a tuple ("storage", ..) as torch writes a storage; its former form has one value more."""

    def __init__(self, file: Any, more: tuple[None, ...]) -> None:
        super().__init__(file, protocol=2)
        self.more = more

    def persistent_id(self, value: Any) -> Any:
        return (*value, *self.more) if isinstance(value, tuple) and value[:1] == ("storage",) else None


def write(path: Path, value: Any, zipped: bool) -> None:
    """Write a file of torch whose object is `value`."""
    name = path.with_suffix(".pkl")
    with name.open("wb") as handle:
        if not zipped:
            for start in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
                pickle.dump(start, handle, protocol=2)
        Writer(handle, () if zipped else (None,)).dump(value)
        if not zipped:
            pickle.dump(["0"], handle, protocol=2)
            handle.write(struct.pack("<q", 4) + bytes(16))
    if zipped:
        with ZipFile(path, "w") as file:
            file.write(name, "archive/data.pkl")
            file.writestr("archive/data/0", bytes(16))
            file.writestr("archive/version", b"3\n")
    else:
        name.rename(path)


def storage(count: int) -> tuple[Any, ...]:
    return ("storage", torch.FloatStorage, "0", "cpu", count)


def tensor(count: int, *size: int, stride: tuple[int, ...] = (1,)) -> Calls:
    return Calls(torch._utils._rebuild_tensor_v2, storage(count), 0, size, stride, False, OrderedDict())


HOSTILE = {
    "bytearray": (Calls(bytearray, 1 << 40), "names .*bytearray"),
    "code": (Calls(exec, "raise SystemExit"), "names .*exec"),
    "size": (tensor(4, 1 << 36), "states 274,877,906,944 bytes"),
    "repeated": (tensor(4, 1 << 20, 1 << 16, stride=(0, 0)), "states 274,877,906,944 bytes"),
    "storage": (tensor(1 << 36, 4), "states 274,877,906,944 bytes"),
    "negative": (tensor(-4, 4), "states -16 bytes"),
    "other calls": (Calls(torch._utils._rebuild_sparse_tensor, None, ()), "names .*_rebuild_sparse_tensor"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_states_more_than_it_has_is_refused(tmp_path: Path, kind: str, zipped: bool) -> None:
    value, words = HOSTILE[kind]
    path = tmp_path / "x.pt"
    write(path, {"weight": value}, zipped)
    with pytest.raises(DataError, match=words):
        read_torch_file(path)
    with pytest.raises(EncoderError, match=words):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_writer_of_these_tests_writes_files_of_torch(tmp_path: Path, zipped: bool) -> None:
    write(tmp_path / "x.pt", {"weight": tensor(4, 4)}, zipped)
    assert read_torch_file(tmp_path / "x.pt")["weight"].tolist() == [0.0] * 4


def test_a_zip_file_behind_a_pickle_does_not_hide_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    write(path, Calls(bytearray, 1 << 40), zipped=False)
    torch.save({}, tmp_path / "good.pt")
    path.write_bytes(path.read_bytes() + (tmp_path / "good.pt").read_bytes())
    with pytest.raises(DataError, match="bytearray"):
        read_torch_file(path)
