# SPDX-License-Identifier: Apache-2.0
"""Compare every file of two run folders, byte for byte: what a change of the code changes in the results.

    python benchmarks/compare_runs.py runs/before runs/after

Prints how many files are equal per folder and every file that differs or exists once only. For JSON files it
names the keys that differ. Files that hold times (`outcomes.csv`, TensorBoard events) are left out. Exit code
1 if a file differs.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wsi_mil.io.json import read_json

LEFT_OUT = ("outcomes.csv", "tensorboard/", ".lock")
SHOWN_KEYS = 20


def files(run: Path) -> dict[str, Path]:
    """Relative path of every file of a run that must be reproducible."""
    found = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not any(part in name for part in LEFT_OUT)}


def differing_keys(first: object, second: object, key: str = "") -> Iterator[str]:
    """Yield the keys of two JSON values that differ, written `a/b/0`."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted({*first, *second}):
            if name not in first or name not in second:
                yield f"{key}/{name} ({'new' if name in second else 'gone'})"
            else:
                yield from differing_keys(first[name], second[name], f"{key}/{name}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differing_keys(one, other, f"{key}/{index}")
    elif first != second:
        yield key


def main(first_run: Path, second_run: Path) -> int:
    first, second = files(first_run), files(second_run)
    different = [
        name for name in first.keys() & second.keys() if first[name].read_bytes() != second[name].read_bytes()
    ]
    equal = Counter(name.split("/")[0] for name in (first.keys() & second.keys()) - set(different))
    print("equal files:", ", ".join(f"{folder} {count}" for folder, count in sorted(equal.items())))
    for name in sorted(first.keys() ^ second.keys()):
        print(f"only in {first_run if name in first else second_run}: {name}")
    for name in sorted(different):
        print(f"different: {name}")
        if name.endswith(".json"):
            keys = list(differing_keys(read_json(first[name]), read_json(second[name])))
            print(
                "   ",
                ", ".join(keys[:SHOWN_KEYS]),
                f"and {len(keys) - SHOWN_KEYS} more" * (len(keys) > SHOWN_KEYS),
            )
    return int(bool(different or first.keys() ^ second.keys()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
