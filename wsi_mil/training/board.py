"""TensorBoard's events of a training."""

import threading
from pathlib import Path
from typing import Any

from wsi_mil.logs import logger

_BEFORE = threading.excepthook


def event_writer(folder: Path | None) -> Any:
    """Return a writer of TensorBoard events into `<folder>/tensorboard`; None without a folder."""
    if folder is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    threading.excepthook = _report
    return SummaryWriter(str(folder / "tensorboard"))


def _report(arguments: Any) -> None:
    """Log an error of the disk in the thread that writes events, which would print a traceback.

    The training's own files, which are written right after, name themselves.
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
