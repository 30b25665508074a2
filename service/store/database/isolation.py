"""What breaks in one workspace holds up no other: passes over all workspaces go through here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.store.database.transactions import UnavailableError

_log = structlog.get_logger("baton.jobs")


@contextmanager
def isolate_errors(workspace: str, *passing: type[Exception]) -> Iterator[None]:
    """Log what breaks in the block, and go on; but a database that is away is away for all, and
    so is what is named in `passing`.
    """
    for_all: tuple[type[Exception], ...] = (*UnavailableError, *passing)
    try:
        yield
    except for_all:
        raise
    except Exception:
        _log.exception("workspace_broke", workspace=workspace)
