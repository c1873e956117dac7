"""Signals that end a command: all of them end it as Ctrl-C does, so that it leaves nothing behind."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from wsi_mil.cli.exit_codes import SIGNAL

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C; the end of a cluster job's time or of a container; a terminal that was closed."""
WAIT = b"stopping: finished slides are being saved\n"


@dataclass
class Received:
    """The first signal that has ended the command; 0 before there is one."""

    number: int = 0

    @property
    def exit_code(self) -> int:
        """Return 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP, and 130 if there was no signal."""
        return SIGNAL + (self.number or signal.SIGINT)


@contextmanager
def ending_like_ctrl_c() -> Iterator[Received]:
    """Until the end of the with statement, the first of these signals raises KeyboardInterrupt.

    Later ones print a line: another exception in the middle of the clean-up would leave processes and half
    written files behind. A signal that is ignored stays so (`nohup` ignores SIGHUP).
    """
    received = Received()

    def end(number: int, frame: FrameType | None) -> None:
        if received.number:
            _write(WAIT)
            return
        received.number = number
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # Python sets handlers in no other thread
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, end)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(text: bytes) -> None:
    try:
        os.write(2, text)  # `print` may be in the middle of its own work when a signal arrives
    except OSError:
        return  # the terminal was closed
