"""errors/<slide>.txt: the tracebacks of a slide that failed, one section per stage."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import wsi_mil
from wsi_mil.config.provenance import package_versions
from wsi_mil.contracts.outcome import Outcome
from wsi_mil.errors import WsiMilError
from wsi_mil.execution.guard import traceback_of
from wsi_mil.io.files import remove, write_text
from wsi_mil.logs import logger
from wsi_mil.run.folder import RunFolder

START = "stage: "
INDENT = "    "
"""The lines of a traceback are indented, so that none of them is taken for the start of a section."""


@contextmanager
def keeping_traceback(folder: Path) -> Iterator[None]:
    """Write the traceback of an unexpected error of a whole command into error.txt of a run folder.

    An error with a message for the user needs no file: `wsi-mil -v` shows its traceback. The file is removed
    when a later command succeeds.
    """
    path = folder / "error.txt"
    try:
        yield
    except (WsiMilError, OSError):
        raise
    except Exception as error:
        try:
            write_text(path, f"{_head()}\n{traceback_of(error)}\n")
            logger().warning("the traceback of an unexpected error is in %s", path)
        except (WsiMilError, OSError):
            logger().debug("%s cannot be written", path, exc_info=True)
        raise
    remove(path)


def update_error_file(run: RunFolder, outcome: Outcome) -> None:
    """Write the section of a failed outcome, or remove that of a stage which succeeded.

    A file that cannot be written is a warning: the outcome has the reason, and the other slides continue.
    """
    if outcome.status != "failed" and not (run.path / "errors").is_dir():
        return
    path = run.error_file(outcome.slide_id)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        sections = {name: text for name, text in _sections(before).items() if name != outcome.stage}
        if outcome.status == "failed":
            sections[outcome.stage] = _section(outcome)
        if sections:
            text = "\n".join(sections.values())
            if text != before:
                write_text(path, text)
        else:
            remove(path)
    except (WsiMilError, OSError, UnicodeDecodeError) as error:
        logger().warning("%s: the error file %s cannot be written: %s", outcome.slide_id, path, error)
        logger().debug("error file of %s", outcome.slide_id, exc_info=True)


def _sections(text: str) -> dict[str, str]:
    """Return stage -> section."""
    parts = ("\n" + text).split("\n" + START)[1:]
    return {part.partition("\n")[0]: f"{START}{part.rstrip()}\n" for part in parts}


def _section(outcome: Outcome) -> str:
    lines = [
        START + outcome.stage,
        _head(),
        f"slide: {outcome.slide_id}",
        f"reason: {outcome.reason}",
        "traceback:" if outcome.traceback else "no traceback: its process ended",
        *(INDENT + line for line in outcome.traceback.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def _head() -> str:
    """Return the time and the versions of the packages."""
    packages = " ".join(f"{name} {found}" for name, found in package_versions().items())
    return (
        f"time: {datetime.now(UTC).isoformat(timespec='seconds')}\n"
        f"versions: wsi_mil {wsi_mil.__version__} python {platform.python_version()} {packages}"
    )
