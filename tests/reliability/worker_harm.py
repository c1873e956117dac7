"""Harm the files of slides from within the worker process that reads them."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.harm import HARMS
from wsi_mil.contracts.arrays import RGB
from wsi_mil.slides import SlideReader


@dataclass(frozen=True)
class Harm:
    """What happens to the file of a slide. name: of HARMS. regions: how many the stage reads before it; None:
    it happens between two stages, before the slide is opened."""

    path: Path
    name: str
    regions: int | None

    def happen(self) -> None:
        HARMS[self.name][0](self.path)

    def explains(self, reason: str) -> bool:
        """Whether the reason of a failed slide says what has happened."""
        word = HARMS[self.name][1]
        if self.regions is not None:
            return f"was {word} while it was read: expected " in reason
        if word == "removed":
            return "no file at " in reason
        other = "its file is not the one that was tiled" in reason
        return other or (self.name == "no slide" and "cannot be opened" in reason)


def harm_in_workers(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, harms: Mapping[str, Harm]
) -> None:
    """Let slides be harmed while `module.function` works on them in worker processes. harms: by slide id."""
    found = import_module(module)
    monkeypatch.setattr(found, function, partial(_harming, dict(harms), module, function))


def _harming(harms: dict[str, Harm], module: str, function: str, *arguments: Any) -> Any:
    """Call the function in a worker, where the module has the original."""
    assert current_process().daemon, "this is no worker process"
    patches = _patches()
    patches.clear()
    patches.update(harms)
    return getattr(import_module(module), function)(*(_between_stages(harms, one) for one in arguments))


def _between_stages(harms: dict[str, Harm], argument: Any) -> Any:
    """Harm the slide of a job, or that of each job of an iterator when it is asked for."""
    if isinstance(argument, Iterator):
        return (_between_stages(harms, job) for job in argument)
    harm = harms.get(getattr(argument, "slide_id", ""))
    if harm is not None and harm.regions is None:
        harm.happen()
    return argument


@cache
def _patches() -> dict[str, Harm]:
    """Patch the reading of regions in this process; return the harm to come, by slide."""
    to_come, counts, lock, own = (
        dict[str, Harm](),
        dict[str, int](),
        threading.Lock(),
        SlideReader.read_region,
    )

    def read_region(self: SlideReader, *place: int) -> RGB:
        slide_id = self.info.slide_id
        with lock:
            counts[slide_id] = counts.get(slide_id, 0) + 1
            harm = to_come.get(slide_id)
            if harm is not None and harm.regions is not None and counts[slide_id] == harm.regions + 1:
                harm.happen()
        return own(self, *place)

    SlideReader.read_region = read_region  # type: ignore[method-assign]
    return to_come
