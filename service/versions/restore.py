"""State restoration by checkpoint and replay: load a version's checkpoint, then learn the ledger's
tail. Every process comes to its model this way (event sourcing with snapshots).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from learning.decision.policy import Policy
from learning.ledger import checkpoint
from learning.ledger.model_state import (
    Entry,
    Exclusions,
    ModelState,
    TextRemovedError,
    Transcript,
    Turn,
    UnknownEntryError,
    replay_entries,
)
from learning.models.recipes import DEFAULT
from service.store.conversations import conversation_rows, transcripts
from service.store.database.transactions import DatabaseError, Store
from service.store.ledger import entries as ledger
from service.store.ledger import version_rows
from service.versions.switch_history import UNDO, undone_positions

ENTRIES_AT_ONCE = 500
"""Ledger entries read in one transaction while a model state is replayed."""

TURNS_AT_ONCE = 4000
"""Turns held in memory while the outcomes of their conversations are learned."""

PROVISIONAL_OUTCOMES = 2000
"""Newest outcomes that a provisional model is trained on when a build meets another's recipe."""

_log = structlog.get_logger("baton.standing")


class NoWorkspaceError(LookupError):
    """There is no workspace of this name."""


class BrokenEntryError(RuntimeError):
    """An entry of a workspace's ledger cannot be learned; only that workspace stands still."""

    def __init__(self, position: int, kind: str, why: Exception) -> None:
        super().__init__(
            f"entry {position} of the ledger, {kind}, cannot be followed "
            f"({type(why).__name__}: {why})"
        )
        self.position, self.kind = position, kind
        self.is_of_newer_build = isinstance(why, UnknownEntryError)


class NoModelError(RuntimeError):
    """No checkpoint of the serving line can be loaded; `baton doctor` says what is wrong."""


def transcript_reader(connection: Connection, workspace: str) -> Transcript:
    """Function that reads one transcript from the database, for `replay_entries`."""

    def read(conversation: str, until: int) -> Sequence[Turn]:
        turns = conversation_rows.transcript(connection, workspace, conversation, until)
        return _require_complete(workspace, conversation, turns, until)

    return read


def prefetching_reader(
    connection: Connection, workspace: str, model_state: ModelState, entries: Sequence[Entry]
) -> Transcript:
    """Transcript reader with prefetch, for a batch of entries that a model state is about to
    replay: the conversations of the outcomes it learns are read many at a time, in their order.
    """
    ahead = [
        (entry.body["conversation_id"], entry.body["covers"])
        for entry in reversed(entries)
        if model_state.learns(entry)
    ]
    transcripts_read: dict[str, list[Turn]] = {}

    def read(conversation: str, until: int) -> Sequence[Turn]:
        nonlocal transcripts_read
        if conversation not in transcripts_read or len(transcripts_read[conversation]) < until:
            lengths, turns = {conversation: until}, 0
            while ahead and turns < TURNS_AT_ONCE:
                name, covers = ahead.pop()
                lengths[name] = max(covers, lengths.get(name, 0))
                turns += covers
            transcripts_read = transcripts.transcripts(connection, workspace, lengths)
        return _require_complete(
            workspace, conversation, transcripts_read[conversation][:until], until
        )

    return read


def _require_complete(
    workspace: str, conversation: str, turns: Sequence[Turn], until: int
) -> Sequence[Turn]:
    if len(turns) < until:
        raise TextRemovedError(
            f"the text of conversation {conversation!r} of {workspace!r} was removed; "
            "only versions made after it was learned can be stood at"
        )
    return turns


def restore(
    store: Store, workspace: str, *, until: int | None = None, switch: Entry | None = None
) -> ModelState:
    """The serving model's state at the head, or as it was at the position `until`.

    With `switch`, the line that this switch began, which goes on through later switches: a shadow
    model. It excludes what was erased or undone before it learned it, because only the serving line
    is saved past an erasure. LookupError, NoModelError, TextRemovedError.
    """
    with store.read() as connection:
        row = ledger.workspace(connection, workspace)
        if row is None:
            raise NoWorkspaceError(f"there is no workspace {workspace!r}")
        until = row.head if until is None else until
        line_switch = switch or _last_switch(
            ledger.switches(connection, workspace, until), workspace
        )
        model_state = _load(connection, workspace, line_switch, until, serving=switch is None)
        if switch is not None:
            undone = undone_positions(ledger.switches(connection, workspace, until))
            left_out = frozenset(
                p
                for p in ledger.erased_positions(connection, workspace) | undone
                if p > model_state.position
            )
            positions = model_state.without.positions | left_out
            model_state.without = replace(model_state.without, positions=positions)
    if model_state.provisional:
        advance_where_text_is(store, workspace, model_state, until)
    return advance(store, workspace, model_state, until, through_switches=switch is not None)


def advance(
    store: Store,
    workspace: str,
    model_state: ModelState,
    until: int,
    *,
    through_switches: bool = False,
) -> ModelState:
    """Replay the ledger into a model state up to a position, ENTRIES_AT_ONCE in a transaction.

    Stops at a switch unless `through_switches`. TextRemovedError.
    """
    while model_state.position < until:
        most = min(ENTRIES_AT_ONCE, until - model_state.position)
        with store.read() as connection:
            entries = ledger.tail(connection, workspace, model_state.position, most)
            read = prefetching_reader(connection, workspace, model_state, entries)
            try:
                stopped = replay_entries(
                    model_state, entries, read, through_switches=through_switches
                )
            except (DatabaseError, TextRemovedError):
                raise
            except Exception as error:
                position = model_state.position + 1
                kinds = {entry.position: entry.kind for entry in entries}
                kind = kinds.get(position, "which is missing")
                raise BrokenEntryError(position, kind, error) from error
        if stopped is not None or not entries:
            break
    return model_state


def advance_where_text_is(
    store: Store, workspace: str, model_state: ModelState, until: int
) -> ModelState:
    """Replay the ledger through switches, leaving out outcomes whose text was removed since."""
    while model_state.position < until:
        try:
            advance(store, workspace, model_state, until, through_switches=True)
        except TextRemovedError:
            without = model_state.without
            removed = without.positions | {model_state.position + 1}
            model_state.without = replace(without, positions=removed)
    return model_state


def _last_switch(switches: Sequence[Entry], workspace: str) -> Entry:
    if not switches:
        raise NoModelError(f"workspace {workspace!r} has no switch in its ledger")
    return switches[-1]


def _load(
    connection: Connection, workspace: str, line_switch: Entry, until: int, *, serving: bool
) -> ModelState:
    """The newest loadable checkpoint of a line; a damaged one is skipped and logged.

    Where the `serving` line's recipe is another build's, a provisional state of this one's.
    """
    unknown = False
    for number in _checkpoints(connection, workspace, line_switch, until):
        data = version_rows.state(connection, workspace, number)
        try:
            if data is None:
                raise checkpoint.CheckpointError("it is not in the database")
            model_state = checkpoint.load(data)
        except checkpoint.CheckpointError as error:
            if isinstance(error, checkpoint.UnknownRecipeError):
                unknown = True
                continue
            _log.error(
                "checkpoint_passed_over", workspace=workspace, version=number, why=str(error)
            )
            continue
        model_state.learn_from = line_switch.body["learn_from"]
        return _of_line(connection, workspace, model_state, line_switch)
    if unknown and serving:
        oldest = ledger.nth_newest_outcome(connection, workspace, until, PROVISIONAL_OUTCOMES)
        model_state = ModelState(recipe=DEFAULT, position=max(0, oldest - 1), provisional=True)
        _log.warning("provisional", workspace=workspace, recipe=DEFAULT, after=model_state.position)
        return _of_line(connection, workspace, model_state, line_switch)
    raise NoModelError(f"no version of the line at switch {line_switch.position} can be loaded")


def _checkpoints(
    connection: Connection, workspace: str, line_switch: Entry, until: int
) -> list[int]:
    """The versions that a line can be stood at, the newest first: an undo's line goes back to the
    one that it undid something of.
    """
    rows = version_rows.of_line(connection, workspace, line_switch.position, until)
    numbers = [*(row.number for row in rows), line_switch.body["version"]]
    before = line_switch.body["evidence"].get("line") if line_switch.body["kind"] == UNDO else None
    undone_of = None if before is None else ledger.entry(connection, workspace, before)
    if undone_of is not None:
        first = min(line_switch.body["evidence"]["undone"])
        numbers += _checkpoints(connection, workspace, undone_of, min(until, first - 1))
    return list(dict.fromkeys(numbers))


def _of_line(
    connection: Connection, workspace: str, model_state: ModelState, line_switch: Entry
) -> ModelState:
    """A model state as one of the line that a switch began, with the policy of its position."""
    model_state.version = line_switch.body["version"]
    model_state.switch = line_switch.position
    model_state.without = Exclusions.of(line_switch.body.get("without"))
    policy = ledger.newest_policy(connection, workspace, model_state.position)
    model_state.policy = Policy.from_ledger(policy)
    return model_state
