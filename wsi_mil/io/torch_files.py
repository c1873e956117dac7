"""Files of torch (.pt, .pth, .bin), read without running code and without filling the memory.

`torch.load(weights_only=True)` calls only a short list of functions. Yet these allocate what the file states:
`bytearray(N)`, or a tensor whose size is larger than its storage. So the file is read once before, with
functions in their places that compare what is stated with the size of the file.
"""

import math
import mmap
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

from wsi_mil import limits
from wsi_mil.errors import DataError, WsiMilError
from wsi_mil.io.bounded import check_zip

ITEM_BYTES = {
    **{f"{kind}Storage": 8 for kind in ("Double", "Long", "ComplexFloat")},
    **{f"{kind}Storage": 4 for kind in ("Float", "Int")},
    **{f"{kind}Storage": 2 for kind in ("Half", "BFloat16", "Short")},
    **{f"{kind}Storage": 1 for kind in ("Byte", "Char", "Bool")},
    "ComplexDoubleStorage": 16,
    "UntypedStorage": 1,
}
"""Bytes per value of the storages of torch."""
ZIP_START = b"PK\x03\x04"
PICKLES_BEFORE_THE_OBJECT = 3
"""Magic number, version and machine, in the form that torch wrote before 1.6."""


class _Storage(NamedTuple):
    kind: str
    bytes: int


def read_torch_file(path: Path, error: type[WsiMilError] = DataError) -> Any:
    """Return what a file of torch holds: tensors on the CPU, in lists and dictionaries.

    Raises `error` for a file that states more bytes than it has or than limits.ARRAY_BYTES, and for one that
    calls what no state dictionary needs; what torch raises for a damaged one or one that would run code.
    """
    import torch

    check_zip(path, limits.ARRAY_BYTES, str(path), error)
    _check_stated(path, error)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_stated(path: Path, error: type[WsiMilError]) -> None:
    with path.open("rb") as handle:
        if handle.read(len(ZIP_START)) == ZIP_START:  # as torch itself decides which form it is
            with ZipFile(handle) as members:
                total = sum(member.file_size for member in members.infolist())
                for member in members.infolist():
                    if member.filename.lower().rpartition("/")[2] == "data.pkl":
                        _Stated(BytesIO(members.read(member)), total, path, error).load()
        else:
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as file:
                for _ in range(PICKLES_BEFORE_THE_OBJECT + 1):
                    _Stated(file, len(file), path, error).load()


class _Stated(pickle._Unpickler):
    """Reads a pickle with other functions for all that it calls; nothing of torch runs or is allocated.

    In Python, as torch's own: the one in C allocates its table of repeated objects as the file states.
    """

    def __init__(self, file: IO[bytes] | mmap.mmap, total: int, path: Path, error: type[WsiMilError]) -> None:
        super().__init__(file)
        self.total, self.path, self.error = total, path, error
        self.calls: Mapping[str, Callable[..., object]] = {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "_codecs.encode": lambda text, coding: text,
        }

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self.calls:
            return self.calls[full]
        if name in ITEM_BYTES:
            return name
        if module == "torch":
            return lambda *_: full  # a dtype, a device
        raise self.error(
            f"{self.path} names {full}: expected tensors, in dictionaries and lists, and nothing else; "
            "save it again with tensors only"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, _, _, count = pid[:5]
        return self.stated(_Storage(str(kind), int(count) * ITEM_BYTES[kind]))

    def tensor(self, storage: _Storage, offset: int, size: tuple[int, ...], *_: object) -> None:
        self.stated(_Storage(storage.kind, math.prod(size) * ITEM_BYTES[storage.kind]))

    def stated(self, storage: _Storage) -> _Storage:
        if not 0 <= storage.bytes <= self.total:
            raise self.error(
                f"{self.path} states {storage.bytes:,} bytes, its file has {self.total:,}: "
                f"{limits.DAMAGED_FILE}"
            )
        return storage
