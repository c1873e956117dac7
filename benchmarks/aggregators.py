"""Speed and memory of training: ratios to a peer, to the machine's own limits and to the plain way, all in
one run.

Needs the extra `bench` (torchmil). Prints the tables of docs/benchmarks.md; takes a few minutes on a quiet
machine.

    python benchmarks/aggregators.py [--threads 1] [--rounds 5] [--only packed two_pass million reading]
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.bag_reading import reading
from benchmarks.bag_tasks import DIM, each_step, lengths, make_bags, medians, print_table, step, write_bag
from wsi_mil.aggregators import Aggregator, build_aggregator
from wsi_mil.aggregators.max_pooling import MaxPooling
from wsi_mil.aggregators.methods.abmil import ABMIL
from wsi_mil.bags.segments import segment_softmax, segment_weighted_sum
from wsi_mil.contracts.bags import PackedBags
from wsi_mil.io.tables import markdown_row
from wsi_mil.testing.aggregators import detection_loss
from wsi_mil.training import TrainSpec, fit
from wsi_mil.training.two_pass import backward_in_two_passes

BF16 = "avx512_bf16" in (Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "")
"""Whether the CPU multiplies bfloat16 itself. Otherwise autocast is slower than float32 and is left out."""


class ScatterABMIL(ABMIL):
    """The same model with pooling by scatter operations over a bag index."""

    def forward(self, bags: PackedBags):  # type: ignore[no-untyped-def]
        index = torch.repeat_interleave(torch.arange(len(bags)), torch.tensor(bags.lengths))
        raw = self.attention(bags.features)[:, 0]
        top = torch.full((len(bags),), -torch.inf).scatter_reduce(0, index, raw, "amax")
        weights = (raw - top[index].detach()).exp()
        weights = weights / torch.zeros(len(bags)).index_add(0, index, weights)[index]
        pooled = torch.zeros(len(bags), DIM).index_add(0, index, weights[:, None] * bags.features)
        return self.classifier(pooled)


def packed(rounds: int) -> None:
    """Eight uneven bags: packed, padded (torchmil), one at a time, scatter, bf16; the first layer alone."""
    from torchmil import models as torchmil_models
    from torchmil.data import pad_tensors

    sizes = lengths(8, seed=1)
    bags = make_bags(sizes)
    batch, singles = PackedBags.pack(bags), [PackedBags.pack([bag]) for bag in bags]
    labels = batch.labels.float()
    rows = []
    for gated in (False, True):
        ours = ABMIL(DIM, 1, (), 128, gated=gated)
        scatter = ScatterABMIL(DIM, 1, (), 128, gated=gated)
        scatter.load_state_dict(ours.state_dict())
        torch.testing.assert_close(scatter(batch), ours(batch).bag_logits, rtol=1e-3, atol=1e-4)
        peer = torchmil_models.ABMIL((DIM,), att_dim=128, gated=gated)
        padded, mask = pad_tensors([bag.features for bag in bags])

        def padded_step(peer: nn.Module = peer, padded: Tensor = padded, mask: Tensor = mask) -> None:
            peer.zero_grad(set_to_none=True)
            nn.functional.binary_cross_entropy_with_logits(peer(padded, mask), labels).backward()

        def scatter_step(model: nn.Module = scatter) -> None:
            model.zero_grad(set_to_none=True)
            nn.functional.binary_cross_entropy_with_logits(model(batch)[:, 0], labels).backward()

        first = torch.nn.Linear(DIM, 256 if gated else 128)

        def limit(first: nn.Linear = first) -> None:
            first.zero_grad(set_to_none=True)
            first(batch.features).sum().backward()

        seconds = medians(
            {
                "torchmil, padded": padded_step,
                "packed": partial(step, ours, batch),
                "one bag at a time": partial(each_step, ours, singles),
                "packed, scatter instead of split": scatter_step,
                **({"packed, bf16": partial(step, ours, batch, low=True)} if BF16 else {}),
                "limit: first layer forward and backward": limit,
            },
            rounds,
        )
        rows += packed_rows("gated" if gated else "plain", seconds, sum(sizes))
    padding = 1 - sum(sizes) / (len(sizes) * max(sizes))
    print(
        f"\nBags of {', '.join(map(str, sizes))} instances, {DIM}-d, attention 128; "
        f"{100 * padding:.0f} % of the padded batch is padding."
    )
    print_table(
        ["ABMIL", "forward and backward", "ms", "times the speed of padded", "thousand instances/s"], rows
    )
    pooling(batch, rounds)


def packed_rows(kind: str, seconds: dict[str, float], instances: int) -> list[list[str]]:
    rows = []
    for name, value in seconds.items():
        ratio = seconds["torchmil, padded"] / value
        rows.append([kind, name, f"{1000 * value:.0f}", f"{ratio:.2f}", f"{instances / value / 1000:.0f}"])
    return rows


def pooling(batch: PackedBags, rounds: int) -> None:
    """The pooling alone: softmax and weighted sum, by splitting and by scatter."""
    raw = torch.randn(len(batch.features), requires_grad=True)
    h = batch.features.clone().requires_grad_()
    index = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(batch.lengths))

    def by_splitting() -> None:
        weights = segment_softmax(raw, batch.lengths)
        segment_weighted_sum(weights, h, batch.lengths).sum().backward()

    def by_scatter() -> None:
        weights = raw.exp()
        weights = weights / torch.zeros(len(batch)).index_add(0, index, weights)[index]
        torch.zeros(len(batch), DIM).index_add(0, index, weights[:, None] * h).sum().backward()

    seconds = medians({"split": by_splitting, "scatter": by_scatter}, rounds)
    rows = [
        [name, f"{1000 * value:.0f}", f"{seconds['scatter'] / value:.1f}"] for name, value in seconds.items()
    ]
    print_table(
        ["softmax and weighted sum over bags, with gradients", "ms", "times the speed of scatter"], rows
    )


TWO_PASS = [
    ("mi_net", {}),
    ("max_pool", {}),
    ("focus_mil", {"kl_over": "selected"}),
    ("focus_mil", {"kl_over": "all"}),
]


def two_pass(rounds: int) -> None:
    """One pass against two on the same bags: time, and the largest difference of gradients."""
    bags = make_bags(lengths(8, seed=1))
    batch = PackedBags.pack(bags)
    rows = []
    for name, params in TWO_PASS:
        model = build_aggregator(name, DIM, 1, 0, params)
        assert isinstance(model, MaxPooling)

        def two(model: MaxPooling = model, low: bool = False) -> None:
            model.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                backward_in_two_passes(model, bags, detection_loss(model), chunk_rows=TrainSpec().chunk_rows)

        difference = gradient_difference(model, batch, two)
        seconds = medians(
            {
                "one": lambda m=model: step(m, batch),  # type: ignore[misc]
                "two": two,
                **({"low": lambda m=model: two(m, low=True)} if BF16 else {}),  # type: ignore[misc]
            },
            rounds,
        )
        label = name + (f", KL over {params['kl_over']}" if params else "")
        one = seconds["one"]
        rows.append(
            [
                label,
                f"{1000 * one:.0f}",
                f"{1000 * seconds['two']:.0f}",
                f"{one / seconds['two']:.2f}",
                f"{one / seconds['low']:.2f}" if BF16 else "-",
                f"{difference:.1e}",
            ]
        )
    head = [
        "method",
        "one pass, ms",
        "two passes, ms",
        "times the speed",
        "the same in bf16",
        "gradients differ by at most",
    ]
    print_table(head, rows)


def gradient_difference(model: Aggregator, batch: PackedBags, two: Callable[[], None]) -> float:
    """The largest difference of any gradient entry, relative to the largest entry of that parameter."""
    model.generator = torch.Generator().manual_seed(0)
    step(model, batch)
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.generator = torch.Generator().manual_seed(0)
    two()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return max(
        float((a - b).abs().max() / a.abs().max().clamp_min(1e-12))
        for a, b in zip(expected, found, strict=True)
    )


def anonymous_bytes() -> int:
    """Memory of this process that is no file's: pages of mapped features do not count."""
    fields = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("Anonymous:")) * 1024


def million(method: str, kl_over: str, rows: int) -> None:
    """Train one epoch on two bags of `rows` instances in this process; print its peak of anonymous memory."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous_bytes())

    with tempfile.TemporaryDirectory() as folder:
        bags = [write_bag(Path(folder) / f"s{i}", rows, i) for i in (0, 1)]
        model = build_aggregator(method, DIM, 1, 0, {"kl_over": kl_over} if kl_over else {})
        before = anonymous_bytes()
        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        fit(model, bags, bags, TrainSpec(epochs=1, bags_per_batch=1))
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
    print(
        markdown_row(
            [
                method + (f", KL over {kl_over}" if kl_over else ""),
                f"{rows:,}",
                f"{seconds:.1f}",
                f"{peak[0] / 1e9:.2f}",
                f"{before / 1e9:.2f}",
            ]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["packed", "two_pass", "million", "reading"])
    parser.add_argument("--million", nargs=3, metavar=("METHOD", "KL", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.million:
        method, kl_over, rows = arguments.million
        million(method, kl_over.strip("-"), int(rows))
        return
    print(
        f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} thread(s), median of "
        f"{arguments.rounds} rounds"
    )
    for task in (packed, two_pass, reading):
        if task.__name__ in arguments.only:
            task(arguments.rounds)
    if "million" in arguments.only:
        head = ["two bags of a million instances, training and validation", "instances a bag", "s"]
        print_table([*head, "peak GB beyond the features", "of it before training"], [])
        for method, kl_over in (("mi_net", "-"), ("focus_mil", "selected"), ("focus_mil", "all")):
            subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--threads",
                    str(arguments.threads),
                    "--million",
                    method,
                    kl_over,
                    "1000000",
                ],
                check=True,
            )


if __name__ == "__main__":
    main()
