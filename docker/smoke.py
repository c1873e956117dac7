# SPDX-License-Identifier: Apache-2.0
"""Run the steps of the Dockerfile in order without a container engine.

COPY copies into a folder, RUN runs in a clean virtual environment, and the entrypoint is called last. Steps
that only an image has (users, volumes, packages of the base image) are left out, and the output names them.

    python docker/smoke.py [docker/Dockerfile]
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ONLY_IN_AN_IMAGE = ("useradd", "chown", "mkdir -p /", "apt-get")


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (instruction, arguments), continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def copy(arguments: str, work: Path) -> None:
    *sources, target = shlex.split(arguments)
    place = work / target.lstrip("./") if not target.startswith("/") else work / "image" / target[1:]
    for source in sources:
        found = ROOT / source
        if not found.exists():
            raise SystemExit(f"COPY {source}: there is no such file in the repository")
        if found.is_dir():
            shutil.copytree(found, place, dirs_exist_ok=True)
        elif target.endswith("/") or len(sources) > 1:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, place)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, place)


def run(command: str, work: Path, environment: dict[str, str]) -> None:
    for part in re.split(r"\s*&&\s*", command):
        if part.startswith(ONLY_IN_AN_IMAGE):
            print(f"   left out  {part}")
            continue
        ours = part.replace("--system ", "").replace("--no-cache-dir ", "").replace("--no-cache ", "")
        print(f"   {ours}", flush=True)
        subprocess.run(["sh", "-ec", ours], cwd=work, env=environment, check=True)


def main(dockerfile: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work, home = Path(folder) / "work", Path(folder) / "venv"
        work.mkdir()
        venv.create(home, with_pip=True)
        # how this machine reaches packages (proxies, certificates) is its own affair and stays
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment |= {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(home)}
        entrypoint: list[str] = []
        for name, arguments in instructions(dockerfile):
            print(f"{name} {arguments}"[:150], flush=True)
            if name == "COPY":
                copy(arguments, work)
            elif name == "RUN":
                run(arguments, work, environment)
            elif name == "ENV":
                pairs = dict(pair.split("=", 1) for pair in shlex.split(arguments))
                environment |= {
                    key: value.replace("/weights", str(work / "weights")) for key, value in pairs.items()
                }
            elif name == "ENTRYPOINT":
                entrypoint = ["sh", str(work / "image" / arguments.strip('[]"').lstrip("/"))]
            elif name not in ("FROM", "WORKDIR", "USER", "VOLUME", "CMD"):
                raise SystemExit(f"smoke.py does not know {name}: teach it")
        for command in (
            ["--help"],
            ["ls", "encoders", "uni*"],
            ["python", "-c", "import torch, wsi_mil; print(wsi_mil.__file__)"],
        ):
            result = subprocess.run(
                [*entrypoint, *command],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            last_line = result.stdout.strip().splitlines()[-1:]
            print(f"{' '.join(command)[:60]}: exit {result.returncode}, {last_line}")
            if result.returncode or str(ROOT) in result.stdout:
                raise SystemExit(result.stderr or "the repository was used instead of what was installed")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docker" / "Dockerfile")
