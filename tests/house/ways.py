"""The ways through `service`: the modules that hold one message, verdict or evaluation on its way.

Observed while it runs: a service is started in this process with a profile function on its threads,
one request is sent, and every function of `service` is noted that has the message (or the verdict)
among its local variables. So what counts is who passes the thing on, not who is asked for a row or
counts a metric meanwhile; modules of rows, which turn it into columns, are aside.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.evaluation.evaluation_report import EvaluationInputs, Report
from learning.conversation.state import Message
from service.jobs.maintenance import Maintenance
from service.outcomes.verdict import Verdict
from service.runtime.settings import Settings
from service.scoring.decide import ScoreCommand
from tests.service_in_process import ASKS, QUIET, Place, serving

ROOT = Path(__file__).resolve().parents[2]


class Observer:
    """A profile function that notes modules in which a local is of certain types."""

    def __init__(self) -> None:
        self.types: tuple[type, ...] = ()
        self.modules: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> None:
        if not self.types or event != "return":
            return
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("service.", "experiments.")) and any(
            isinstance(value, self.types) for value in frame.f_locals.values()
        ):
            self.modules[name] = None

    @contextmanager
    def watching(self, *types: type) -> Iterator[list[str]]:
        """The modules that hold one of these types until the block ends."""
        self.modules, self.types = {}, types
        names: list[str] = []
        try:
            yield names
        finally:
            self.types = ()
            names += sorted(name for name in self.modules if not name.endswith("_rows"))


@contextmanager
def observed() -> Iterator[tuple[Observer, Place]]:
    """A workspace of a service whose threads are observed."""
    observer = Observer()
    threading.setprofile(observer)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(Path(folder)) as service,
        ):
            yield observer, service.workspace()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
        sys.setprofile(None)


def ways() -> dict[str, list[str]]:
    """By way, the modules of `service` that a message and a verdict pass."""
    with observed() as (observer, place):
        place.bot.decided("warm", "m1", QUIET)
        with observer.watching(ScoreCommand, Message) as message:
            place.bot.decided("one", "m1", QUIET)
        handoff = place.bot.decided("two", "m1", ASKS)["handoff"]["id"]
        with observer.watching(Verdict) as verdict:
            place.agent.posted(f"/v1/handoffs/{handoff}/outcome", {"verdict": "needed"})
        with observer.watching(EvaluationInputs, Report) as evaluation:
            sys.setprofile(observer)
            Maintenance(place.service.baton.store, Settings()).evaluate_one(place.name)
            sys.setprofile(None)
    return {"message": message, "verdict": verdict, "evaluation": evaluation}


if __name__ == "__main__":
    for way, modules in ways().items():
        print(way, len(modules), *modules, sep="\n  ")
