"""What a training step of the attention methods costs, over a plain step of the same backbone: ratios of one
run.

    python benchmarks/spatial.py [--steps 20] [--side 64] [--batch 32]

Random images, half of them with the class that is explained; steps of all methods take turns, medians are
printed.
"""

import argparse
import platform
import statistics
import time

import torch

from pipelines.attention.methods import METHODS, Batch
from wsi_mil.io.tables import markdown_table

SHOWN = ("Grad-CAM", "GAIN", "GAIN_ext, 10 % masks", "CAL", "loss-attention")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(options.batch, 3, options.side, options.side, generator=generator)
    labels = torch.arange(options.batch) % 2
    masks = (torch.rand(options.batch, 1, options.side, options.side, generator=generator) > 0.5).float()
    batch = Batch(*(part.to(options.device) for part in (pixels, labels, masks, labels.bool())), done=1.0)
    torch.manual_seed(0)
    models = {name: METHODS[name][0](generator).to(options.device).train() for name in SHOWN}
    optimisers = {name: torch.optim.Adam(model.parameters(), lr=1e-4) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in SHOWN}
    for step in range(options.steps + 2):
        for name, model in models.items():
            started = time.perf_counter()
            optimisers[name].zero_grad(set_to_none=True)
            model.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimisers[name].step()
            if options.device != "cpu":
                torch.cuda.synchronize()
            if step > 1:
                times[name].append(time.perf_counter() - started)
    plain = statistics.median(times["Grad-CAM"])
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, {options.batch} images of "
        f"{options.side} px, medians of {options.steps}\n"
    )
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        title = "plain (Grad-CAM)" if name == "Grad-CAM" else name
        rows.append([title, f"{median * 1e3:.0f}", f"{median / plain:.2f}"])
    print(markdown_table(["method", "ms a step", "over a plain step"], rows))


if __name__ == "__main__":
    main()
