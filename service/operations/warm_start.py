"""A workspace learns from conversations that it never scored: the history of another system.

The whole file is looked at before anything is written. Then conversations are written some at a
time, each whole or not at all: its messages, what was found out (`source` is `history`), and the
ledger entry that teaches it. What is there already is passed over, so that a warm start that was
killed is finished by another one. Such conversations were not Baton's to decide: no rate counts
them, no audit draws them, and nobody goes on with them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from experiments.datasets import streams
from experiments.datasets.ledger_export import labelled_page
from experiments.datasets.streams import Episode, episode_line
from service.runtime.errors import Contradiction
from service.runtime.ids import new_id
from service.store.conversations import conversation_rows
from service.store.conversations.batch import TURNS_MAX
from service.store.conversations.conversation_rows import HISTORY
from service.store.database.transactions import Store
from service.store.labels import outcome_rows
from service.store.ledger import entries
from service.web.schemas import ATTRIBUTES_MAX, TEXT_CHARS_MAX

AT_ONCE = 50
"""Conversations written in one transaction: live scores wait no longer than for these."""

PER_SECOND = 500.0
"""Outcomes a second, which every serving process learns meanwhile and stays ready."""

COMPLAINTS_MAX = 20
NAME_CHARS_MAX, VALUE_CHARS_MAX = 200, 500
SOURCE = "history"

_ITS_OWN = {
    "handoff_id": None,
    "escalated": None,
    "since": None,
    "source": SOURCE,
    "agent": SOURCE,
}

Progress = Callable[[int], None]
"""Called with the conversations done so far."""


class BadHistory(ValueError):
    """A file cannot be learned from; the message names each bad line, its field and the fix."""


@dataclass(slots=True)
class Warmed:
    """What a warm start did. `there` were there already, `untold` had no outcome to learn."""

    outcomes: int = 0
    lessons: int = 0
    there: int = 0
    untold: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """A recorded history: a path, and how to read it where that is not plain."""

    path: Path
    format: str | None = None
    target: str | None = None

    def lines(self) -> Iterator[tuple[int, Episode | str]]:
        return streams.check_lines(self.path, self.format, self.target)

    def episodes(self) -> Iterator[tuple[int, Episode]]:
        return ((number, one) for number, one in self.lines() if isinstance(one, Episode))


def check(store: Store, workspace: str, file: File, progress: Progress) -> None:
    """Look at every line before any is written. Raises BadHistory, StreamError."""
    complaints: list[str] = []
    waiting: list[tuple[int, Episode]] = []
    done = 0
    for number, one in file.lines():
        done += 1
        said = one if isinstance(one, str) else _beyond(one)
        if said is not None:
            complaints.append(said if isinstance(one, str) else f"line {number}: {said}")
        elif isinstance(one, Episode):
            waiting.append((number, one))
        if len(waiting) == AT_ONCE:
            complaints += _taken(store, workspace, waiting)
            waiting = []
            progress(done)
        if len(complaints) >= COMPLAINTS_MAX:
            break
    complaints += _taken(store, workspace, waiting)
    progress(done)
    if complaints:
        more = "\n  ..." if len(complaints) >= COMPLAINTS_MAX else ""
        listed = "\n  ".join(complaints[:COMPLAINTS_MAX])
        raise BadHistory(f"{file.path}: nothing was written, because of\n  {listed}{more}")


def warm_start(
    store: Store,
    workspace: str,
    file: File,
    *,
    actor: str,
    progress: Progress = lambda _: None,
    per_second: float = PER_SECOND,
) -> Warmed:
    """Write what `check` has found good; safe to be killed in, and to be done again.

    No more than `per_second` outcomes are written a second (0: as many as can be). Raises
    Contradiction where a conversation has come into being meanwhile.
    """
    found, began = Warmed(), time.monotonic()
    source, done = file.episodes(), 0
    while piece := list(islice(source, AT_ONCE)):
        with store.write() as connection:
            _write(connection, workspace, file.path.name, piece, actor, found)
        done += len(piece)
        progress(done)
        if per_second:
            time.sleep(max(0.0, began + found.outcomes / per_second - time.monotonic()))
    with store.read() as connection:
        row = entries.workspace(connection, workspace)
    found.position = 0 if row is None else row.head
    return found


def _write(
    connection: Connection,
    workspace: str,
    name: str,
    piece: Sequence[tuple[int, Episode]],
    actor: str,
    found: Warmed,
) -> None:
    told = [(number, one) for number, one in piece if one.labels]
    found.untold += len(piece) - len(told)
    head = entries.lock_head(connection, workspace)
    known = _known(connection, workspace, [one for _, one in told])
    if taken := [name for name, same in known.items() if not same]:
        raise Contradiction(
            "conversation_there",
            f"conversation {taken[0]!r} is there with other content",
            hint="run the same command again: it says which lines to mend",
        )
    fresh = [(number, one) for number, one in told if one.id not in known]
    found.there += len(told) - len(fresh)
    if not fresh:
        return
    now, bodies, rows = time.time(), [], []
    for position, (number, one) in enumerate(fresh, head + 1):
        body = labelled_page(one, position)[0].body
        bodies.append({**body, **_ITS_OWN, "outcome_id": new_id("o")})
        row = _outcome(workspace, one, bodies[-1]["outcome_id"], position, now)
        rows.append(row | {"note": f"{name}, line {number}"})
    outcome_rows.add_all(connection, rows)
    conversation_rows.add(connection, [_conversation(workspace, one, now) for _, one in fresh])
    conversation_rows.write(connection, [], _messages(workspace, [one for _, one in fresh]), [])
    entries.append_all(connection, workspace, "outcome", bodies, actor)
    found.outcomes += len(fresh)
    found.lessons += sum(len(one.labels) for _, one in fresh)


def _known(connection: Connection, workspace: str, told: Sequence[Episode]) -> dict[str, bool]:
    """Of those conversations that are there: whether each is this very one.

    One whose text has been removed since is still the same.
    """
    there = conversation_rows.standing(connection, workspace, [one.id for one in told])
    prints = outcome_rows.fingerprints(connection, workspace, list(there), SOURCE)
    return {
        one.id: one.id in prints and (there[one.id] != HISTORY or prints[one.id] == _print(one))
        for one in told
        if one.id in there
    }


def _taken(store: Store, workspace: str, waiting: Sequence[tuple[int, Episode]]) -> list[str]:
    with store.read() as connection:
        known = _known(connection, workspace, [one for _, one in waiting if one.labels])
    return [
        f"line {number}: field conversation_id: {one.id!r} is there with other content; "
        "give the conversation another id, or warm-start another workspace"
        for number, one in waiting
        if not known.get(one.id, True)
    ]


def _beyond(one: Episode) -> str | None:
    """What of a conversation the service would have refused, by field; None if nothing."""
    if len(one.messages) > TURNS_MAX:
        return f"field messages has {len(one.messages)} turns; cut it to {TURNS_MAX}"
    for place, message in enumerate(one.messages):
        where = f"field messages[{place}]"
        if len(message.text) > TEXT_CHARS_MAX:
            return f"{where}.text has {len(message.text)} characters; cut it to {TEXT_CHARS_MAX}"
        if not 0 < len(message.id) <= NAME_CHARS_MAX:
            return f"{where}.id has {len(message.id)} characters; use 1 to {NAME_CHARS_MAX}"
        if len(message.attributes) > ATTRIBUTES_MAX:
            return f"{where}.attributes has more than {ATTRIBUTES_MAX}; keep the most telling"
        given: tuple[tuple[str, object], ...] = message.attributes
        for name, value in given:
            if not isinstance(value, (str, bool, int, float)):
                return f"{where}.attributes.{name} is neither text, number nor truth; make it one"
            if len(str(value)) > VALUE_CHARS_MAX:
                return f"{where}.attributes.{name} is longer than {VALUE_CHARS_MAX}; cut it"
        if "\0" in f"{message.id}{message.text}{message.language}{message.bot}" or any(
            "\0" in f"{name}{value}" for name, value in message.attributes
        ):
            return f"{where} holds the character U+0000; take it out"
    return None


def _print(one: Episode) -> str:
    return (
        "history " + hashlib.sha256(episode_line(one).encode("utf-8", "replace")).hexdigest()[:32]
    )


def _outcome(workspace: str, one: Episode, name: str, position: int, now: float) -> dict[str, Any]:
    return {
        "id": name,
        "workspace": workspace,
        "conversation_id": one.id,
        "handoff_id": None,
        "verdict": "labels",
        "first_needed_message_id": None,
        "source": SOURCE,
        "agent": SOURCE,
        "team": None,
        "reason": None,
        "fingerprint": _print(one),
        "position": position,
        "at": now,
        "retracted_at": None,
    }


def _conversation(workspace: str, one: Episode, now: float) -> dict[str, Any]:
    """Its time of keeping begins now, however old it is."""
    return {
        "workspace": workspace,
        "id": one.id,
        "length": len(one.messages),
        "begins": 1,
        "status": HISTORY,
        "resolution": None,
        "handoff_id": None,
        "escalated": False,
        "opened_at": min((message.at for message in one.messages), default=now),
        "last_at": now,
        "closed_at": now,
        "language": None,
        "version": None,
        "team": None,
        "fired": None,
        "tossed": False,
    }


def _messages(workspace: str, told: Sequence[Episode]) -> list[dict[str, Any]]:
    rows = []
    for one in told:
        scored = set(one.scored)
        rows += [
            conversation_rows.message_row(workspace, one.id, seq, message, seq - 1 in scored)
            for seq, message in enumerate(one.messages, 1)
        ]
    return rows
