"""Layouts of other tools: each module is one layout, named like its file, and assigns an instance to
`LAYOUT`.

A module that is added to this folder is a new layout; nothing else changes. Other packages offer layouts
through the entry points `wsi_mil.layouts`.
"""

from typing import TYPE_CHECKING

from wsi_mil.registry import FolderRegistry

if TYPE_CHECKING:
    from wsi_mil.interop.layouts.base import ExportLayout, ImportLayout

LAYOUTS = FolderRegistry("layout", __name__, "LAYOUT", "wsi_mil.layouts")


def import_layout_names() -> list[str]:
    """Return the names of the layouts that can be imported.

    >>> import_layout_names()
    ['clam', 'trident']
    """
    from wsi_mil.interop.layouts.base import ImportLayout

    return [name for name in LAYOUTS if isinstance(LAYOUTS.load(name), ImportLayout)]


def export_layout_names() -> list[str]:
    """Return the names of the layouts that can be exported.

    >>> export_layout_names()
    ['clam', 'h5ad', 'torchmil', 'trident', 'zarr']
    """
    from wsi_mil.interop.layouts.base import ExportLayout

    return [name for name in LAYOUTS if isinstance(LAYOUTS.load(name), ExportLayout)]


def load_import_layout(name: str) -> "ImportLayout":
    """Return a layout that can be imported. Raises ConfigError, with the known names, if there is none."""
    from wsi_mil.errors import ConfigError
    from wsi_mil.interop.layouts.base import ImportLayout, require_packages

    found = LAYOUTS.load(name)
    if not isinstance(found, ImportLayout):
        known = ", ".join(import_layout_names())
        raise ConfigError(f"layout {name!r} cannot be imported: expected one of {known}")
    require_packages(name, found)
    return found


def load_export_layout(name: str) -> "ExportLayout":
    """Return a layout that can be exported. Raises ConfigError, with the known names, if there is none."""
    from wsi_mil.errors import ConfigError
    from wsi_mil.interop.layouts.base import ExportLayout, require_packages

    found = LAYOUTS.load(name)
    if not isinstance(found, ExportLayout):
        known = ", ".join(export_layout_names())
        raise ConfigError(f"layout {name!r} cannot be exported: expected one of {known}")
    require_packages(name, found)
    return found
