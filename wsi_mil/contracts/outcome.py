"""What became of one slide in one stage; failures included, one row each."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from wsi_mil.errors import DataError

Status = Literal["done", "empty", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """`reason` is required for failed and skipped; `counts` are numbers such as tiles or unreadable tiles.
    `reused`: nothing had to be done (not written down)."""

    slide_id: str
    stage: str
    status: Status
    reason: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    seconds: float = 0.0
    reused: bool = False

    def __post_init__(self) -> None:
        if self.status in ("failed", "skipped") and not self.reason:
            raise DataError(
                f"outcome of {self.slide_id!r} in {self.stage!r} is {self.status} without a reason"
            )

    def as_row(self) -> dict[str, str]:
        row = {
            key: str(value)
            for key, value in asdict(self).items()
            if key not in ("counts", "seconds", "reused")
        }
        row["counts"] = " ".join(f"{name}={number}" for name, number in sorted(self.counts.items()))
        row["seconds"] = f"{self.seconds:.2f}"
        return row

    @classmethod
    def from_row(cls, row: dict[str, str]) -> "Outcome":
        counts = dict(pair.split("=") for pair in row["counts"].split())
        return cls(
            row["slide_id"],
            row["stage"],
            row["status"],  # type: ignore[arg-type]
            row["reason"],
            {name: int(number) for name, number in counts.items()},
            row["digest"],
            float(row["seconds"]),
        )
