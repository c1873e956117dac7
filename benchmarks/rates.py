"""Rates of tasks that take turns, so that noise of the machine affects all of them alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Items per second of wall time and per second of processor time."""

    wall: float
    cpu: float


def measure(task: Callable[[], int]) -> Rate:
    """Return the rate of `task`, which returns how many items it worked on."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = task()
    return Rate(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))


def medians(tasks: dict[str, Callable[[], int]], rounds: int) -> dict[str, Rate]:
    """Return the median rate of every task over `rounds`; tasks take turns, the first round is a warm-up."""
    found: dict[str, list[Rate]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            rate = measure(task)
            if turn:
                found[name].append(rate)
    return {
        name: Rate(statistics.median(r.wall for r in rates), statistics.median(r.cpu for r in rates))
        for name, rates in found.items()
    }
