"""Files that state, or unpack to, more than the limits are refused before the memory is filled."""

import gzip
import io
import json
import re
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import compress, crc32

import h5py
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zarr

from wsi_mil import limits
from wsi_mil.config.yaml_values import read_values
from wsi_mil.encoders.weights import read_checkpoint
from wsi_mil.errors import DataError, StoreError, WsiMilError
from wsi_mil.evaluation.annotations import read_annotation_file
from wsi_mil.features.mapped import MappedFeatures
from wsi_mil.features.store import _values
from wsi_mil.geojson import read_features
from wsi_mil.interop.layouts._hdf5 import h5_dataset
from wsi_mil.io.bounded import read_npz, read_unpacked
from wsi_mil.io.images import decode_image
from wsi_mil.io.json import json_line, parse_json, read_plain_json
from wsi_mil.io.tables import read_cells, read_csv
from wsi_mil.io.user_tables import read_user_table
from wsi_mil.io.xml import each_element, read_xml
from wsi_mil.limits import Limit
from wsi_mil.scoring.files import read_slide_scores


@contextmanager
def refused(words: str, error: type[WsiMilError] = WsiMilError) -> Iterator[None]:
    """Expect a refusal in one line, within 2 s and 16 MiB."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(error, match=words) as raised:
            yield
        assert time.perf_counter() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)


TEXTS: dict[str, tuple[Limit, Callable[[Path], object], str]] = {
    "csv": (limits.TABLE_BYTES, read_csv, "slide\ns1\n"),
    "cells": (limits.TABLE_BYTES, read_cells, "s1\n"),
    "labels": (limits.TABLE_BYTES, read_user_table, "slide,label\ns1,0\n"),
    "xml": (limits.XML_BYTES, read_xml, "<a/>"),
    "yaml": (limits.CONFIG_BYTES, read_values, "a: 1\n"),
    "json": (limits.JSON_BYTES, read_plain_json, "{}"),
    "geojson": (limits.GEOJSON_BYTES, lambda path: read_unpacked(path, limits.GEOJSON_BYTES), "[]"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_file_above_its_limit_is_refused(kind: str, tmp_path: Path) -> None:
    limit, read, text = TEXTS[kind]
    path = tmp_path / f"a.{kind}"
    path.write_text(text)
    assert read(path) is not None
    with path.open("r+b") as handle:
        handle.truncate(limit.most + 1)
    with refused(rf"a\.{kind}: {limit.most + 1:,} "):
        read(path)


def test_a_gzip_file_is_unpacked_up_to_the_limit(tmp_path: Path) -> None:
    limit = replace(limits.GEOJSON_BYTES, most=1 << 20)
    path = tmp_path / "a.geojson.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 20)))
    assert len(read_unpacked(path, limit)) == 1 << 20
    path.write_bytes(gzip.compress(b" " * (64 << 20)))
    with refused(r"a\.geojson\.gz: 1,048,577 bytes of GeoJSON"):
        read_unpacked(path, limit)


def restated(data: bytes, size: int) -> bytes:
    """A zip file whose directory states another size, below 4 GiB, of each member."""
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        data = data[: start + 24] + size.to_bytes(4, "little") + data[start + 28 :]
        start += 4
    return data


def test_a_workbook_that_states_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path, buffer = tmp_path / "l.xlsx", io.BytesIO()
    book = openpyxl.Workbook()
    book.active.append(["slide", "label"])
    book.save(buffer)
    path.write_bytes(buffer.getvalue())
    assert read_user_table(path).lines[0].cells == ["slide", "label"]
    path.write_bytes(restated(buffer.getvalue(), 1 << 30))
    with refused(rf"l\.xlsx: .* {limits.TABLE_BYTES.what[:16]}"):
        read_user_table(path)


def test_a_sheet_with_too_many_cells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CELLS", replace(limits.CELLS, most=1_000))
    path = tmp_path / "l.xlsx"
    book = openpyxl.Workbook()
    book.active["A1"] = "slide"
    book.active["ZZ3"] = "far"
    book.save(path)
    with refused(r"l\.xlsx: .* cells in a sheet"):
        read_user_table(path)


def npy(shape: tuple[int, ...], values: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<f4"})
    return file.getvalue() + values


def test_an_array_that_states_more_than_its_member_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones(3, np.float32))
    assert read_npz(path)["a"].tolist() == [1, 1, 1]
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("a.npy", npy((10**9,), b"1234"))
    with refused(r"a\.npz: a\.npy states 4,000,000,000 bytes", DataError):
        read_npz(path)
    with refused(r"a\.npz.* states 4,000,000,000 bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["a.npz", "a.pt"])
def test_a_checkpoint_whose_members_state_too_much_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    values = {f"w{n}": torch.ones(3) for n in range(6)}
    if name == "a.pt":
        torch.save(values, path)
    else:
        np.savez(path, **{key: value.numpy() for key, value in values.items()})
    assert len(read_checkpoint(path)) == 6
    path.write_bytes(restated(path.read_bytes(), (1 << 32) - 2))
    with refused(limits.ARRAY_BYTES.what):
        read_checkpoint(path)


def test_safetensors_that_state_more_than_the_file_has_are_refused(tmp_path: Path) -> None:
    head = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"1234")
    with refused(r"a\.safetensors is not a readable checkpoint"):
        read_checkpoint(path)


def test_a_dataset_of_hdf5_that_states_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("few", (10, 2), "f4", chunks=(10, 2))
        file.create_dataset("rows", (10**12, 2), "f4", chunks=(1024, 2))
        file.create_dataset("wide", (1 << 20, 1 << 20), "f4", chunks=(16, 16))
        assert h5_dataset(file, "few", path).shape == (10, 2)
        with refused(rf"s\.h5: rows: 1,000,000,000,000 {limits.ROWS.what}"):
            h5_dataset(file, "rows", path)
        with refused(rf"s\.h5: wide: .* {limits.ARRAY_BYTES.what}"):
            h5_dataset(file, "wide", path)


def test_an_array_of_zarr_that_states_too_much_is_refused(tmp_path: Path) -> None:
    group = zarr.create_group(store=str(tmp_path / "s.zarr"))
    group.create_array("few", shape=(10, 2), dtype="f2", chunks=(10, 2), compressors=None)
    group.create_array("rows", shape=(10**12, 2), dtype="f2", chunks=(1024, 2), compressors=None)
    group.create_array("wide", shape=(1 << 20, 1 << 20), dtype="f2", chunks=(16, 16), compressors=None)
    assert _values(group, "few").shape == (10, 2)
    for name, words in (("rows", limits.ROWS.what), ("wide", limits.ARRAY_BYTES.what)):
        with refused(words, StoreError):
            _values(group, name)
        with refused(words, StoreError):
            MappedFeatures(tmp_path / "s.zarr" / name, np.ones(1, bool))


def test_a_parquet_file_with_too_many_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ROWS", replace(limits.ROWS, most=1_000))
    path = tmp_path / "slides.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_001, np.int8)), pa.array(["a"]))
    pq.write_table(pa.table({"slide": column}), path)
    with refused(rf"slides\.parquet.* 1,001 {limits.ROWS.what}", StoreError):
        read_slide_scores(path)


def test_a_picture_whose_header_states_too_many_pixels_is_refused() -> None:
    head = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    body = b"IDAT" + compress(bytes(100))
    parts = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", crc32(part))
        for part in (head, body, b"IEND")
    ]
    with refused(rf"p\.png: 10,000,000,000 {re.escape(limits.PICTURE_PX.what)}", DataError):
        decode_image(b"\x89PNG\r\n\x1a\n" + b"".join(parts), "p.png")


XML_LIMITS = {
    "deep": (limits.XML_DEPTH, "<a>" * 100_000),
    "many": (limits.XML_ELEMENTS, "<a>" + "<b/>" * 10_000),
}


@pytest.mark.parametrize("kind", XML_LIMITS)
def test_xml_with_too_many_or_too_deep_elements_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "XML_ELEMENTS", replace(limits.XML_ELEMENTS, most=5_000))
    limit, text = XML_LIMITS[kind]
    path = tmp_path / "a.xml"
    path.write_text(text)
    with refused(rf"a\.xml: .* {limit.what}, at most", DataError):
        read_xml(path)
    with refused(rf"here: .* {limit.what}, at most", DataError):
        each_element(text, "here", lambda name, attributes: None)
    depth = limits.XML_DEPTH.most
    path.write_text("<a>" * depth + "</a>" * depth)
    assert sum(1 for _ in read_xml(path).iter()) == depth


def test_a_document_type_is_refused_before_its_entities_expand(tmp_path: Path) -> None:
    bomb = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 100}">' for n in range(9))
    path = tmp_path / "a.xml"
    for inner in (f'[<!ENTITY e0 "x">{bomb}]', f'SYSTEM "{tmp_path}/other.dtd"', ""):
        path.write_text(f"<!DOCTYPE a {inner}><a>&e9;</a>")
        with refused(r"a\.xml: it has a document type \(<!DOCTYPE a>\)", DataError):
            read_xml(path)


@pytest.mark.parametrize("text", ["[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[" * 10**6])
def test_json_that_is_nested_too_deeply_is_refused(text: str, tmp_path: Path) -> None:
    path, said = tmp_path / "a.json", f"more than 100 {limits.JSON_DEPTH.what}"
    path.write_text(text)
    for read in (read_plain_json, read_features):
        with refused(rf"a\.json.*{said}"):
            read(path)
    nested = "[" * limits.JSON_DEPTH.most + "1" + "]" * limits.JSON_DEPTH.most
    assert json_line(parse_json(nested)) == nested


def test_an_annotation_file_with_too_many_objects_or_points_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = [[0, 0], [9, 0], [9, 9], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    one = {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": "Tumor"}}}
    path = tmp_path / "s.geojson"
    path.write_text(json.dumps([one] * 50))
    assert read_annotation_file(path, "s").objects == 50
    monkeypatch.setattr(limits, "POINTS", replace(limits.POINTS, most=199))
    with refused(rf"s\.geojson: 200 {limits.POINTS.what}", DataError):
        read_annotation_file(path, "s")
    monkeypatch.setattr(limits, "OBJECTS", replace(limits.OBJECTS, most=49))
    with refused(rf"s\.geojson: 50 {limits.OBJECTS.what}", DataError):
        read_features(path)
    xml = "".join(f'<Annotation Type="Dot" Name="{number}"/>' for number in range(50))
    (tmp_path / "s.xml").write_text(f"<ASAP_Annotations>{xml}</ASAP_Annotations>")
    with refused(rf"s\.xml: 50 {limits.OBJECTS.what}", DataError):
        read_annotation_file(tmp_path / "s.xml", "s")


def test_a_packed_dataset_of_hdf5_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        shape = (1 << 20, 128)
        empty = file.create_dataset("features", shape, "f4", chunks=(1024, 128), compression="gzip")
        empty[:1024] = 0
        with refused(rf"s\.h5: features: .* {limits.PACKED.what}", DataError):
            h5_dataset(file, "features", path)
        file.create_dataset("coords", data=np.zeros((10_000, 2), "i8"), compression="gzip")
        assert h5_dataset(file, "coords", path).shape == (10_000, 2)


def test_a_compressed_array_of_zarr_is_refused(tmp_path: Path) -> None:
    group = zarr.create_group(store=str(tmp_path / "s.zarr"))
    packed: list[dict[str, Any]] = [
        {"chunks": (1024, 2)},
        {"chunks": (1024, 2), "compressors": zarr.codecs.GzipCodec()},
        {"chunks": (1024, 2), "shards": (4096, 2)},
    ]
    for number, how in enumerate(packed):
        group.create_array(str(number), shape=(4096, 2), dtype="f2", **how)
        with refused(rf"{number} is compressed", StoreError):
            _values(group, str(number))
        group.create_array(f"plain{number}", shape=(4096, 2), dtype="f2", **{**how, "compressors": None})
        assert _values(group, f"plain{number}").shape == (4096, 2)


def test_a_pt_file_of_the_old_form_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert list(read_checkpoint(path)) == ["w"]
    with path.open("r+b") as handle:
        handle.truncate(limits.ARRAY_BYTES.most + 1)
    with refused(limits.ARRAY_BYTES.what):
        read_checkpoint(path)
