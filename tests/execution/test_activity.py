"""Activities within each other and in several threads: what a dead worker did is the reason of its slide."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution import ExecutionSpec, map_slides
from wsi_mil.execution import activity as activities_of_this_process
from wsi_mil.execution.activity import Reported, activities, activity


@dataclass(frozen=True)
class Named:
    slide_id: str


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reported]:
    found = Reported()
    monkeypatch.setattr(activities_of_this_process, "_reports", [found.put])
    yield found
    assert found.of("a") == found.of("b") == ""


def test_after_an_inner_activity_the_outer_one_is_named_again(reported: Reported) -> None:
    with activity("a", "finding tissue"):
        with activity("a", "reading tiles"):
            assert reported.of("a") == "reading tiles"
        assert reported.of("a") == "finding tissue"
        with activity("b", "opening"):
            assert (reported.of("a"), reported.of("b")) == ("finding tissue", "opening")
            assert [slide_id for _, slide_id in reported.opening()] == ["b"]


def test_an_error_ends_an_activity(reported: Reported) -> None:
    def fail() -> None:
        with activities(["a", "b", "a"], "reading tiles"):
            assert reported.of("b") == "reading tiles"
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()


def test_threads_have_activities_of_their_own(reported: Reported) -> None:
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with activity("a", "reading tiles"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=read)
    with activity("a", "computing features"):
        thread.start()
        assert inside.wait(10)
        assert reported.of("a") == "computing features and reading tiles"
    assert reported.of("a") == "reading tiles"
    leave.set()
    thread.join()


def abort_after_an_inner_activity(job: Named) -> Outcome:
    with activity(job.slide_id, "finding tissue"):
        with activity(job.slide_id, "reading tiles"):
            pass
        os.abort()


def abort_in_a_thread(job: Named) -> Outcome:
    def read() -> None:
        with activity(job.slide_id, "reading tiles"):
            os.abort()

    with activity(job.slide_id, "opening"):
        pass
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    raise AssertionError("the process has ended")


@pytest.mark.parametrize(
    ("work", "doing"),
    [(abort_after_an_inner_activity, "finding tissue"), (abort_in_a_thread, "reading tiles")],
)
def test_the_reason_of_a_killed_slide(work: object, doing: str) -> None:
    assert callable(work)
    [outcome] = map_slides(work, [Named("a")], stage="tile", spec=ExecutionSpec(workers=1))
    assert outcome.reason == f"killed by signal 6 (SIGABRT) while {doing}"
