"""Damaged files of audits and of poison experiments: made again or left out, and named in a warning."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.stages import handmade
from wsi_mil.errors import StoreError
from wsi_mil.experiments.poison_jobs import TRAINING_FORMAT, is_done
from wsi_mil.experiments.poison_store import poisoned_store
from wsi_mil.io.json import read_json, write_json
from wsi_mil.io.seals import DamagedFileError
from wsi_mil.report.source import undamaged
from wsi_mil.robustness import PoisonSpec
from wsi_mil.run.folder import RunFolder


def damage(path: Path, old: str, new: str) -> None:
    """Change a text in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_damaged_training_is_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job: Any = SimpleNamespace(result=tmp_path / "mi_net_none_fold0.json", inputs="abc")
    assert not is_done(job)
    write_json(job.result, {"inputs_digest": "abc", "train_auc": 0.5})
    assert not is_done(job)  # of an earlier version
    write_json(job.result, {"format_version": TRAINING_FORMAT, "inputs_digest": "abc", "train_auc": 0.5})
    assert is_done(job)
    assert caplog.text == ""
    damage(job.result, "0.5", "0.6")
    assert not is_done(job)
    assert f"poison: a training is done again: {job.result} is damaged" in caplog.text


def test_a_damaged_file_is_left_out_of_the_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(path: Path) -> dict[str, Any]:
        return read_json(path, "run `wsi-mil audit` again")

    whole, broken, absent = (tmp_path / f"{name}.json" for name in ("whole", "broken", "absent"))
    for path in (whole, broken):
        write_json(path, {"model": "m", "slides": 18})
    damage(broken, "18", "19")
    assert undamaged([whole, broken, absent], read) == [(whole, {"model": "m", "slides": 18})]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"report: left out: {broken} is damaged")
    assert line.endswith("run `wsi-mil audit` again")
    with pytest.raises(DamagedFileError):
        read(broken)


def test_what_is_wrong_with_a_poisoned_store_is_mended_by_poison(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    store = poisoned_store(run, PoisonSpec(), "a")
    handmade.store_tiles(run, "a")
    store.write_tiles(handmade.table("a"), handmade.info("a"), "by hand")
    for one, command in ((store, "poison` again"), (run.store("a"), "extract`")):
        with pytest.raises(StoreError, match=f"run `wsi-mil {command}"):
            one.map_features("texture")
    damage(store.path / "tiles" / "zarr.json", '"rows": 24', '"rows": 25')
    with pytest.raises(DamagedFileError, match="run `wsi-mil poison` again"):
        store.read_tiles()
