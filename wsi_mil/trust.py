"""Which code a name may import. `package.module:Name` in a file is imported only if the user trusts it.

A configuration, a model or a run folder can come from somebody else, and importing a module runs its code. So
every name of this form needs trust, and no file can give it. The command line trusts what is typed on it, and
what `--trust` and the environment variable WSI_MIL_TRUST name; Python code says `with trusted("my_mil"):`.
What is trusted holds for the whole process and for the processes that it starts.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

from wsi_mil.errors import ConfigError, TrustError
from wsi_mil.logs import logger

R = TypeVar("R")
VARIABLE = "WSI_MIL_TRUST"
"""Modules and `module:Name`, with commas between them. An environment variable reaches child processes."""
_FROM_WORKING_FOLDER: set[str] = set()
"""The modules that this process has imported from there: a worker needs them before it unpickles a job."""
SAFE_PATH = "PYTHONSAFEPATH"
"""Python's own variable. Where it is set, a new process does not look into the working folder first."""


def is_reference(name: object) -> bool:
    """Return whether a value is a text that names code: package.module:Name.

    >>> is_reference("my_mil.models:Mine"), is_reference("counterfactual(abmil)"), is_reference("timm:")
    (True, False, False)
    """
    module, colon, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def trusted_names() -> frozenset[str]:
    """Return the modules and the `module:Name` that are trusted in this process."""
    return frozenset(filter(None, re.split(r"[,\s]+", os.environ.get(VARIABLE, ""))))


def is_trusted(reference: str) -> bool:
    """Return whether `module:Name` is trusted: it by itself, or all names of its module.

    >>> with trusted("my_mil"):
    ...     is_trusted("my_mil:Mine"), is_trusted("my_mil.models:Mine")
    (True, False)
    """
    return not {reference, reference.partition(":")[0]}.isdisjoint(trusted_names())


def trust(*names: str) -> None:
    """Trust modules (`package.module`) or single names (`package.module:Name`) from now on.

    Raises ConfigError for a text of another form.
    """
    for name in names:
        if not (is_reference(name) or is_reference(f"{name}:Name")):
            raise ConfigError(f"{name!r} cannot be trusted: expected package.module or package.module:Name")
    if names:
        os.environ[VARIABLE] = ", ".join(sorted({*trusted_names(), *names}))


@contextmanager
def safe_path() -> Iterator[None]:
    """Until the end of the with statement, processes that are started do not look for modules in the working
    folder: multiprocessing starts them in a way that would import its json.py instead of Python's."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        _restore(SAFE_PATH, before)


@contextmanager
def trusted(*names: str) -> Iterator[None]:
    """Trust these names, and what `trust` adds, until the end of the with statement."""
    before = os.environ.get(VARIABLE)
    try:
        trust(*names)
        yield
    finally:
        _restore(VARIABLE, before)


def _restore(variable: str, value: str | None) -> None:
    os.environ.pop(variable, None)
    if value is not None:
        os.environ[variable] = value


def refuse_untrusted(source: str, names: Mapping[str, object]) -> None:
    """Raise TrustError if one of the names is `module:Name` and not trusted.

    source: the file that holds them. names: key of the file -> its value.
    """
    missing = {key: str(name) for key, name in names.items() if is_reference(name)}
    missing = {key: name for key, name in missing.items() if not is_trusted(name)}
    if missing:
        raise _untrusted(f"{source}: " + ", ".join(map("=".join, missing.items())), *missing.values())


def _untrusted(what: str, *names: str) -> TrustError:
    unique = sorted(set(names))
    return TrustError(
        f"{what} is code, which runs when it is imported, so a file alone cannot name it: if you trust it, "
        f"{trust_options(unique)}"
    )


def trust_options(names: Sequence[str]) -> str:
    """Return in words what makes these names trusted."""
    options = " ".join(f"--trust {name}" for name in names)
    return f"add {options} to the command line (or set {VARIABLE}={' '.join(names)!r})"


def import_reference(reference: str, what: str) -> Any:
    """Return the object that a trusted `module:Name` names.

    A module that is not installed is looked for in the working folder, which is on Python's path during this
    import only. what: the kind of object, for errors. Raises TrustError for a name that is not trusted,
    ConfigError for a module or a name that does not exist.
    """
    if not is_trusted(reference):
        raise _untrusted(f"{what} {reference!r}", reference)
    module, _, attribute = reference.partition(":")
    return imported(module, attribute, f"{what} {reference!r}", from_working_folder=True)


def imported(module: str, attribute: str, what: str, *, from_working_folder: bool = False) -> Any:
    """Return an attribute of a module. Raises ConfigError, which names `what`, if one of them is missing."""
    try:
        if from_working_folder and not _is_installed(module):
            with _working_folder_on_path():
                found = import_module(module)
            _FROM_WORKING_FOLDER.add(module)
            return getattr(found, attribute)
        return getattr(import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(
            f"{what}: module {module!r} cannot be imported ({error}): "
            "install it, or call from the folder that holds it"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{what}: module {module!r} has no {attribute!r}") from error


def _is_installed(module: str) -> bool:
    package = module.partition(".")[0]
    return package in sys.modules or find_spec(package) is not None


@contextmanager
def _working_folder_on_path() -> Iterator[None]:
    """The last place of the path: a file there hides no installed package and no module of Python."""
    folder = os.getcwd()
    invalidate_caches()  # the file may be newer than what Python remembers of the folder
    sys.path.append(folder)
    try:
        yield
    finally:
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


def with_trust(function: Callable[..., R]) -> Callable[..., R]:
    """Return the function, which takes along what is trusted here when it is pickled for another process.

    Modules from the working folder are imported there before the function's argument is unpickled: it may
    hold an object of theirs.
    """
    return _WithTrust(function)


class _WithTrust(Generic[R]):
    def __init__(self, function: Callable[..., R]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> R:
        return self._function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._function, sorted(trusted_names()), sorted(_FROM_WORKING_FOLDER))


def _unpickled(function: Callable[..., R], names: list[str], modules: list[str]) -> Callable[..., R]:
    trust(*names)
    for module in modules:
        try:
            imported(module, "__name__", "code for a worker", from_working_folder=True)
        except ConfigError:  # the job may not need it; if it does, unpickling it names the module
            logger().debug("%s is not in the working folder of this worker", module, exc_info=True)
    return with_trust(function)
