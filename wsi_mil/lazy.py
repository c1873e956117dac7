"""Doors that open on first use: a folder may offer what needs torch without loading torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_door(package: str, names: dict[str, str]) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that imports `names` (name -> submodule of `package`) when they are asked for.

    >>> lazy_door("wsi_mil", {"px2_to_mm2": "units"})("px2_to_mm2")(4_000_000, 0.5, 0.5)
    1.0
    """

    def load(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{names[name]}"), name)

    return load
