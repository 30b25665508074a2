"""Standing at a version and learning the tail: how every process comes to hold the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.ledger import checkpoint
from learning.ledger.model_state import (
    Entry,
    Exclusions,
    ModelState,
    Transcript,
    Turn,
    replay_entries,
)
from service.store.conversations import conversation_rows, transcripts
from service.store.database.transactions import Store
from service.store.ledger import entries as ledger
from service.store.ledger import version_rows

ENTRIES_AT_ONCE = 500
"""Ledger entries read in one transaction while a standing is brought up to date."""

TURNS_AT_ONCE = 4000
"""Turns of conversations that are held in memory while their outcomes are learned."""

_log = structlog.get_logger("baton.standing")


K = TypeVar("K")
T = TypeVar("T")


class TextRemovedError(LookupError):
    """An outcome's conversation is no longer there: what it taught cannot be learned again."""


class NoModelError(RuntimeError):
    """No version of the serving line can be loaded; `baton doctor` says what is wrong."""


def transcript_reader(connection: Connection, workspace: str) -> Transcript:
    """How `follow` reads conversations from this database."""

    def read(conversation: str, until: int) -> Sequence[Turn]:
        turns = conversation_rows.transcript(connection, workspace, conversation, until)
        return _require_complete(workspace, conversation, turns, until)

    return read


def prefetching_reader(
    connection: Connection, workspace: str, standing: ModelState, entries: Sequence[Entry]
) -> Transcript:
    """The same, for a piece of the ledger that a standing is about to follow: what the outcomes
    that it learns speak of is read many conversations at a time, in their order.
    """
    ahead = [
        (entry.body["conversation_id"], entry.body["covers"])
        for entry in reversed(entries)
        if standing.learns(entry)
    ]
    kept: dict[str, list[Turn]] = {}

    def read(conversation: str, until: int) -> Sequence[Turn]:
        nonlocal kept
        if len(kept.get(conversation, ())) < until:
            wanted, turns = {conversation: until}, 0
            while ahead and turns < TURNS_AT_ONCE:
                name, covers = ahead.pop()
                wanted[name] = max(covers, wanted.get(name, 0))
                turns += covers
            kept = transcripts.transcripts(connection, workspace, wanted)
        return _require_complete(workspace, conversation, kept[conversation][:until], until)

    return read


def _require_complete(workspace: str, conversation: str, turns: Sequence[Turn], until: int) -> Sequence[Turn]:
    if len(turns) < until:
        raise TextRemovedError(
            f"the text of conversation {conversation!r} of {workspace!r} was removed; "
            "only versions made after it was learned can be stood at"
        )
    return turns


def restore(
    store: Store, workspace: str, *, until: int | None = None, switch: Entry | None = None
) -> ModelState:
    """The serving line's standing, at the head or as it was at a position.

    With `switch`, the line that this switch began, which goes on through later switches: how a
    champion's predecessor keeps learning in the shadow. It leaves out what was erased before it
    learned it: only the serving line is saved past an erasure.
    """
    with store.read() as connection:
        found = ledger.workspace(connection, workspace)
        if found is None:
            raise LookupError(f"there is no workspace {workspace!r}")
        until = found.head if until is None else until
        began = switch or _last_switch(ledger.switches(connection, workspace, until), workspace)
        standing = _load(connection, workspace, began, until)
        if switch is not None:
            gone = frozenset(
                p for p in ledger.erased(connection, workspace) if p > standing.position
            )
            left_out = standing.without.positions | gone
            standing.without = replace(standing.without, positions=left_out)
    return advance(store, workspace, standing, until, through_switches=switch is not None)


def advance(
    store: Store,
    workspace: str,
    standing: ModelState,
    until: int,
    *,
    through_switches: bool = False,
) -> ModelState:
    """Learn the ledger up to a position, a bounded piece at a time."""
    while standing.position < until:
        most = min(ENTRIES_AT_ONCE, until - standing.position)
        with store.read() as connection:
            entries = ledger.tail(connection, workspace, standing.position, most)
            read = prefetching_reader(connection, workspace, standing, entries)
            stopped = replay_entries(standing, entries, read, through_switches=through_switches)
        if stopped is not None or not entries:
            break
    return standing


def _last_switch(switches: Sequence[Entry], workspace: str) -> Entry:
    if not switches:
        raise NoModelError(f"workspace {workspace!r} has no switch in its ledger")
    return switches[-1]


def _load(connection: Connection, workspace: str, began: Entry, until: int) -> ModelState:
    """The nearest checkpoint of the line; a damaged one is passed over for the one before it."""
    numbers = [
        row.number for row in version_rows.of_line(connection, workspace, began.position, until)
    ]
    for number in [*numbers, began.body["version"]]:
        data = version_rows.state(connection, workspace, number)
        try:
            if data is None:
                raise checkpoint.CheckpointError("it is not in the database")
            standing = checkpoint.load(data)
        except checkpoint.CheckpointError as error:
            _log.error(
                "checkpoint_passed_over", workspace=workspace, version=number, why=str(error)
            )
            continue
        standing.version = began.body["version"]
        standing.switch = began.position
        standing.learn_from = began.body["learn_from"]
        standing.without = Exclusions.of(began.body.get("without"))
        policy = ledger.newest_policy(connection, workspace, standing.position)
        standing.policy = Policy.model_validate(policy)
        return standing
    raise NoModelError(f"no version of the line at switch {began.position} can be loaded")
