"""The kinds of poison: one module each. A module that is added to this folder is a new kind; nothing else
changes.

Each module assigns an instance of `wsi_mil.robustness.poison.kinds.base.Poison` to `POISON`; the module's
name is the value of `poison.kind`. Other packages offer kinds through the entry points `wsi_mil.poisons`.
"""

from typing import TYPE_CHECKING

from wsi_mil.registry import FolderRegistry

if TYPE_CHECKING:
    from wsi_mil.robustness.poison.kinds.base import Poison

POISONS = FolderRegistry("kind of poison", __name__, "POISON", "wsi_mil.poisons")


def load_poison(name: str) -> "Poison":
    """Return the kind of poison called `name`. Raises ConfigError, with the known names, if there is none.

    >>> load_poison("cast").whole_slide, load_poison("noise").whole_slide
    (True, False)
    """
    from wsi_mil.errors import ConfigError
    from wsi_mil.robustness.poison.kinds.base import Poison

    found = POISONS.load(name)
    found = found() if isinstance(found, type) else found
    if not isinstance(found, Poison):
        raise ConfigError(f"poison.kind {name!r} is {found!r}, expected a subclass or an instance of Poison")
    return found
