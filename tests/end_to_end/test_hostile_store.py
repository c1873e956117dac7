"""`wsi-mil pull` of an object store that somebody else has filled: one line, and nothing outside the run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.end_to_end.test_hostile_files import Place, assert_matches, place, refused
from wsi_mil.interop.object_store import MANIFEST
from wsi_mil.io.files import digest_bytes

__all__ = ["place"]  # the fixture

URL = "memory://stranger/run"
DATA = b"not your thesis"


@pytest.fixture
def store() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    if files.exists("/stranger"):
        files.rm("/stranger", recursive=True)


def named(*names: str, unit: str = "run") -> dict[str, bytes]:
    """A unit whose manifest names these files, and the files, as far as the store can hold such names."""
    manifest = {name: digest_bytes(DATA) for name in names}
    return {f"{unit}{MANIFEST}": json.dumps(manifest).encode(), **{f"{unit}/{name}": DATA for name in names}}


WHOLE = named("config.yaml")
STORES = {
    "file above": (named("../../thesis.tex"), r"names a file outside of its unit: '../../thesis.tex'"),
    "absolute file": (named("/etc/thesis.tex"), "names a file outside of its unit: '/etc/thesis.tex'"),
    "file above in a slide": (
        {**WHOLE, **named("../../../thesis.tex", unit="slides/a.zarr")},
        "names a file outside of its unit: '../../../thesis.tex'",
    ),
    "slide above": ({**WHOLE, **named("zarr.json", unit="slides/../../b.zarr")}, r"\.\./b.zarr"),
    "zero byte": (named("a\0b"), r"a\\x00b"),
    "another unit": ({**WHOLE, **named("authorized_keys", unit=".ssh")}, ".ssh"),
    "no JSON": ({f"run{MANIFEST}": b"\0\1"}, "no manifest"),
    "nested": ({f"run{MANIFEST}": b"[" * 100_000}, "100 levels of lists"),
    "list": ({f"run{MANIFEST}": b"[]"}, "no manifest"),
    "numbers": ({f"run{MANIFEST}": b'{"config.yaml": 1}'}, "no manifest"),
    "wrong digest": ({**WHOLE, "run/config.yaml": b"changed"}, "does not match its digest"),
    "no run": (named("zarr.json", unit="slides/a.zarr"), "no run that was pushed to its end"),
}


@pytest.mark.parametrize("kind", STORES)
def test_an_object_store_is_refused_in_one_line(
    kind: str, store: Any, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, expected = STORES[kind]
    for name, data in files.items():
        store.store[f"/stranger/run/{name}"] = _file(store, data)
    before = place.contents()
    assert_matches(expected, refused(capsys, "pull", URL, place.here / "run"))
    assert {name: data for name, data in place.contents().items() if "here/run/" not in name} == before
    assert not (tmp_path / "thesis.tex").exists()


def _file(store: Any, data: bytes) -> Any:
    """Return a file of the store, whose own functions would resolve a name such as `a/../b`."""
    store.pipe_file("/stranger/one", data)
    return store.store.pop("/stranger/one")
