"""What was not changed is not compared again; whatever was changed is, and damage is found as before."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsi_mil
from wsi_mil.config import load_config
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution import supervision
from wsi_mil.io.files import digest_file, digest_json
from wsi_mil.run import states
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.run.states import (
    FileState,
    digest_of_states,
    file_state,
    states_below,
    states_of,
    without_unchanged,
)
from wsi_mil.stages import run_pipeline

STATE = FileState(3, 5, 7)


def test_each_part_of_a_state_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [STATE._replace(size_bytes=4), STATE._replace(mtime_ns=6), STATE._replace(inode=8), None]
    found = {digest_of_states(["a"], [other], [STATE]) for other in (*others, STATE)}
    found |= {digest_of_states(["a"], [STATE], [STATE, other]) for other in others[:3]}
    found |= {digest_of_states(["b"], [STATE], [STATE]), digest_of_states(["a"], [], [STATE])}
    assert len(found) == 10
    states._program.cache_clear()
    monkeypatch.setattr(wsi_mil, "__version__", "another")
    assert digest_of_states(["a"], [STATE], [STATE]) not in found
    states._program.cache_clear()


@pytest.mark.parametrize("made", [[], [None], [STATE, None]])
def test_a_file_that_was_made_and_is_not_there_gives_no_state(made: list[FileState | None]) -> None:
    assert digest_of_states(["a"], [STATE], made) == ""


def test_the_states_of_files_and_folders(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, size in (("a/b/deep", 5), ("a/flat", 3)):
        (tmp_path / name).write_bytes(b"x" * size)
    os.utime(tmp_path / "a" / "flat", ns=(1, 2))
    assert [state and state.size_bytes for state in states_below(run, "a")] == [5, 3]
    assert states_of(run, ["a/flat", "a/none"]) == [file_state(tmp_path / "a" / "flat"), None]
    flat = states_of(run, ["a/flat"])[0]
    assert flat is not None
    assert (flat.mtime_ns, flat.inode) == (2, (tmp_path / "a" / "flat").stat().st_ino)
    assert states_below(run, "none") == [None]


def test_only_slides_of_another_state_are_given_to_the_work(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    recorded = [
        ("same", "done", "1"),
        ("other", "done", "1"),
        ("none", "empty", ""),
        ("failed", "failed", "1"),
    ]
    for slide_id, status, state in recorded:
        run.ledger.put(Outcome(slide_id, "tile", status, "why", digest="d", state=state))  # type: ignore[arg-type]
    jobs = [Outcome(slide_id, "tile", "done") for slide_id in ("same", "other", "none", "failed", "new")]
    now = {"other": "2"}
    given: list[str] = []

    def work(waiting: list[Outcome]) -> Iterator[Outcome]:
        given.extend(job.slide_id for job in waiting)
        yield from waiting

    found = list(without_unchanged(run, "tile", jobs, lambda job: now.get(job.slide_id, "1"), work))
    assert given == ["other", "none", "failed", "new"]
    assert [(row.slide_id, row.reused) for row in found] == [
        ("same", True),
        *((name, False) for name in given),
    ]


def test_a_table_of_an_earlier_version_has_no_states(tmp_path: Path) -> None:
    """As version 0.1.0 of 2026-11-27 wrote it; the digest of the row is of the columns that it has."""
    path = tmp_path / "outcomes.csv"
    path.write_text(
        "slide_id,stage,status,reason,counts,digest,seconds,row_digest\n"
        "s0,tile,done,tissue by otsu,tiles=7,abc,0.25,{}\n".format(
            digest_json(["s0", "tile", "done", "tissue by otsu", "tiles=7", "abc", "0.25"])[:8]
        )
    )
    table = OutcomeTable(path)
    assert (table.damaged, table.rows()[0].state, table.rows()[0].counts) == ([], "", {"tiles": 7})
    table.put(Outcome("s0", "tile", "done", state="1234"))
    table.save()
    assert OutcomeTable(path).rows()[0].state == "1234"


def test_a_table_without_changes_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    table = OutcomeTable(path)
    table.put(Outcome("a", "tile", "done"))
    table.save()
    before = file_state(path)
    table.save()
    assert file_state(path) == before
    table.remove("b", "tile")
    table.keep_only({"a"})
    table.save()
    assert file_state(path) == before
    assert OutcomeTable(path).rows() == table.rows()
    table.keep_only(set())
    table.save()
    assert OutcomeTable(path).rows() == []


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, whose files were compared once since they were copied."""
    shutil.copytree(small_run, tmp_path / "run")
    config = load_config(tmp_path / "run").model_copy(update={"run": tmp_path / "run"})
    run_pipeline(config)
    return tmp_path / "run"


def again(run: Path) -> dict[str, int]:
    return run_pipeline(load_config(run)).work


def drawn_slide(run: Path) -> str:
    """Return a slide that has a heatmap: one of the test part."""
    return sorted(RunFolder(run).read_index("focus_mil"))[0]


def test_the_second_run_starts_no_worker_and_writes_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: file_state(path) for path in run.rglob("*") if path.is_file()}

    def started(*arguments: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(supervision, "start_worker", started)
    assert set(again(run).values()) == {0}
    assert {path: file_state(path) for path in before} == before


@pytest.mark.usefixtures("work_here")
def test_a_file_of_another_time_is_compared_and_its_new_state_recorded(run: Path) -> None:
    slide_id = drawn_slide(run)
    heatmap = RunFolder(run).heatmap("focus_mil", slide_id, "png")
    known = RunFolder(run).ledger.get(slide_id, "heatmap focus_mil")
    os.utime(heatmap)
    assert again(run)["heatmap"] == 0
    found = RunFolder(run).ledger.get(slide_id, "heatmap focus_mil")
    assert known is not None
    assert found is not None
    assert (found.digest, found.seconds) == (known.digest, known.seconds)
    assert found.state not in ("", known.state)


DAMAGED = {
    "previews/{}.jpg": "tile",
    "slides/{}.zarr/zarr.json": "tile",
    "slides/{}.zarr/tiles/zarr.json": "tile",
    "slides/{}.zarr/tiles/coords/c/0/0": "tile",
    "slides/{}.zarr/tiles/tissue/c/0": "tile",
    "slides/{}.zarr/features/texture/zarr.json": "extract",
    "scores/focus_mil/tiles/{}.parquet": "score",
    "heatmaps/focus_mil/{}.png": "heatmap",
}


@pytest.mark.usefixtures("work_here")
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_found_by_its_stage_and_the_file_is_made_again(run: Path, name: str) -> None:
    path = run / name.format(drawn_slide(run))
    before = digest_file(path)
    data = bytearray(path.read_bytes())
    if path.suffix == ".parquet":  # the middle may be a part that no reader needs
        data[4:20] = bytes(16)  # the header of the first page
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert again(run)[DAMAGED[name]] == 1
    assert digest_file(path) == before


@pytest.mark.usefixtures("work_here")
def test_an_edited_outline_is_used(run: Path) -> None:
    path = RunFolder(run).tissue(drawn_slide(run))
    path.write_text(path.read_text().replace('"Tissue"', '"Background"', 1))
    assert again(run)["tile"] == 1
