"""Let a library end the worker process that works on a slide."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from wsi_mil.slides import SlideReader

OPENING = "wsi_mil.slides.opening:_open"
READING = "wsi_mil.slides.base:SlideReader.read_region"
OUTLINES = "wsi_mil.evaluation.annotations.reading:read_annotation_file"
FEATURES = "wsi_mil.interop.layouts.trident:Trident.read"


@dataclass(frozen=True)
class Aborts:
    """Which slide ends the process, by the function that does it (`module:name`). Each time `marks` grows."""

    slides: Mapping[str, str]
    marks: Path

    def count(self) -> int:
        return self.marks.stat().st_size if self.marks.exists() else 0

    def in_workers(self, monkeypatch: pytest.MonkeyPatch, module: str, function: str) -> None:
        """Let `module.function`, which worker processes call, abort on these slides."""
        monkeypatch.setattr(import_module(module), function, partial(_aborting, self, module, function))


def _aborting(aborts: Aborts, module: str, function: str, *arguments: Any) -> Any:
    for place, slide_id in aborts.slides.items():
        name, _, path = place.partition(":")
        *outer, last = path.split(".")
        owner = reduce(getattr, outer, import_module(name))
        own = getattr(owner, last)
        if not isinstance(own, _Patched):
            setattr(owner, last, _Patched(own, slide_id, aborts.marks))
    return getattr(import_module(module), function)(*arguments)


@dataclass(frozen=True)
class _Patched:
    own: Any
    slide_id: str
    marks: Path

    def __get__(self, instance: object, kind: type | None = None) -> Any:
        """As a method, get the instance as first argument."""
        return self if instance is None else partial(self, instance)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.slide_id in map(_slide_id, arguments):
            with self.marks.open("a") as file:
                file.write("x")
            os.abort()
        return self.own(*arguments, **named)


def _slide_id(argument: Any) -> str:
    """Return the slide that an argument is or names; "" for others."""
    if isinstance(argument, SlideReader):
        return argument.info.slide_id
    return argument if isinstance(argument, str) else str(getattr(argument, "slide_id", ""))
