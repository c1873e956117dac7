"""errors/<slide>.txt holds the traceback of a failed slide until its stage succeeds."""

import errno
import logging
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsi_mil.cli.main import main
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import MachineError, SlideError
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.execution.guard import LONGEST_TRACEBACK, cause_of, outcome_of, traceback_of
from wsi_mil.run import recording
from wsi_mil.run.folder import RunFolder
from wsi_mil.run.lock import locked
from wsi_mil.run.outcomes import OutcomeTable
from wsi_mil.run.recording import record_outcomes


@dataclass(frozen=True)
class Job:
    slide_id: str


def deep_inside(job: Job) -> Outcome:
    try:
        raise ValueError("stage: not a section\nstage: tile")
    except ValueError as error:
        raise SlideError(f"slide {job.slide_id!r} is damaged") from error


def full(slide_id: str, stage: str = "tile") -> Outcome:
    def write(job: Job) -> Outcome:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    return outcome_of(write, stage, Job(slide_id))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_traceback_of_a_worker_process_reaches_the_file(tmp_path: Path, workers: int) -> None:
    run, jobs = RunFolder(tmp_path), [Job("centre 1/a"), Job("b")]
    outcomes = map_slides(deep_inside, jobs, stage="tile", spec=ExecutionSpec(workers=workers))
    record_outcomes(run, "tile", outcomes, 2)
    text = (tmp_path / "errors" / "centre 1" / "a.txt").read_text()
    assert text.startswith("stage: tile\ntime: 20")
    assert "reason: slide 'centre 1/a' is damaged" in text
    assert "versions: wsi_mil " in text
    assert "in deep_inside" in text
    assert "ValueError: stage: not a section" in text  # the cause of the error
    assert "Traceback" not in (tmp_path / "outcomes.csv").read_text()
    assert OutcomeTable(tmp_path / "outcomes.csv").rows()[0].traceback == ""


def test_each_stage_has_a_section_that_its_success_removes(tmp_path: Path) -> None:
    run, path = RunFolder(tmp_path), tmp_path / "errors" / "a.txt"
    for stage in ("tile", "extract", "tile"):
        record_outcomes(run, stage, [outcome_of(deep_inside, stage, Job("a"))], 1)
    starts = [line for line in path.read_text().splitlines() if line.startswith("stage: ")]
    assert starts == ["stage: extract", "stage: tile"]
    record_outcomes(run, "tile", [Outcome("a", "tile", "done")], 1)
    assert path.read_text().count("stage: extract\n") == 1
    assert "stage: tile\ntime" not in path.read_text()
    record_outcomes(run, "extract", [Outcome("a", "extract", "empty", "no tiles", reused=True)], 1)
    assert not path.exists()


def test_a_traceback_is_shown_with_verbose_and_survives_pickling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("wsi_mil"), "propagate", True)
    outcome = pickle.loads(pickle.dumps(outcome_of(deep_inside, "tile", Job("a"))))
    with caplog.at_level(logging.DEBUG, "wsi_mil"):
        record_outcomes(RunFolder(tmp_path), "tile", [outcome], 1)
    assert "in deep_inside" in caplog.text


def test_an_error_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("wsi_mil"), "propagate", True)
    (tmp_path / "errors").write_text("a file where the folder should be")
    record_outcomes(RunFolder(tmp_path), "tile", [outcome_of(deep_inside, "tile", Job("a"))], 1)
    assert OutcomeTable(tmp_path / "outcomes.csv").rows()[0].status == "failed"
    assert "a.txt cannot be written" in caplog.text


def test_a_hostile_message_stays_small_and_acts_on_no_terminal() -> None:
    try:
        raise ValueError("\x1b[2J" + "x" * 10_000_000)
    except ValueError as error:
        text = traceback_of(error)
    assert len(text) < LONGEST_TRACEBACK + 100
    assert "characters left out" in text
    assert "\x1b" not in text


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


def test_causes_are_known_by_type() -> None:
    wrapped = SlideError("cannot be written")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert cause_of(wrapped) == "machine"
    wrapped.__cause__ = wrapped
    assert cause_of(wrapped) == "slide"
    assert cause_of(MachineError("disk")) == "machine"
    assert cause_of(OSError(errno.EDQUOT, "quota")) == "machine"
    assert cause_of(OutOfMemoryError("CUDA out of memory")) == "memory"
    assert cause_of(PermissionError(errno.EACCES, "may not be read", "slide.svs")) == "slide"
    assert cause_of(ValueError("No space left on device")) == "slide"


def done(*names: str) -> list[Outcome]:
    return [Outcome(name, "tile", "done") for name in names]


def memory(*names: str) -> list[Outcome]:
    return [Outcome(name, "tile", "failed", "killed by signal 9", cause="memory") for name in names]


def test_a_stage_stops_the_run_where_most_slides_failed_because_of_the_machine(tmp_path: Path) -> None:
    rows = [*done("a"), full("b"), full("c")]
    with pytest.raises(MachineError, match=r"tile: 2 of 3 slides failed because of this machine.*No space"):
        record_outcomes(RunFolder(tmp_path), "tile", rows, 3)
    assert len(OutcomeTable(tmp_path / "outcomes.csv").rows("tile")) == 3
    assert record_outcomes(RunFolder(tmp_path), "tile", [*done("a", "b"), full("c")], 3) == 3


def test_reused_slides_do_not_hide_a_full_disk_and_memory_is_counted_over_all(tmp_path: Path) -> None:
    reused = [Outcome(name, "tile", "done", reused=True) for name in "abc"]
    with pytest.raises(MachineError, match="1 of 1 slides"):
        record_outcomes(RunFolder(tmp_path), "tile", [*reused, full("d")], 4)
    assert record_outcomes(RunFolder(tmp_path), "tile", [*reused, *memory("d")], 4) == 1
    with pytest.raises(MachineError, match=r"3 of 4 slides.*signal 9"):
        record_outcomes(RunFolder(tmp_path), "tile", [*done("a"), *memory("b", "c", "d")], 4)


def test_a_full_disk_ends_a_stage_early(tmp_path: Path) -> None:
    tried: list[str] = []

    def outcomes() -> Iterator[Outcome]:
        yield from done("first")
        for number in range(100):
            tried.append(str(number))
            yield full(str(number))

    with pytest.raises(MachineError, match="10 of 11 slides"):
        record_outcomes(RunFolder(tmp_path), "tile", outcomes(), 101)
    assert len(tried) == recording.STOPS_AFTER


def test_an_unexpected_error_of_a_command_leaves_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    assert "ZeroDivisionError" in (tmp_path / "error.txt").read_text()
    with pytest.raises(SlideError), locked(tmp_path):
        raise SlideError("a message for the user")
    assert "ZeroDivisionError" in (tmp_path / "error.txt").read_text()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verbose", [False, True])
def test_the_command_line_ends_in_one_line_and_shows_the_traceback_on_request(
    verbose: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise KeyError("a fault of the program")

    monkeypatch.setattr("wsi_mil.config.load_config", fails)
    with pytest.raises(SystemExit) as stop:
        main([*(["-v"] if verbose else []), "demo"])
    shown = capsys.readouterr().err
    assert stop.value.code == 1
    assert "error: unexpected KeyError: 'a fault of the program': `wsi-mil -v` shows the traceback" in shown
    assert ("in fails" in shown) is verbose
    assert verbose or len(shown.splitlines()) == 1
