"""Who holds a run folder: owners that live, that died, that fell silent, and two that come at once."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wsi_mil.errors import StoreError
from wsi_mil.run import lock
from wsi_mil.run.lock import locked

HERE = socket.gethostname()


def leave(folder: Path, age_s: float = 0, **owner: object) -> Path:
    """A lock that somebody left, last touched `age_s` seconds ago."""
    path = folder / ".lock"
    path.write_text(json.dumps(owner))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_the_error_of_a_second_process_names_the_first(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(StoreError, match=rf"in use by .*{HERE}.*{os.getpid()}.*remove"),
        locked(tmp_path),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_a_process_that_was_killed_leaves_a_lock_that_the_next_takes_over(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from wsi_mil.run.lock import locked
with locked(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("owner", "age_s", "stale"),
    [
        ({"host": HERE, "pid": 999999999}, 0, True),
        ({"host": HERE, "pid": os.getppid()}, 9999, False),  # lives, and may be suspended
        ({"host": HERE, "pid": os.getppid(), "started": "1"}, 0, True),  # another process has its number now
        ({"host": "elsewhere", "pid": 1}, 200, False),
        ({"host": "elsewhere", "pid": 1}, 400, True),
        ({"nonsense": 1}, 200, False),
        ({"nonsense": 1}, 400, True),
    ],
)
def test_when_a_lock_is_stale(tmp_path: Path, owner: dict[str, object], age_s: float, stale: bool) -> None:
    leave(tmp_path, age_s, **owner)
    if stale:
        with locked(tmp_path):
            pass
        assert os.listdir(tmp_path) == []
    else:
        with pytest.raises(StoreError, match="in use by"), locked(tmp_path):
            pass
        assert os.listdir(tmp_path) == [".lock"]


def test_the_owner_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / ".lock", (1, 1))
        wait_for(lambda: (tmp_path / ".lock").stat().st_mtime > 1e9)


def test_an_owner_whose_lock_was_taken_says_so_and_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.02)
    with caplog.at_level(logging.ERROR, "wsi_mil"), locked(tmp_path):
        leave(tmp_path, host="elsewhere", pid=7, token="theirs")
        wait_for(lambda: "was replaced" in caplog.text)
    assert json.loads((tmp_path / ".lock").read_text())["token"] == "theirs"


class Counter:
    """How many hold the lock now, how many did at most at once, how many were refused."""

    def __init__(self) -> None:
        self.inside, self.most, self.refused = 0, 0, 0
        self.guard = threading.Lock()

    def come(self, folder: Path, start: threading.Barrier, stay: threading.Barrier) -> None:
        start.wait()
        try:
            with locked(folder):
                with self.guard:
                    self.inside += 1
                    self.most = max(self.most, self.inside)
                stay.wait()
                with self.guard:
                    self.inside -= 1
        except StoreError:
            with self.guard:
                self.refused += 1
            stay.wait()


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    for _ in range(30):
        leave(tmp_path, host=HERE, pid=999999999)
        counter, start, stay = Counter(), threading.Barrier(6), threading.Barrier(6)
        threads = [threading.Thread(target=counter.come, args=(tmp_path, start, stay)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (counter.most, counter.refused) == (1, 5)
        assert os.listdir(tmp_path) == []


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")
