"""Registries: from a name to an object whose module is imported only when it is used."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any

from wsi_mil.errors import ConfigError, nearest
from wsi_mil.trust import import_reference, imported, is_reference


class Registry(Mapping[str, str]):
    """The names of one kind of object, such as "reader", and where each object is: `module:attribute`.

    An unknown name raises ConfigError, which lists the most similar names.

    >>> Registry("reader", {"array": "wsi_mil.slides.array:ArrayReader"}).load("array").__name__
    'ArrayReader'
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    @property
    def own(self) -> dict[str, str]:
        """The names that this package itself offers, each with its `module:attribute`."""
        return self._entries

    def __getitem__(self, name: str) -> str:
        if name not in self.own:
            raise ConfigError(
                f"No {self.kind} named {name!r}. Nearest: {nearest(name, list(self.own))}. "
                f"List them with `wsi-mil ls {self.kind}s`."
            )
        return self.own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)

    def load(self, name: str) -> Any:
        module, attribute = self[name].split(":")
        return getattr(import_module(module), attribute)


class OpenRegistry(Registry):
    """A registry that also finds what other packages offer as entry points of `group`, and any
    `package.module:Name`.

    `package.module:Name` is imported if it is trusted (`wsi_mil.trust`); the packages that are installed are.
    Raises TrustError for a name that is not trusted, and ConfigError for a module or a name that does not
    exist.

    >>> from wsi_mil.trust import trusted
    >>> with trusted("fractions"):
    ...     OpenRegistry("method", {}, "some.group").load("fractions:Fraction").__name__
    'Fraction'
    """

    def __init__(self, kind: str, entries: dict[str, str], group: str) -> None:
        super().__init__(kind, entries)
        self.group = group
        self._offered: dict[str, str] | None = None

    @property
    def offered(self) -> dict[str, str]:
        """Names that installed packages offer, and where each is; our own names come first."""
        if self._offered is None:
            found = entry_points(group=self.group)
            self._offered = {point.name: point.value for point in found if point.name not in self.own}
        return self._offered

    def __getitem__(self, name: str) -> str:
        if is_reference(name):
            return name
        if name not in self.own and name in self.offered:
            return self.offered[name]
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        return iter([*self.own, *self.offered])

    def __len__(self) -> int:
        return len(self.own) + len(self.offered)

    def load(self, name: str) -> Any:
        if is_reference(name):
            return import_reference(name, self.kind)
        place = self[name]
        if place == self.own.get(name):
            return super().load(name)
        module, attribute = place.split(":")
        return imported(module, attribute, f"{self.kind} {name!r}")


class FolderRegistry(OpenRegistry):
    """A registry whose names are the modules of one package: a file that is added to its folder is found.

    Each module assigns what it offers to `attribute`. Listing the names imports no module. Modules called
    `base`, and those that start with an underscore, are not entries. Entry points of `group` and
    `package.module:Name` are found as by OpenRegistry.

    >>> "files" in FolderRegistry("leaf", "wsi_mil.io", "LEAF", "some.group")
    True
    """

    def __init__(self, kind: str, package: str, attribute: str, group: str) -> None:
        super().__init__(kind, {}, group)
        self.package, self.attribute = package, attribute

    @property
    def own(self) -> dict[str, str]:
        """Module name -> `module:attribute`, in alphabetical order, read from the folder at every call."""
        found = iter_modules(import_module(self.package).__path__)
        names = sorted(m.name for m in found if not m.ispkg and m.name != "base" and m.name[0] != "_")
        return {name: f"{self.package}.{name}:{self.attribute}" for name in names}

    def __getitem__(self, name: str) -> str:
        if name in self or is_reference(name):
            return super().__getitem__(name)
        raise ConfigError(f"No {self.kind} named {name!r}. Known: {', '.join(self)}.")

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.offered
