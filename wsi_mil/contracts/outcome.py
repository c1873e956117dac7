"""How one stage ended for one slide. Failures are outcomes, too: each slide has one row per stage."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, cast, get_args

from wsi_mil.contracts.record import Record, require, require_name

Status = Literal["done", "empty", "failed", "skipped"]
Cause = Literal["slide", "machine", "memory"]
"""Why something failed: the slide or its settings; the machine (a disk, a device), where the next slides fail
as well; or memory (also a worker killed by signal 9), which may be the slide's or the machine's fault."""

NOT_AS_THEY_ARE = ("counts", "seconds", "reused", "cause", "traceback")


@dataclass(frozen=True)
class Outcome(Record):
    """How one stage ended for one slide.

    reason: why, required for failed and skipped. counts: numbers such as tiles or unreadable tiles.
    digest: of what the stage wrote. seconds: how long it took.
    reused: whether the files were up to date already.
    cause: why it failed, and traceback: of the error, for the slide's error file.
    These three are not written to the table.
    state: of the files that the stage read and wrote (`run.states`), "" where it is not known.
    """

    slide_id: str
    stage: str
    status: Status
    reason: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    seconds: float = 0.0
    reused: bool = False
    cause: Cause = "slide"
    traceback: str = ""
    state: str = ""

    def __post_init__(self) -> None:
        where = f"outcome of slide {self.slide_id!r} in stage {self.stage!r}"
        require_name(self.slide_id, where, "slide_id")
        require_name(self.stage, where, "stage")
        require(self.status in get_args(Status), where, "status", f"one of {get_args(Status)}", self.status)
        explained = self.status in ("done", "empty") or self.reason != ""
        require(explained, where, "reason", f"given where the status is {self.status}", self.reason)
        valid = all(n >= 0 and n == int(n) for n in self.counts.values())
        require(valid, where, "counts", "whole numbers, 0 or more", self.counts)
        require(self.seconds >= 0, where, "seconds", "0 or more", self.seconds)
        require(self.cause in get_args(Cause), where, "cause", f"one of {get_args(Cause)}", self.cause)

    def as_row(self) -> dict[str, str]:
        """Return the outcome as text by column, for outcomes.csv."""
        row = {key: str(value) for key, value in asdict(self).items() if key not in NOT_AS_THEY_ARE}
        row["counts"] = " ".join(f"{name}={number}" for name, number in sorted(self.counts.items()))
        row["seconds"] = f"{self.seconds:.2f}"
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> "Outcome":
        """Return the outcome that `as_row` gave. Raises DataError if a value is wrong."""
        counts = dict(pair.split("=") for pair in row["counts"].split())
        return cls(
            slide_id=row["slide_id"],
            stage=row["stage"],
            status=cast(Status, row["status"]),  # checked on construction
            reason=row["reason"],
            counts={name: int(number) for name, number in counts.items()},
            digest=row["digest"],
            seconds=float(row["seconds"]),
            state=row.get("state", ""),  # absent in tables of earlier versions
        )
