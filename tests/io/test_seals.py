"""Digests inside files: every flip of a byte is noticed, or changes nothing that is read."""

from pathlib import Path

import pytest

from wsi_mil.errors import StoreError
from wsi_mil.io import seals
from wsi_mil.io.json import json_text, read_json, write_json
from wsi_mil.io.seals import DamagedFileError, changed_files, current_digest, file_digests, sealed, unsealed

VALUE = {"threshold": 0.4173, "names": ("a", "b"), "of": {"1": None, "µ": [1e-9, True]}, 3: "three"}


def test_a_json_object_reads_back_without_its_digest(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": (1, 2.5), "b": {"c": None}})
    assert "content_digest" in (tmp_path / "x.json").read_text()
    assert read_json(tmp_path / "x.json") == {"a": [1, 2.5], "b": {"c": None}}


def test_every_flipped_bit_of_a_json_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {key: value for key, value in VALUE.items() if isinstance(key, str)})
    whole, value = path.read_bytes(), read_json(path)
    noticed = 0
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                found = read_json(path)
            except DamagedFileError:
                noticed += 1
                continue
            # the name of the digest's own key is the one text that a flip can change unnoticed
            assert {key: found[key] for key in value} == value
    assert noticed > 7 * len(whole)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"a"', "\x00\x00", "[" * 100_000])
def test_what_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StoreError, match=r"x\.json is damaged: expected (a )?JSON"):
        read_json(tmp_path / "x.json")


def test_keys_and_tuples_have_the_digest_of_what_is_read() -> None:
    import json

    assert unsealed(json.loads(json.dumps(sealed(VALUE))), "x")["3"] == "three"
    assert sealed(sealed(VALUE)) == sealed(VALUE)


def test_files_of_earlier_versions_are_read_and_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seals._note_unsealed.cache_clear()
    (tmp_path / "x.json").write_text(json_text({"a": 1}))
    with caplog.at_level("INFO", "wsi_mil"):
        assert read_json(tmp_path / "x.json") == read_json(tmp_path / "x.json") == {"a": 1}
    assert caplog.text.count("written without digests") == 1


def test_each_state_of_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    read: list[str] = []
    plain = seals.digest_file
    monkeypatch.setattr(seals, "digest_file", lambda path: read.append(path.name) or plain(path))
    first = file_digests(tmp_path, ["*"])
    read.clear()
    assert changed_files(tmp_path, first) == changed_files(tmp_path, first) == []
    assert read == ["a", "b"]
    (tmp_path / "a").write_text("longer")
    (tmp_path / "b").unlink()
    assert changed_files(tmp_path, first) == ["a", "b"]
    assert current_digest(tmp_path / "b") is None
