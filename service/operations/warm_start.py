"""Warm start: a workspace learns from conversations that it never scored, another system's history.

The whole file is checked before anything is written. Then conversations are written some at a time,
each whole or not at all: its messages, its outcome (`source` is `history`), and the ledger entry
that teaches it. Existing ones are skipped, so that a warm start that was killed is finished by
another one. Such conversations were not Baton's to decide: no rate counts them, no audit draws
them, and nobody continues them.
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

CONVERSATIONS_AT_ONCE = 50
"""Conversations written in one transaction: live scores wait no longer than for these."""

PER_SECOND = 500.0
"""Outcomes written per second, a rate at which serving processes learn them and stay ready."""

ERRORS_MAX = 20
NAME_CHARS_MAX, VALUE_CHARS_MAX = 200, 500
SOURCE = "history"

_HISTORY_FIELDS = {
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
class WarmStartResult:
    """Counts of a warm start. `there` existed already, `untold` had no outcome to learn."""

    outcomes: int = 0
    lessons: int = 0
    there: int = 0
    untold: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class HistoryFile:
    """A recorded history: a path, and its format and target where they cannot be recognised."""

    path: Path
    format: str | None = None
    target: str | None = None

    def lines(self) -> Iterator[tuple[int, Episode | str]]:
        return streams.check_lines(self.path, self.format, self.target)

    def episodes(self) -> Iterator[tuple[int, Episode]]:
        return ((number, line) for number, line in self.lines() if isinstance(line, Episode))


def check(store: Store, workspace: str, file: HistoryFile, progress: Progress) -> None:
    """Validate every line before any is written. BadHistory, StreamError."""
    problems: list[str] = []
    waiting: list[tuple[int, Episode]] = []
    done = 0
    for number, line in file.lines():
        done += 1
        problem = line if isinstance(line, str) else _limit_violation(line)
        if problem is not None:
            problems.append(problem if isinstance(line, str) else f"line {number}: {problem}")
        elif isinstance(line, Episode):
            waiting.append((number, line))
        if len(waiting) == CONVERSATIONS_AT_ONCE:
            problems += _conflicts(store, workspace, waiting)
            waiting = []
            progress(done)
        if len(problems) >= ERRORS_MAX:
            break
    problems += _conflicts(store, workspace, waiting)
    progress(done)
    if problems:
        more = "\n  ..." if len(problems) >= ERRORS_MAX else ""
        listed = "\n  ".join(problems[:ERRORS_MAX])
        raise BadHistory(f"{file.path}: nothing was written, because of\n  {listed}{more}")


def warm_start(
    store: Store,
    workspace: str,
    file: HistoryFile,
    *,
    actor: str,
    progress: Progress = lambda _: None,
    per_second: float = PER_SECOND,
) -> WarmStartResult:
    """Write what `check` has found good; idempotent and safe to be killed in.

    Rate-limited to `per_second` outcomes a second (0: no limit). Contradiction where a conversation
    has come into being meanwhile.
    """
    result, started_at = WarmStartResult(), time.monotonic()
    source, done = file.episodes(), 0
    while piece := list(islice(source, CONVERSATIONS_AT_ONCE)):
        with store.write() as connection:
            _write(connection, workspace, file.path.name, piece, actor, result)
        done += len(piece)
        progress(done)
        if per_second:
            time.sleep(max(0.0, started_at + result.outcomes / per_second - time.monotonic()))
    with store.read() as connection:
        row = entries.workspace(connection, workspace)
    result.position = 0 if row is None else row.head
    return result


def _write(
    connection: Connection,
    workspace: str,
    name: str,
    piece: Sequence[tuple[int, Episode]],
    actor: str,
    result: WarmStartResult,
) -> None:
    labelled_episodes = [(number, episode) for number, episode in piece if episode.labels]
    result.untold += len(piece) - len(labelled_episodes)
    head = entries.lock_head(connection, workspace)
    is_same = _is_same_conversation(
        connection, workspace, [episode for _, episode in labelled_episodes]
    )
    if conflicts := [name for name, same in is_same.items() if not same]:
        raise Contradiction(
            "conversation_there",
            f"conversation {conflicts[0]!r} is there with other content",
            hint="run the same command again: it says which lines to mend",
        )
    fresh = [
        (number, episode) for number, episode in labelled_episodes if episode.id not in is_same
    ]
    result.there += len(labelled_episodes) - len(fresh)
    if not fresh:
        return
    now, bodies, rows = time.time(), [], []
    for position, (number, episode) in enumerate(fresh, head + 1):
        body = labelled_page(episode, position)[0].body
        bodies.append({**body, **_HISTORY_FIELDS, "outcome_id": new_id("o")})
        row = _outcome_row(workspace, episode, bodies[-1]["outcome_id"], position, now)
        rows.append(row | {"note": f"{name}, line {number}"})
    outcome_rows.add_all(connection, rows)
    conversation_rows.add(
        connection, [_conversation_row(workspace, episode, now) for _, episode in fresh]
    )
    conversation_rows.write_batch(
        connection, [], _message_rows(workspace, [episode for _, episode in fresh]), []
    )
    entries.append_all(connection, workspace, "outcome", bodies, actor)
    result.outcomes += len(fresh)
    result.lessons += sum(len(episode.labels) for _, episode in fresh)


def _is_same_conversation(
    connection: Connection, workspace: str, episodes: Sequence[Episode]
) -> dict[str, bool]:
    """Of the episodes whose id exists: whether the stored conversation is this very one.

    One whose text has been removed since is still the same.
    """
    statuses = conversation_rows.statuses(
        connection, workspace, [episode.id for episode in episodes]
    )
    fingerprints = outcome_rows.fingerprints(connection, workspace, list(statuses), SOURCE)
    return {
        episode.id: episode.id in fingerprints
        and (statuses[episode.id] != HISTORY or fingerprints[episode.id] == _fingerprint(episode))
        for episode in episodes
        if episode.id in statuses
    }


def _conflicts(store: Store, workspace: str, waiting: Sequence[tuple[int, Episode]]) -> list[str]:
    with store.read() as connection:
        is_same = _is_same_conversation(
            connection, workspace, [episode for _, episode in waiting if episode.labels]
        )
    return [
        f"line {number}: field conversation_id: {episode.id!r} is there with other content; "
        "give the conversation another id, or warm-start another workspace"
        for number, episode in waiting
        if not is_same.get(episode.id, True)
    ]


def _limit_violation(episode: Episode) -> str | None:
    """The first field that exceeds a limit of the API, with the fix; None if none does."""
    if len(episode.messages) > TURNS_MAX:
        return f"field messages has {len(episode.messages)} turns; cut it to {TURNS_MAX}"
    for index, message in enumerate(episode.messages):
        where = f"field messages[{index}]"
        if len(message.text) > TEXT_CHARS_MAX:
            return f"{where}.text has {len(message.text)} characters; cut it to {TEXT_CHARS_MAX}"
        if not 0 < len(message.id) <= NAME_CHARS_MAX:
            return f"{where}.id has {len(message.id)} characters; use 1 to {NAME_CHARS_MAX}"
        if len(message.attributes) > ATTRIBUTES_MAX:
            return f"{where}.attributes has more than {ATTRIBUTES_MAX}; keep the most telling"
        attributes: tuple[tuple[str, object], ...] = message.attributes
        for name, value in attributes:
            if not isinstance(value, (str, bool, int, float)):
                return f"{where}.attributes.{name} is neither text, number nor truth; make it one"
            if len(str(value)) > VALUE_CHARS_MAX:
                return f"{where}.attributes.{name} is longer than {VALUE_CHARS_MAX}; cut it"
        if "\0" in f"{message.id}{message.text}{message.language}{message.bot}" or any(
            "\0" in f"{name}{value}" for name, value in message.attributes
        ):
            return f"{where} holds the character U+0000; take it out"
    return None


def _fingerprint(episode: Episode) -> str:
    return (
        "history "
        + hashlib.sha256(episode_line(episode).encode("utf-8", "replace")).hexdigest()[:32]
    )


def _outcome_row(
    workspace: str, episode: Episode, name: str, position: int, now: float
) -> dict[str, Any]:
    return {
        "id": name,
        "workspace": workspace,
        "conversation_id": episode.id,
        "handoff_id": None,
        "verdict": "labels",
        "first_needed_message_id": None,
        "source": SOURCE,
        "agent": SOURCE,
        "team": None,
        "reason": None,
        "fingerprint": _fingerprint(episode),
        "position": position,
        "at": now,
        "retracted_at": None,
        "asked": None,
    }


def _conversation_row(workspace: str, episode: Episode, now: float) -> dict[str, Any]:
    """The conversation's row; its retention begins now, however old it is."""
    return {
        "workspace": workspace,
        "id": episode.id,
        "length": len(episode.messages),
        "begins": 1,
        "status": HISTORY,
        "resolution": None,
        "handoff_id": None,
        "escalated": False,
        "opened_at": min((message.at for message in episode.messages), default=now),
        "last_at": now,
        "closed_at": now,
        "language": None,
        "version": None,
        "team": None,
        "fired": None,
        "offer_id": None,
        "spoken": None,
        "holdout": None,
        "held_out": False,
        "tossed": False,
    }


def _message_rows(workspace: str, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    rows = []
    for episode in episodes:
        scored = set(episode.scored)
        rows += [
            conversation_rows.message_row(workspace, episode.id, seq, message, seq - 1 in scored)
            for seq, message in enumerate(episode.messages, 1)
        ]
    return rows
