"""What it costs that a worker process opens and reads the slides: extraction of one slide in this process and
in a worker, in turns.

Processor time counts this process, the server that workers are forked from, and the workers; it includes the
server's import of torch, once per run of the program. Wall time needs a machine that does nothing else.

    python benchmarks/isolation.py SLIDE [--rounds 3] [--copies 4] [--encoder torchvision:resnet18]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from wsi_mil.config.loading import parse_config
from wsi_mil.contracts.slide import SlideSource
from wsi_mil.encoders import EncoderSpec
from wsi_mil.execution import map_on_devices, stopped_at_the_end
from wsi_mil.io.tables import markdown_table
from wsi_mil.run.folder import RunFolder
from wsi_mil.stages import run_stage
from wsi_mil.stages.extract import ExtractJob, extract_on

WAYS = ("here", "worker")


def processor_seconds() -> float:
    """Return the processor time of this process, of those that it started, and of those that they awaited."""
    here = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (here, *here.children(recursive=True)))


def tile(slide: Path, folder: Path, copies: int) -> list[SlideSource]:
    """Link the slide `copies` times and tile the links; return them."""
    slides = folder / "slides"
    slides.mkdir()
    sources = [SlideSource(f"s{n}", slides / f"s{n}{slide.suffix}", None) for n in range(copies)]
    for source in sources:
        Path(str(source.file)).symlink_to(slide.resolve())
    values = {"run": str(folder / "r"), "slides": {"folder": str(slides)}, "tiles": {"size_px": 224}}
    run_stage(parse_config(values), "tile")
    return sources


def measure(way: str, slide: Path, encoder: str, copies: int) -> tuple[int, float, float]:
    """Return tiles, processor seconds and wall seconds of one extraction, without those of the tiling."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(slide), "--tile-into", folder, "--copies", str(copies)]
        subprocess.run(command, check=True, capture_output=True)
        spec = EncoderSpec(name=encoder, weights="random")
        run = RunFolder(Path(folder) / "r")
        jobs = [
            ExtractJob(name, SlideSource(name, path, None), "auto", run.store(name).path, spec, "cpu", 1)
            for path in sorted((Path(folder) / "slides").iterdir())
            for name in [path.stem]
        ]
        began, used = time.perf_counter(), processor_seconds()
        if way == "here":
            outcomes = list(extract_on("extract", iter(jobs), "cpu"))
        else:
            results = map_on_devices(partial(extract_on, "extract"), jobs, ["cpu"], "extract")
            with stopped_at_the_end(results):
                outcomes = list(results)
        used, wall = processor_seconds() - used, time.perf_counter() - began
        if any(outcome.status != "done" for outcome in outcomes):
            raise SystemExit(f"not done: {outcomes}")
        return sum(outcome.counts["tiles"] for outcome in outcomes), used, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--encoder", default="torchvision:resnet18")
    parser.add_argument("--one", choices=WAYS, help="internal: measure one way in this process")
    parser.add_argument("--tile-into", type=Path, help="internal: only tile, into this folder")
    options = parser.parse_args()
    if options.tile_into is not None:
        tile(options.slide, options.tile_into, options.copies)
        return
    if options.one is not None:
        print(*measure(options.one, options.slide, options.encoder, options.copies))
        return
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, *sys.argv, "--one", way]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append([float(number) for number in result.stdout.split()[-3:]])
    middle = {way: [statistics.median(column) for column in zip(*found[way], strict=True)] for way in WAYS}
    rows = [
        [way, f"{tiles:.0f}", f"{used:.1f}", f"{wall:.1f}"] for way, (tiles, used, wall) in middle.items()
    ]
    ratios = [middle["worker"][n] / middle["here"][n] for n in (1, 2)]
    rows.append(["ratio", "", *(f"{ratio:.3f}" for ratio in ratios)])
    print(markdown_table(["in", "tiles", "processor, s", "wall, s"], rows))


if __name__ == "__main__":
    main()
