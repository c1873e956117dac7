"""Outcomes are on disk while a stage still runs, and saving does not take the time of the work."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.run import recording
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.run.recording import PacedSave, record_outcomes


def test_outcomes_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(recording, "SAVING_FRACTION", 1e9)
    seen: list[int] = []

    def outcomes() -> Iterator[Outcome]:
        for number in range(3):
            table = OutcomeTable(tmp_path / "outcomes.csv")
            seen.append(len(table.rows("tile")))
            yield Outcome(f"s{number}", "tile", "done", digest=str(number))

    assert record_outcomes(RunFolder(tmp_path), "tile", outcomes(), 3) == 3
    assert seen == [0, 1, 2]


def test_a_stop_in_the_middle_keeps_what_was_finished(tmp_path: Path) -> None:
    def outcomes() -> Iterator[Outcome]:
        yield Outcome("a", "tile", "done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_outcomes(RunFolder(tmp_path), "tile", outcomes(), 2)
    assert [row.slide_id for row in OutcomeTable(tmp_path / "outcomes.csv").rows()] == ["a"]


def test_workers_stop_before_the_table_is_saved_the_last_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def outcomes() -> Iterator[Outcome]:
        try:
            yield Outcome("a", "tile", "done")
            yield Outcome("b", "tile", "done")
        finally:
            happened.append("stopped")

    def interrupted(self: PacedSave) -> None:
        raise KeyboardInterrupt  # between two outcomes

    run, kept = RunFolder(tmp_path), outcomes()
    # the bar of a terminal does not close what it iterates; without a bar tqdm does
    monkeypatch.setattr(recording, "progress", lambda items, **options: iter(items))
    monkeypatch.setattr(PacedSave, "changed", interrupted)
    monkeypatch.setattr(run.ledger, "save", lambda: happened.append("saved"))
    with pytest.raises(KeyboardInterrupt):
        record_outcomes(run, "tile", kept, 2)
    assert happened == ["stopped", "saved"]


def test_a_reused_outcome_keeps_the_row_of_the_work(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.ledger.put(Outcome("a", "tile", "done", "", {"tiles": 4}, "d", 2.0))
    rows = [
        Outcome("a", "tile", "done", digest="d", reused=True),
        Outcome("b", "tile", "empty", "no tissue"),
        Outcome("c", "tile", "failed", "cannot be opened"),
    ]
    assert record_outcomes(run, "tile", rows, 3) == 2
    found = run.ledger.get("a", "tile")
    assert found is not None
    assert (found.counts, found.seconds) == ({"tiles": 4}, 2.0)
    assert run.ledger.summary("tile") == "1 done, 1 empty, 1 failed"


def test_slow_saving_becomes_rare() -> None:
    calls: list[float] = []

    def save() -> None:
        calls.append(time.monotonic())
        time.sleep(0.02)

    with PacedSave(save) as saving:
        started = time.monotonic()
        while time.monotonic() - started < 0.5:
            saving.changed()
    assert len(calls) <= 4  # each save of 0.02 s is followed by 0.4 s without one; leaving saves once more
    assert len(calls) >= 2
