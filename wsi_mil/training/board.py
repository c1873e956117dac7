"""TensorBoard's events of a training."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_mil.logs import logger

_BEFORE = threading.excepthook


class EventWriter:
    """Writes TensorBoard events into `<folder>/tensorboard`. After an error of the disk a training
    continues without them: an error of its own files names the file."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = _report
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def add(self, row: Mapping[str, float], epoch: int) -> None:
        """Write the numbers of an epoch."""
        try:
            for name, value in row.items() if self._writer else ():
                self._writer.add_scalar(name, value, epoch)
        except OSError:  # of its thread, which has reported it
            self._writer = None

    def close(self) -> None:
        """Write what waits, and close the file."""
        try:
            if self._writer:
                self._writer.close()
        except OSError as error:
            logger().debug("TensorBoard's events were not closed: %s", error, exc_info=True)


def _report(arguments: Any) -> None:
    """Log an error of the disk in the thread that writes events, which would print a traceback.

    The training's own files are written right after, and their errors name the file.
    """
    if isinstance(arguments.exc_value, OSError) and _is_of_tensorboard(arguments.exc_traceback):
        logger().warning("train: TensorBoard's events cannot be written: %s", arguments.exc_value)
    else:
        _BEFORE(arguments)


def _is_of_tensorboard(traceback: Any) -> bool:
    while traceback is not None:
        if "tensorboard" in Path(traceback.tb_frame.f_code.co_filename).parts:
            return True
        traceback = traceback.tb_next
    return False
