"""Outcomes written down as slides finish."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wsi_mil.contracts.outcome import Outcome
from wsi_mil.execution.mapping import run_guarded
from wsi_mil.logs import logger, progress
from wsi_mil.run.folder import RunFolder

SAVE_SECONDS = 2.0


def account(run: RunFolder, stage: str, outcomes: Iterable[Outcome], total: int) -> int:
    """Write outcomes down as they come (every two seconds or more, so that a twentieth of the time goes into it at most, and at the
    end however it comes); return how many were not reused."""
    worked, saved, pause = 0, time.monotonic(), SAVE_SECONDS
    try:
        for outcome in progress(outcomes, total=total, label=stage):
            previous = run.ledger.get(outcome.slide_id, stage)
            if outcome.reused and previous is not None and previous.digest == outcome.digest:
                continue
            run.ledger.put(outcome)
            if time.monotonic() - saved > pause:
                started = time.monotonic()
                run.ledger.save()
                saved = time.monotonic()
                pause = max(SAVE_SECONDS, 20 * (saved - started))
            if not outcome.reused:
                worked += 1
            if outcome.status == "failed":
                logger().warning("%s: %s failed: %s", stage, outcome.slide_id, outcome.reason)
    finally:
        run.ledger.save()
    return worked


def each(label: str, items: Sequence[str], function: Callable[[str], Outcome], run: RunFolder) -> int:
    """Run `function` on every slide id here, with accounting: for the light stages."""

    @dataclass(frozen=True)
    class Named:
        slide_id: str

    outcomes = (run_guarded(lambda job: function(job.slide_id), label, Named(item)) for item in items)
    return account(run, label, outcomes, len(items))
