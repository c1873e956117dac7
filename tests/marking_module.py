"""A module that leaves a mark where it is imported, for tests that no code from outside runs."""

from pathlib import Path

NAME, EVIL = "not_trusted_module", "not_trusted_module:Mine"


def write_marking_module(folder: Path, mark: Path, *names: str) -> None:
    """Write modules called `names` (default: NAME) into a folder; imported, each writes the file `mark`."""
    for name in names or (NAME,):
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Mine: pass\n")
