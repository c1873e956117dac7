"""A registry maps a name to a lazily imported object; an unknown name is answered with the nearest ones."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from wsi_mil.errors import ConfigError, nearest


class Registry(Mapping[str, str]):
    """Names of one `kind` (as users say it) and the `module:attribute` that each stands for.

    >>> Registry("reader", {"array": "wsi_mil.slides.array:ArrayReader"}).load("array").__name__
    'ArrayReader'
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        if name not in self._entries:
            raise ConfigError(
                f"No {self.kind} named {name!r}. Nearest: {nearest(name, list(self._entries))}. "
                f"List them with `wsi-mil ls {self.kind}s`."
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        module, attribute = self[name].split(":")
        return getattr(import_module(module), attribute)
