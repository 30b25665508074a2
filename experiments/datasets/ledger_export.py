"""Ledger export: every entry with the turns that it covers, as compressed JSON Lines.

One compressed JSON line for each entry, so that a reader holds one outcome at a time, whatever the
length of the ledger, and needs no database. Learning from it is learning from the ledger itself,
to the bit. It holds customers' text: who writes one removes it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.datasets.episode import Episode
from learning.conversation.state import BotReport, Message
from learning.decision.policy import Policy
from learning.ledger.model_state import Entry, Exclusions, Turn

Page = tuple[Entry, Sequence[Turn]]
"""An entry, and the turns that its outcome covers; none where nothing is learned from it."""

_REPORT = ("intent", "confidence", "fallback", "tool_error", "attempt")


@dataclass(frozen=True, slots=True)
class History:
    """Summary of an export: digest, last position, and bounds on its lessons.

    `scored` counts the scored turns of all outcomes: no line has more lessons of them.
    """

    digest: str
    position: int
    outcomes: int
    scored: int
    without: dict[str, Any]

    def body(self) -> dict[str, Any]:
        """As plain JSON; `History(**body)` reads it back."""
        return asdict(self)


def write(path: Path, pages: Iterable[Page], without: Exclusions) -> History:
    """Write a history; where this breaks off, there is no file."""
    digest, fresh = hashlib.sha256(_line(without.body())), path.with_suffix(".part")
    position = outcomes = scored = 0
    fresh.touch(mode=0o600)
    with gzip.open(fresh, "wb", compresslevel=1) as out:
        for entry, turns in pages:
            position = entry.position
            outcomes += bool(turns)
            scored += sum(turn.scored for turn in turns)
            line = _line([asdict(entry), [_turn_json(turn) for turn in turns]])
            digest.update(line)
            out.write(line)
    fresh.replace(path)
    return History(digest.hexdigest(), position, outcomes, scored, without.body())


def read(source: Path | bytes) -> Iterator[Page]:
    """The pages of a history, one at a time; from its file or from the file's bytes."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with gzip.open(stream, "rb") as lines:
        for line in lines:
            entry, turns = json.loads(line)
            yield Entry(**entry), [_turn(*fields) for fields in turns]


def of_stream(stream: Iterable[Episode]) -> Iterator[Page]:
    """A recorded stream as the ledger of a new workspace that learns each conversation's labels
    when it has ended.
    """
    policy = Policy().model_dump(mode="json")
    yield Entry(1, "policy", policy, "replay", 0.0), ()
    yield Entry(2, "switch", {"version": 0, "learn_from": 0}, "replay", 0.0), ()
    position = 2
    for episode in stream:
        if episode.labels:
            position += 1
            yield labelled_page(episode, position)


def labelled_page(episode: Episode, position: int) -> Page:
    """The one outcome of a recorded conversation: the labels of its messages."""
    scored = set(episode.scored)
    turns = [Turn(message, place in scored) for place, message in enumerate(episode.messages)]
    body = {
        "outcome_id": episode.id,
        "conversation_id": episode.id,
        "verdict": "labels",
        "begins": 1,
        "covers": len(turns),
        "labels": [(place + 1, label, 1.0) for place, label in episode.labels],
        "source": "labels",
        "propensity": 1.0,
        "by_rule": False,
    }
    return Entry(position, "outcome", body, "replay", 0.0), turns


def _turn_json(turn: Turn) -> list[Any]:
    m = turn.message
    bot = None if m.bot is None else [getattr(m.bot, name) for name in _REPORT]
    return [
        turn.scored,
        m.id,
        m.author,
        m.text,
        m.at,
        m.language,
        bot,
        m.attributes,
        m.event,
        m.advice,
    ]


def _turn(
    scored: bool,
    name: str,
    author: str,
    text: str,
    at: float,
    language: str | None,
    bot: list[Any] | None,
    attributes: list[list[Any]],
    event: str | None,
    advice: Sequence[Sequence[Any]] = (),
) -> Turn:
    report = None if bot is None else BotReport(*bot)
    pairs = tuple((key, value) for key, value in attributes)
    advised = tuple((adviser, p) for adviser, p in advice)
    message = Message(name, author, text, at, language, report, pairs, event, advice=advised)
    return Turn(message, scored)


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
