"""How long the study of poolings trains, and on how many images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """epochs, train: number of epochs and of training images by data set. test: test images, None for all.

    seeds: number of seeds, from 0. cal_views: whether CAL also trains on its crops and drops.
    """

    epochs: dict[str, int]
    test: int | None
    seeds: int
    cal_views: bool
    train: dict[str, int]


FULL = Schedule(
    epochs={"cifar 1,000": 200, "cifar 5,000": 200, "tiny": 200},
    test=None,
    seeds=10,
    cal_views=True,
    train={"cifar 1,000": 1000, "cifar 5,000": 5000, "tiny": 10_000},
)
SHORT = Schedule(
    epochs={"cifar 1,000": 10, "cifar 5,000": 2, "tiny": 6},
    test=1000,
    seeds=1,
    cal_views=False,
    train={"cifar 1,000": 1000, "cifar 5,000": 5000, "tiny": 1000},
)
