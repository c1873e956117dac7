# SPDX-License-Identifier: Apache-2.0
"""Measure which fraction of small faults the tests notice: `make mutation`.

mutmut changes one detail of the code at a time (a mutant: `<` for `<=`, `None` for a value) and runs the
tests that reach it. A mutant that fails a test is killed. This script draws the same number of mutants from
each folder that [tool.mutmut] of pyproject.toml lists, with a fixed seed, and prints the kill rate of each
folder and the change of every mutant that survived. docs/testing.md holds the last figures.

    python tests/mutation.py                      # 100 mutants of each folder
    python tests/mutation.py --per-folder 20 --work /tmp/mutation
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from tempfile import mkdtemp

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).resolve().parent.parent
KILLED = ("killed", "timeout", "segfault")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-folder", type=int, default=100, help="mutants drawn from each folder")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--work", type=Path, help="folder for the mutated copy; default: a new temporary one")
    parser.add_argument("--source", type=Path, default=ROOT, help="checkout to mutate")
    asked = parser.parse_args()
    work = asked.work or Path(mkdtemp(prefix="mutation-"))
    copy_of(asked.source, work)
    os.chdir(work)
    patterns = [pattern for pattern in settings_in(work)["only_mutate"] if files(pattern)]
    drawn = {pattern: draw(pattern, asked.per_folder, asked.seed) for pattern in patterns}
    run_mutmut([name for names in drawn.values() for name in names])
    status = statuses()
    for pattern, names in drawn.items():
        report(pattern, names, status)
    print(f"The mutated copy is {work}: `mutmut show NAME` there prints one mutant.")


def copy_of(source: Path, work: Path) -> None:
    """Copy the files that git tracks: mutmut writes beside the code, which the checkout must not see."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, work / name)


def settings_in(work: Path) -> dict[str, list[str]]:
    """The settings of mutmut; a checkout from before they existed gets ours, for the folders that it has."""
    if "[tool.mutmut]" not in (work / "pyproject.toml").read_text():
        ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
        for value in ours.values():
            if isinstance(value, list):
                value[:] = [name for name in value if Path(name.rstrip("*")).exists()]
        lines = [f"{key} = {json.dumps(value)}" for key, value in ours.items()]
        with (work / "pyproject.toml").open("a") as stream:
            stream.write("\n".join(["", "[tool.mutmut]", *lines, ""]))
    settings: dict[str, list[str]] = tomllib.loads((work / "pyproject.toml").read_text())["tool"]["mutmut"]
    return settings


def draw(pattern: str, count: int, seed: int) -> list[str]:
    """`count` mutants of the files that match `pattern`: the same ones for the same code and seed."""
    names = [name for path in files(pattern) for name, _ in mutants(path)]
    return sorted(random.Random(f"{seed} {pattern}").sample(names, min(count, len(names))))


def files(pattern: str) -> list[Path]:
    folder = Path(PurePath(pattern).parent)
    return sorted(folder.rglob("*.py"))


def mutants(path: Path) -> Iterator[tuple[str, str]]:
    """The name of each mutant of a file, and the name of its function in the mutated code."""
    for name in mutate_file_contents(str(path), path.read_text()).mutant_names:
        yield get_mutant_name(path, name), name


def run_mutmut(names: list[str]) -> None:
    """Run the drawn mutants one at a time; mutmut keeps the exit codes below `mutants/`."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *names]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def statuses() -> dict[str, str]:
    """What became of each mutant: "killed", "survived", "no tests", "timeout" and so on."""
    found = {}
    for path in Path("mutants").rglob("*.meta"):
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items():
            found[name] = status_by_exit_code[code]
    return found


def report(pattern: str, names: list[str], status: dict[str, str]) -> None:
    """Print the rate of a folder, and each survivor with the lines that it changes."""
    survivors = [name for name in names if status[name] not in KILLED]
    in_text = {name for path in files(pattern) for name in only_in_text(path, names)}
    code, text = [n for n in names if n not in in_text], [n for n in names if n in in_text]
    print(
        f"\n## {pattern}: {len(names) - len(survivors)} of {len(names)} killed; code",
        rate(code, survivors),
        end="",
    )
    print(", texts", rate(text, survivors), dict(Counter(status[name] for name in names)))
    for name in survivors:
        shown = subprocess.run(
            [Path(sys.executable).with_name("mutmut"), "show", name], capture_output=True, text=True
        )
        changes = [
            line for line in shown.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        print(f"\n{name} ({status[name]}{', text' if name in in_text else ''})", *changes, sep="\n    ")


def rate(names: list[str], survivors: list[str]) -> str:
    killed = len(set(names) - set(survivors))
    return f"{killed} of {len(names)} ({killed / max(len(names), 1):.0%})"


def only_in_text(path: Path, wanted: list[str]) -> Iterator[str]:
    """The wanted mutants of a file that change nothing except the wording of a string."""
    asked = {function: name for name, function in mutants(path) if name in wanted}
    if not asked:
        return
    tree = ast.parse(mutate_file_contents(str(path), path.read_text()).code)
    bodies = {node.name: wordless(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for function, name in asked.items():
        if bodies[function] == bodies[function.rpartition("__mutmut_")[0] + "__mutmut_orig"]:
            yield name


def wordless(function: ast.FunctionDef) -> list[str]:
    """The statements of a function with every string emptied."""
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return [ast.dump(statement) for statement in function.body]


if __name__ == "__main__":
    main()
