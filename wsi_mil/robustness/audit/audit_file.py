"""The file audit.json that both kinds of audit write."""

from pathlib import Path

from wsi_mil.io.files import refuse_to_replace

FILE = "audit.json"


def refuse_other_audit(folder: Path, kind: str, files: tuple[str, ...]) -> None:
    """Raise StoreError if `folder` has an audit.json of another kind, or `files` without an audit.json.

    The text decides, so that a damaged audit.json is written again.
    """
    path = folder / FILE
    if not path.is_file() or f'"kind": "{kind}"' not in path.read_text(encoding="utf-8", errors="replace"):
        refuse_to_replace(folder, (FILE, *files))
